"""Intervals from the draw of the samples: printed tables, closed forms, and what they promise tried out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from limbeck.evaluation.metrics import measure
from limbeck.evaluation.sampling import draws, intervals, paired, percentiles, wilson


@pytest.mark.parametrize(("right", "count"), [(0, 5), (8, 10), (10, 10), (191, 200), (9000, 10_000)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    theirs = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def said(size: int, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two classes, a share of them right."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(2, (size,), generator=generator)
    right = torch.rand(size, generator=generator) < share
    guess = torch.where(right, targets, 1 - targets)
    noise = torch.rand(size, 2, generator=generator)
    return torch.nn.functional.one_hot(guess, 2) * 1.0 + noise, targets


def test_every_draw_holds_as_many_and_they_do_not_change() -> None:
    whole = torch.cat(list(draws(50, resamples=200)))
    assert whole.shape == (200, 50)
    assert set(whole.sum(dim=1).tolist()) == {50.0}
    assert torch.equal(whole, torch.cat(list(draws(50, resamples=200))))
    assert float(whole.mean()) == 1.0
    assert float(whole.var()) == pytest.approx(1.0, abs=0.05)  # a sample's count is nearly Poisson


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = said(40, 0.8)
    before = intervals(logits, targets, ["balanced_accuracy"])
    monkeypatch.setattr("limbeck.evaluation.sampling._BLOCK", 320)
    assert len(list(draws(40))) == 125
    assert intervals(logits, targets, ["balanced_accuracy"]) == before


def test_the_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    logits, targets = said(400, 0.7)
    each = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    half = 1.96 * float(each.std()) / math.sqrt(400)
    found = intervals(logits, targets, ["loss"])["loss"]
    assert found["method"] == "bootstrap"
    assert found["low"] == pytest.approx(float(each.mean()) - half, abs=0.1 * half)
    assert found["high"] == pytest.approx(float(each.mean()) + half, abs=0.1 * half)


def test_the_auc_interval_is_near_hanley_and_mcneils() -> None:
    generator = torch.Generator().manual_seed(3)
    targets = torch.arange(300) % 3 == 0
    logits = torch.stack([torch.zeros(300), torch.randn(300, generator=generator) + 1.2 * targets], 1)
    area = float(measure("auc", logits, targets.long(), positive=1))
    n, m = 100, 200
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m))
    found = intervals(logits, targets.long(), ["auc"], positive=1)["auc"]
    assert (found["high"] - found["low"]) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert found["low"] < area < found["high"]


def test_shares_get_wilsons_and_the_unlabeled_do_not_count() -> None:
    logits, targets = said(60, 0.8)
    targets[50:] = -1
    found = intervals(logits, targets, ["accuracy", "sensitivity", "specificity"], positive=1)
    guess, truth = logits[:50].argmax(1), targets[:50]
    for name, chosen in (("accuracy", truth >= 0), ("sensitivity", truth == 1), ("specificity", truth == 0)):
        right, count = int((guess == truth)[chosen].sum()), int(chosen.sum())
        assert (found[name]["low"], found[name]["high"]) == wilson(right, count), name
        assert found[name]["method"] == "wilson"


def test_groups_are_drawn_whole() -> None:
    logits, targets = said(100, 0.8)
    repeated = logits.repeat_interleave(10, 0), targets.repeat_interleave(10)
    groups = [str(at // 10) for at in range(1000)]
    alone = intervals(*repeated, ["accuracy"])["accuracy"]
    found = intervals(*repeated, ["accuracy"], groups=groups)["accuracy"]
    assert found["method"] == "bootstrap of groups"
    low, high = wilson(int((logits.argmax(1) == targets).sum()), 100)
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.15)  # a thousand rows, a hundred facts
    assert found["high"] - found["low"] > 2.5 * (alone["high"] - alone["low"])


def test_a_perfect_score_shows_no_bootstrap() -> None:
    targets = torch.arange(20) % 2
    logits = torch.nn.functional.one_hot(targets, 2) * 5.0
    found = intervals(logits, targets, ["accuracy", "balanced_accuracy", "auc"])
    assert set(found) == {"accuracy"}  # no resample differs: nothing is known of the uncertainty
    assert found["accuracy"]["low"] == pytest.approx(wilson(20, 20)[0])
    assert "sensitivity" not in intervals(logits, torch.zeros(20, dtype=torch.int64), ["sensitivity"], positive=1)
    assert percentiles(torch.tensor([math.nan, math.nan, 1.0])) is None
    assert intervals(logits, torch.full((20,), -1), ["auc", "accuracy"]) == {}


def test_a_pair_by_hand() -> None:
    first, targets = said(500, 0.9)
    second, _ = said(500, 0.9, seed=0)
    flipped = torch.arange(500) < 25  # the second is wrong where the first is right, 25 times
    right = (first.argmax(1) == targets) & flipped
    second[right] = second[right].flip(1)
    found = paired(first, second, targets, "accuracy")
    assert found is not None
    share = int(right.sum()) / 500
    assert found["mean"] == pytest.approx(share)
    half = 1.96 * math.sqrt(share * (1 - share) / 500)  # the difference is 1 for these and 0 for all others
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.15)
    assert found["low"] > 0
    alone = intervals(first, targets, ["accuracy"])["accuracy"]
    assert found["high"] - found["low"] < alone["high"] - alone["low"]
    assert (found["samples"], found["groups"]) == (500, None)
    assert paired(first, first, targets, "accuracy", groups=["a"] * 250 + ["b"] * 250) == {
        "mean": 0.0, "low": None, "high": None, "samples": 500, "groups": 2,
    }  # fmt: skip
    assert paired(first, second, torch.zeros(500, dtype=torch.int64), "auc") is None


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(120):
        logits, targets = said(120, 0.8, seed=seed)
        found = intervals(logits, targets, ["balanced_accuracy"])["balanced_accuracy"]
        held.append(found["low"] <= 0.8 <= found["high"])
    assert 0.87 <= np.mean(held) <= 1.0
