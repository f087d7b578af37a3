"""Metrics of scores and of counts against scikit-learn, by hand, with ties, weights and missing classes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.evaluation import counts, scores
from limbeck.evaluation.calibration import calibration_error, reliability
from limbeck.evaluation.metrics import classification, curves, measure, quick
from limbeck.evaluation.names import METRICS, check_metric, check_positive, shown, sign, title

NAMES = ["a", "b", "c"]


def drawn(size: int, classes: int, seed: int = 0, digits: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits that know something of the labels; rounded, they hold ties."""
    generator = torch.Generator().manual_seed(seed)
    logits, targets = torch.randn(size, classes, generator=generator), torch.randint(classes, (size,))
    targets = torch.randint(classes, (size,), generator=generator)
    logits[torch.arange(size), targets] += 1
    return (logits if digits is None else (logits * digits).round() / digits), targets


@pytest.mark.parametrize("digits", [None, 2])
def test_two_classes_against_scikit_learn(digits: int | None) -> None:
    logits, targets = drawn(400, 2, digits=digits)
    odds, truth = (logits[:, 1] - logits[:, 0]).double().numpy(), targets.numpy()
    found = classification(logits, targets, NAMES[:2], positive=1)
    guess = logits.argmax(1).numpy()
    assert found["auc"] == pytest.approx(sk.roc_auc_score(truth, odds), abs=1e-12)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(truth, odds), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, guess), abs=1e-12)
    assert found["f1"] == pytest.approx(sk.f1_score(truth, guess), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(sk.recall_score(truth, guess), abs=1e-12)
    assert found["specificity"] == pytest.approx(sk.recall_score(truth, guess, pos_label=0), abs=1e-12)


@pytest.mark.parametrize("digits", [None, 2])
def test_many_classes_against_scikit_learn(digits: int | None) -> None:
    logits, targets = drawn(300, 3, digits=digits)
    shares = torch.softmax(logits.double(), 1).numpy()
    found = classification(logits, targets, NAMES)
    if digits is None:
        expected = sk.roc_auc_score(targets, shares, multi_class="ovr", average="macro")
        assert found["auc"] == pytest.approx(expected, abs=1e-12)
        once = np.eye(3)[targets.numpy()]
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(once, shares), abs=1e-12)
    guess = logits.argmax(1)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, guess), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, guess, average="macro"), abs=1e-12)
    assert found["auc"] == pytest.approx(np.mean([one["auc"] for one in found["per_class"]]))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision", "loss"):
        assert float(measure(name, logits, targets)) == pytest.approx(found[name], abs=1e-12), name


def test_the_order_stays_where_probabilities_are_one() -> None:
    logits = torch.tensor([[0.0, 60.0], [0.0, 70.0], [0.0, 80.0], [90.0, 0.0]])
    targets = torch.tensor([0, 1, 1, 0])
    assert len(set(torch.softmax(logits, 1)[:3, 1].tolist())) == 1
    assert float(measure("auc", logits, targets, positive=1)) == 1.0
    many = torch.randn(50, 4, dtype=torch.float64)
    shares = torch.softmax(many, 1)
    torch.testing.assert_close(scores.log_odds(many), shares.log() - (1 - shares).log())
    far = scores.log_odds(torch.tensor([[100.0, 0.0, 0.0]]))  # log p / (1 - p) = 100 - log 2; 1 / (e^100 + 1)
    assert far[0].tolist() == pytest.approx([100 - math.log(2), -100, -100])


def test_curves_against_scikit_learn() -> None:
    logits, targets = drawn(80, 2, digits=2)
    odds, truth = scores.log_odds(logits)[:, 1], targets == 1
    precision, recall = scores.pr_curve(odds, truth)
    theirs = sk.precision_recall_curve(truth, odds)
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1][: len(precision)], atol=1e-5)
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1][: len(recall)], atol=1e-5)
    fpr, tpr = scores.roc_curve(odds, truth)
    theirs = sk.roc_curve(truth, odds, drop_intermediate=False)
    np.testing.assert_allclose(fpr, theirs[0], atol=1e-5)
    np.testing.assert_allclose(tpr, theirs[1], atol=1e-5)


