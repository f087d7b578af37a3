"""Metrics, intervals, sizes and latency against numbers worked out by hand or by scikit-learn."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn

from limbeck.data import Split
from limbeck.errors import NumericsError
from limbeck.evaluation.latency import latency
from limbeck.evaluation.metrics import classification, quick
from limbeck.evaluation.predict import ask, predict
from limbeck.evaluation.sizes import bare, file_bytes, gzip_bytes, macs, parameters
from limbeck.evaluation.statistics import Interval, interval, paired_difference, points
from limbeck.teachers import Ensemble

CLASSES = ["a", "b", "c"]


def test_six_samples_by_hand() -> None:
    guesses = [0, 0, 1, 1, 2, 0]
    targets = torch.tensor([0, 0, 1, 2, 2, 2])
    logits = torch.nn.functional.one_hot(torch.tensor(guesses), 3).float() * 5
    found = classification(logits, targets, CLASSES)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["confusion"] == [[2, 0, 0], [0, 1, 0], [1, 1, 1]]
    recall, precision = [1.0, 1.0, 1 / 3], [2 / 3, 1 / 2, 1.0]
    assert [one["recall"] for one in found["per_class"]] == pytest.approx(recall)
    assert [one["precision"] for one in found["per_class"]] == pytest.approx(precision)
    f1 = [2 * r * p / (r + p) for r, p in zip(recall, precision, strict=True)]
    assert found["macro_f1"] == pytest.approx(sum(f1) / 3)
    assert found["majority_baseline"] == pytest.approx(3 / 6)
    right, wrong = np.log(1 + 2 * np.exp(-5)), np.log(1 + 2 * np.exp(-5)) + 5
    assert found["loss"] == pytest.approx((4 * right + 2 * wrong) / 6, abs=1e-6)


def test_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(500, 3, generator=generator), torch.randint(0, 3, (500,), generator=generator)
    found = classification(logits, targets, CLASSES)
    guess = logits.argmax(1).numpy()
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, guess))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, guess, average="macro"))
    assert found["confusion"] == sk.confusion_matrix(targets, guess).tolist()
    assert found["loss"] == pytest.approx(sk.log_loss(targets, torch.softmax(logits.double(), 1).numpy()))


@pytest.mark.parametrize(("confidence", "right"), [(0.8, 0.8), (0.8, 0.5), (0.99, 1.0)])
def test_calibration_error_of_one_bin_is_the_gap(confidence: float, right: float) -> None:
    logit = np.log(confidence / (1 - confidence))
    logits = torch.tensor([[logit, 0.0]]).repeat(100, 1)
    targets = torch.tensor([0] * round(100 * right) + [1] * round(100 * (1 - right)))
    assert classification(logits, targets, CLASSES[:2])["ece"] == pytest.approx(abs(confidence - right), abs=1e-6)


def test_samples_without_a_label_do_not_count_and_order_does_not_matter() -> None:
    torch.manual_seed(0)
    logits, targets, teacher = torch.randn(40, 3), torch.arange(40) % 3, torch.randn(40, 3)
    whole = classification(logits[:30], targets[:30], CLASSES, teacher[:30])
    partly = targets.clone()
    partly[30:] = -1
    order = torch.randperm(40)
    found = classification(logits[order], partly[order], CLASSES, teacher[order])
    for name in ("loss", "accuracy", "macro_f1", "ece", "agreement", "kl_to_teacher"):
        assert found[name] == pytest.approx(whole[name]), name
    assert found["samples"] == 30
    assert quick(logits[order], partly[order])["accuracy"] == pytest.approx(whole["accuracy"])
    json.dumps(found)


def test_agreement_and_distance_to_the_teacher_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[np.log(3.0), 0.0], [0.0, 9.0]])
    found = classification(student, torch.tensor([0, 0]), CLASSES[:2], teacher)
    assert found["agreement"] == 0.5
    first = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    p, q = 1 / (1 + np.exp(9.0)), 1 / (1 + np.exp(-1.0))
    second = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert found["kl_to_teacher"] == pytest.approx((first + second) / 2, rel=1e-5)


def test_the_interval_is_students() -> None:
    values = [0.91, 0.93, 0.92, 0.95, 0.94]
    found = interval(values)
    half = 2.776 * np.std(values, ddof=1) / np.sqrt(5)  # t(0.975, 4) from a printed table
    assert (found.mean, found.low, found.high) == pytest.approx((0.93, 0.93 - half, 0.93 + half), abs=1e-5)
    assert interval([0.5]) == Interval(0.5, None, None, 1)


def test_pairing_takes_what_seeds_share_out() -> None:
    control, student = [0.80, 0.90, 0.70], [0.82, 0.92, 0.72]
    found = paired_difference(student, control)
    assert found.mean == pytest.approx(0.02)
    assert found.low == pytest.approx(0.02, abs=1e-9)
    assert interval(student).low is not None
    assert interval(student).low < interval(control).mean  # unpaired, nothing would be seen
    assert found.side == 1
    assert paired_difference(control, student).side == -1
    assert paired_difference([1.0, 0.0], [0.0, 1.0]).side == 0
    assert "one seed" in points(interval([0.01]))
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


def test_macs_in_closed_form() -> None:
    assert macs(nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), (3, 8, 8)) == 4 * 4 * 8 * 3 * 9
    assert macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)), (3, 2, 2)) == 12 * 5 + 5 * 2
    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, shared)
    assert macs(twice, (4,)) == 2 * 16  # worked through twice,
    assert parameters(twice) == 20  # stored once


def test_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(bytes(5000) + b"limbeck" * 100)
    assert file_bytes(path) == 5700
    assert gzip_bytes(path) == len(gzip.compress(path.read_bytes(), 6, mtime=0))
    assert gzip.decompress(gzip.compress(path.read_bytes(), 6, mtime=0)) == path.read_bytes()


def test_bare_is_a_copy() -> None:
    module = nn.Conv2d(1, 1, 3).to(memory_format=torch.channels_last)
    copied = bare(module)
    assert not copied.training
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_latency_takes_turns_and_puts_threads_back() -> None:
    called: list[str] = []
    before = torch.get_num_threads()
    found = latency({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, warmup=2, repeats=3)
    assert called == ["a", "b"] * 5
    assert torch.get_num_threads() == before
    assert found["a"]["low_ms"] <= found["a"]["median_ms"] <= found["a"]["high_ms"]


def split(size: int = 20) -> Split:
    return Split(torch.rand(size, 1, 4, 4), torch.arange(size) % 3, CLASSES, "test")


def test_predictions_are_made_in_eval_mode_and_modes_are_put_back() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(0.9), nn.Linear(16, 3))
    module.train()
    module[1].eval()
    before = [part.training for part in module.modules()]
    first, targets = predict(module, None, split(), batch_size=7)
    second, _ = predict(module, None, split(20), batch_size=3)
    assert first.shape == (20, 3)
    assert targets.tolist() == (torch.arange(20) % 3).tolist()
    assert [part.training for part in module.modules()] == before
    assert int(module[1].num_batches_tracked) == 0
    whole = split()
    again, _ = predict(module, None, whole, batch_size=7)
    other, _ = predict(module, None, whole, batch_size=20)
    torch.testing.assert_close(again, other)
    assert not first.requires_grad
    assert second.dtype == torch.float32


def test_logits_that_are_not_finite_are_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), 3)
            logits[3] = float("nan")
            return logits

    module = Odd().train()
    with pytest.raises(NumericsError, match=r"'test', first \[3\]"):
        predict(module, None, split(8))
    assert module.training


def test_an_ensemble_is_asked_whole() -> None:
    members = [nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(2)]
    data = split()
    said = ask(Ensemble(members), data, batch_size=6)
    inputs, _ = data.fetch(torch.arange(20))
    with torch.no_grad():
        mean = sum(torch.softmax(member(inputs) / 2.0, 1) for member in members) / 2
    torch.testing.assert_close(torch.softmax(said.logits_at(2.0) / 2.0, 1), mean)