def test_a_thinned_curve_keeps_its_ends_its_order_and_its_area() -> None:
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(20_000, generator=generator) < 0.01).long()  # few positives
    logits = torch.stack([torch.zeros(20_000), torch.randn(20_000, generator=generator) + 3 * targets], 1)
    found = curves(logits, targets, NAMES[:2], positive=1)
    pr, roc = found["pr"]["b"], found["roc"]["b"]
    assert list(found["roc"]) == ["b"]
    assert 100 < len(pr["recall"]) <= 200
    assert 100 < len(roc["fpr"]) <= 200
    assert pr["average_precision"] == pytest.approx(sk.average_precision_score(targets, logits[:, 1]))
    assert roc["auc"] == pytest.approx(sk.roc_auc_score(targets, logits[:, 1]))
    assert (pr["recall"][-1], roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (1, 0, 0, 1, 1)
    assert pr["recall"] == sorted(pr["recall"])
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(roc["auc"], abs=0.003)
    steps = np.diff([0, *pr["recall"]])
    assert float(steps @ pr["precision"]) == pytest.approx(pr["average_precision"], abs=0.01)


def test_curves_are_of_scores_and_not_of_labels() -> None:
    logits, targets = drawn(100, 2)
    assert len(curves(logits, targets, NAMES[:2])["pr"]["a"]["recall"]) > 10
    assert set(curves(logits, targets, NAMES[:2])["roc"]) == {"a", "b"}  # neither is declared: both
    many = drawn(100, 25)
    names = [str(one) for one in range(25)]
    assert curves(*many, names) == {"pr": {}}
    assert set(curves(*many, names, 3)["pr"]) == {"3"}


def test_a_constant_predictor_orders_nothing() -> None:
    found = classification(torch.zeros(10, 2), torch.tensor([0] * 7 + [1] * 3), NAMES[:2], positive=1)
    assert (found["auc"], found["average_precision"], found["balanced_accuracy"]) == (0.5, pytest.approx(0.3), 0.5)
    assert (found["majority_baseline"], found["accuracy"], found["sensitivity"]) == (0.7, 0.7, 0.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_chance_to_be_ordered_right(pairs: list[tuple[int, bool]]) -> None:
    values, inside = torch.tensor([float(one) for one, _ in pairs]), torch.tensor([one for _, one in pairs])
    found = float(scores.auc(values, inside))
    above, below = values[inside], values[~inside]
    if not len(above) or not len(below):
        assert math.isnan(found)
        return
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in above for b in below)
    assert found == pytest.approx(wins / (len(above) * len(below)))
    assert found == pytest.approx(1 - float(scores.auc(-values, inside)))


@pytest.mark.parametrize("metric", [*METRICS, "sensitivity", "specificity"])
def test_a_weight_is_a_repetition(metric: str) -> None:
    logits, targets = drawn(60, 3, digits=1)
    weights = torch.randint(0, 4, (5, 60), generator=torch.Generator().manual_seed(2))
    positive = 1 if metric in ("f1", "sensitivity", "specificity") else None
    found = measure(metric, logits, targets, positive=positive, weights=weights)
    for row, value in zip(weights, found, strict=True):
        again = torch.arange(60).repeat_interleave(row)
        expected = measure(metric, logits[again], targets[again], positive=positive)
        assert float(value) == pytest.approx(float(expected), abs=1e-12)


def test_what_is_not_defined_is_none_and_never_a_number() -> None:
    logits, targets = drawn(30, 3)
    targets = targets % 2  # nothing of class c
    found = classification(logits, targets, NAMES, positive=2)
    assert found["auc"] is found["average_precision"] is found["f1"] is found["sensitivity"] is None
    assert found["per_class"][2]["auc"] is None
    assert found["specificity"] is not None
    assert found["balanced_accuracy"] == pytest.approx(np.mean([one["recall"] for one in found["per_class"][:2]]))
    assert classification(logits, targets, NAMES)["auc"] is None
    assert set(curves(logits, targets, NAMES)["pr"]) == {"a", "b"}
    assert quick(logits, targets, ["auc"])["auc"] is None
    none = classification(logits, torch.full((30,), -1), NAMES, logits, positive=0)
    assert (none["samples"], none["accuracy"], none["ece"]) == (0, None, None)
    json.dumps([found, none, curves(logits, targets, NAMES)], allow_nan=False)


def test_one_of_two_classes_is_not_guessed() -> None:
    found = classification(*drawn(50, 2), NAMES[:2])
    assert not {"f1", "sensitivity", "specificity", "average_precision"} & set(found)
    assert found["auc"] == pytest.approx(found["per_class"][0]["auc"]) == pytest.approx(found["per_class"][1]["auc"])
    for metric in ("f1", "average_precision"):
        with pytest.raises(RecipeError, match=f"metric is {metric}.*'positive'.*\n.*a, b"):
            check_metric(metric, ["a", "b"], None)
    check_metric("average_precision", NAMES, None)
    with pytest.raises(RecipeError, match="did you mean 'auc'"):
        check_metric("aucc", NAMES, None)
    with pytest.raises(RecipeError, match="did you mean 'benign'"):
        check_positive("bening", ["benign", "malignant"])
    with pytest.raises(ValueError, match="f1"):
        measure("f1", *drawn(5, 2))


def test_counts_by_hand() -> None:
    table = torch.tensor([[50.0, 10.0, 0.0], [5.0, 15.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(counts.accuracy(table)) == pytest.approx(65 / 80)
    assert float(counts.balanced_accuracy(table)) == pytest.approx((50 / 60 + 15 / 20) / 2)
    assert float(counts.macro_f1(table)) == pytest.approx((100 / 115 + 30 / 45) / 2)
    assert float(counts.sensitivity(table, 1)) == pytest.approx(0.75)
    assert float(counts.specificity(table, 1)) == pytest.approx(50 / 60)
    assert math.isnan(float(counts.f1(table, 2)))


def test_reliability_by_hand() -> None:
    logits = torch.tensor([[math.log(4.0), 0.0]] * 10 + [[math.log(9.0), 0.0]] * 10)  # sure to 0.8 and 0.9
    bins = reliability(logits, torch.tensor([0] * 5 + [1] * 5 + [0] * 10))
    assert [one["count"] for one in bins] == [10, 10]
    assert [one["accuracy"] for one in bins] == [0.5, 1.0]
    assert [one["confidence"] for one in bins] == pytest.approx([0.8, 0.9])
    assert calibration_error(bins) == pytest.approx((0.3 + 0.1) / 2)


def test_metrics_have_names_and_a_way_that_is_better() -> None:
    assert (title("auc"), shown("auc", 0.5), shown("loss", 0.5)) == ("AUC", "50.00 %", "0.5000")
    assert [sign(name) for name in METRICS] == [1, 1, 1, 1, 1, 1, -1]
