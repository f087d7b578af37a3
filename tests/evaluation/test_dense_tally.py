"""Counts and metrics of pixels against scikit-learn on raw scores, against numbers by hand, and invariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from limbeck.data.scenes import IGNORED, Region, Scene, SceneSplit
from limbeck.evaluation.calibration import reliability
from limbeck.evaluation.dense.measures import curves, measure, micro, pr_curve, quick, segmentation, trust
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import BINS, Tally, binned, margins, most_probable, thresholds

CLASSES = ("land", "road", "tree", "water")


def drawn(classes: int = 4, size: tuple[int, int] = (24, 20), seed: int = 0, ignored: float = 0.1) -> Any:
    """Logits that know something, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(classes, size, generator=generator).byte()
    logits = torch.randn(classes, *size, generator=generator)
    logits.scatter_add_(0, mask.long()[None], 1.5 * torch.rand(1, *size, generator=generator))
    return logits, mask.masked_fill(torch.rand(size, generator=generator) < ignored, IGNORED)


def counted(*parts: tuple[Tensor, Tensor]) -> Reading:
    said = Reading([], Tally.empty(len(parts), len(parts[0][0])))
    for number, (logits, mask) in enumerate(parts):
        said.labels.append(said.tally.add(number, logits.softmax(0), mask))
    return said


def split_of(*masks: Tensor, classes: tuple[str, ...] = CLASSES) -> SceneSplit:
    scenes = [
        Scene.of(f"p{at}", torch.zeros(3, *mask.shape).byte(), mask, len(classes)) for at, mask in enumerate(masks)
    ]
    return SceneSplit([Region.whole(one) for one in scenes], classes, "test", patch=(8, 8))


def flat(*parts: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    """Scores ``[N, C]`` and truth ``[N]`` of the labeled pixels, in numpy."""
    scores = torch.cat([logits.softmax(0).flatten(1).T for logits, _ in parts]).numpy()
    truth = torch.cat([mask.flatten() for _, mask in parts]).numpy()
    return scores[truth != IGNORED], truth[truth != IGNORED]


# ---------------------------------------------------------------- against scikit-learn


@pytest.mark.parametrize("ignored", [0.0, 0.1])
def test_metrics_are_those_of_scikit_learn(ignored: float) -> None:
    parts = [drawn(seed=1, ignored=ignored), drawn(seed=2, size=(11, 31), ignored=ignored)]
    said, (scores, truth) = counted(*parts), flat(*parts)
    found = segmentation(said, split_of(*(mask for _, mask in parts)), CLASSES)
    guess = scores.argmax(1)
    assert found["confusion"] == sk.confusion_matrix(truth, guess).tolist()
    assert found["pixels"] == len(truth)
    assert found["ignored"] == 24 * 20 + 11 * 31 - len(truth)
    expected = {
        "mean_iou": sk.jaccard_score(truth, guess, average="macro"),
        "mean_dice": sk.f1_score(truth, guess, average="macro"),
        "pixel_accuracy": sk.accuracy_score(truth, guess),
        "macro_precision": sk.precision_score(truth, guess, average="macro"),
        "macro_recall": sk.recall_score(truth, guess, average="macro"),
        "loss": -np.log(scores.astype(np.float64)[np.arange(len(truth)), truth]).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6 if name == "loss" else 1e-12), name
    each = {"iou": sk.jaccard_score, "dice": sk.f1_score, "recall": sk.recall_score, "precision": sk.precision_score}
    for name, of in each.items():
        assert [row[name] for row in found["per_class"]] == pytest.approx(of(truth, guess, average=None).tolist())


def test_a_class_that_is_not_there_is_in_no_mean() -> None:
    """Class 3 has no pixel, and is predicted nonetheless; class 2 is there and never predicted."""
    truth, guess = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 3, 1, 0, 1])
    logits = torch.from_numpy(np.eye(4)[guess].T[:, None] * 9.0).float()
    said = counted((logits, torch.from_numpy(truth)[None].byte()))
    found = segmentation(said, split_of(torch.from_numpy(truth)[None].byte()), CLASSES)
    of_three = {"average": "macro", "labels": [0, 1, 2], "zero_division": 0}
    assert found["mean_iou"] == pytest.approx(sk.jaccard_score(truth, guess, **of_three))
    assert found["mean_iou"] == pytest.approx((2 / 4 + 1 / 3 + 0) / 3)
    assert found["mean_dice"] == pytest.approx(sk.f1_score(truth, guess, **of_three))
    assert found["macro_precision"] == pytest.approx(sk.precision_score(truth, guess, **of_three))
    assert found["macro_recall"] == pytest.approx(sk.recall_score(truth, guess, **of_three))
    water, tree = found["per_class"][3], found["per_class"][2]
    assert [water[key] for key in ("iou", "dice", "recall", "average_precision")] == [None] * 4
    assert (water["support"], water["precision"]) == (0, 0.0)
    assert (tree["iou"], tree["precision"], tree["recall"]) == (0.0, None, 0.0)
    assert "water" not in curves(said.tally, CLASSES)["pr"]


def test_without_a_labeled_pixel_nothing_is_defined() -> None:
    mask = torch.full((4, 4), IGNORED).byte()
    said = counted((torch.zeros(4, 4, 4), mask))
    found = segmentation(said, split_of(mask), CLASSES, said.labels)
    names = ["loss", "mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall", "micro_precision"]
    assert {found[name] for name in [*names, "micro_recall", "average_precision", "ece", "agreement"]} == {None}
    assert found["pixels"] == 0
    assert curves(said.tally, CLASSES) == {"pr": {}}


# ---------------------------------------------------------------- scores in bins


def test_every_score_lies_above_its_bin_s_lower_edge_and_not_above_its_upper_one() -> None:
    generator = torch.Generator().manual_seed(0)
    odds = torch.cat([torch.randn(20_000, generator=generator) * 6, torch.tensor([-200.0, 200.0])])
    edges = torch.tensor(thresholds(), dtype=torch.float64)
    assert bool((edges.diff() > 0).all())
    assert float(edges[BINS // 2]) == 0.5
    for scores in (torch.sigmoid(odds), edges.float(), torch.nextafter(edges.float(), torch.tensor(2.0))):
        bins, exact = binned(scores).long(), scores.double()
        upper = torch.cat([edges[1:], torch.ones(1, dtype=torch.float64)])
        assert bool(((exact > edges[bins]) | (bins == 0)).all())
        assert bool(((exact <= upper[bins]) | (bins == BINS - 1)).all())
    assert binned(torch.tensor([1.0000001, -0.0])).tolist() == [BINS - 1, 0]  # rounding of a blend


def test_precision_recall_is_exact_where_scores_lie_on_edges() -> None:
    """Bins hold their upper edge: scores that are edges are told apart as scikit-learn tells them apart."""
    generator = torch.Generator().manual_seed(3)
    exact = torch.tensor([*thresholds()[1:], 1.0], dtype=torch.float64)
    edges = exact[exact.float() == exact].float()  # beside 1, float32 has not all of them
    scores = edges[torch.randint(len(edges), (3000,), generator=generator)]
    truth = torch.rand(3000, generator=generator) < scores
    inside, outside = (torch.bincount(binned(scores[one]), minlength=BINS) for one in (truth, ~truth))
    precision, recall, at, area = pr_curve(inside, outside)
    expected = sk.precision_recall_curve(truth.numpy(), scores.numpy())
    assert precision[::-1] == pytest.approx(expected[0][:-1].tolist(), abs=1e-12)  # sklearn adds the point (1, 0)
    assert recall[::-1] == pytest.approx(expected[1][:-1].tolist(), abs=1e-12)
    assert area == pytest.approx(sk.average_precision_score(truth.numpy(), scores.numpy()), abs=1e-12)
    for lower, score in zip(at, sorted(set(scores.tolist()), reverse=True), strict=True):
        assert lower < score  # "above" the lower edge is "at least" the score


def test_binned_average_precision_is_that_of_the_scores_within_two_thousandths() -> None:
    parts = [drawn(seed=seed, size=(60, 60)) for seed in range(3)]
    said, (scores, truth) = counted(*parts), flat(*parts)
    found = curves(said.tally, CLASSES)["pr"]
    for number, name in enumerate(CLASSES):
        exact = sk.average_precision_score(truth == number, scores[:, number])
        assert found[name]["average_precision"] == pytest.approx(exact, abs=2e-3)
        called = [scores[:, number] > at for at in found[name]["threshold"]]
        hits = [int((one & (truth == number)).sum()) for one in called]
        precision = [hit / int(one.sum()) for hit, one in zip(hits, called, strict=True)]
        assert found[name]["precision"] == pytest.approx(precision, abs=1e-12)  # each point is exact
        assert found[name]["recall"] == pytest.approx([hit / (truth == number).sum() for hit in hits], abs=1e-12)
        assert len(found[name]["recall"]) <= 200
    whole = segmentation(said, split_of(*(mask for _, mask in parts)), CLASSES)
    areas = [found[name]["average_precision"] for name in CLASSES]
    assert whole["average_precision"] == pytest.approx(sum(areas) / 4)


def test_micro_precision_and_recall_are_above_one_half_as_by_hand() -> None:
    """Three classes, five pixels; a probability of exactly 1/2 is not above it."""
    half = np.float32(0.5)
    above = np.nextafter(half, np.float32(1))
    rows = [  # class 0, 1, 2; truth
        ([0.7, 0.2, 0.1], 0),  # right
        ([0.2, 0.6, 0.2], 0),  # wrong, and missed
        ([0.4, 0.3, 0.3], 1),  # none is called: missed
        ([half, half, 0.0], 1),  # at the threshold: none is called
        ([above, 1 - above, 0.0], 0),  # right
        ([0.9, 0.05, 0.05], 255),
    ]
    shares = torch.tensor(np.array([row for row, _ in rows], dtype=np.float32)).T[:, None]
    tally = Tally.empty(1, 3)
    tally.add(0, shares, torch.tensor([[truth for _, truth in rows]]).byte())
    assert micro(tally) == (2 / 3, 2 / 5)
    nothing = Tally.empty(1, 3)
    nothing.add(0, torch.full((3, 2, 2), 1 / 3), torch.zeros(2, 2).byte())
    assert micro(nothing) == (None, 0.0)


def test_trust_is_what_calibration_says_of_the_same_pixels() -> None:
    logits, mask = drawn(seed=5)
    said, kept = counted((logits, mask)), mask != IGNORED
    expected = reliability(logits[:, kept].T, mask[kept].long())
    found = trust(said.tally)
    assert [one["count"] for one in found] == [one["count"] for one in expected]
    for key in ("confidence", "accuracy"):
        assert [one[key] for one in found] == pytest.approx([one[key] for one in expected], abs=1e-6)


# ---------------------------------------------------------------- one thing seen in another way


def test_the_most_probable_class_is_the_first_of_the_largest() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(7, 9, 5, generator=generator)
    guess, most = most_probable(shares)
    assert torch.equal(guess.long(), shares.argmax(0))
    assert torch.equal(most, shares.amax(0))
    tied = torch.tensor([0.2, 0.4, 0.4]).view(3, 1, 1)
    assert most_probable(tied)[0].item() == 1
    many = torch.zeros(255, 1, 1)
    many[254] = 1.0
    assert most_probable(many)[0].item() == 254


@given(st.permutations(range(4)), st.integers(1, 23))
@settings(max_examples=6, deadline=None)
def test_order_and_pieces_of_regions_change_nothing(order: list[int], cut: int) -> None:
    parts = [drawn(seed=seed, size=(24, 4 + seed)) for seed in range(4)]
    whole, other = counted(*parts).tally, Tally.empty(4, 4)
    for number in order:
        logits, mask = parts[number]
        for rows in (slice(cut), slice(cut, None)):
            other.add(number, logits.softmax(0)[:, rows], mask[rows])
    for name, value in whole.tensors().items():
        same = torch.equal if value.dtype == torch.int64 else torch.allclose
        assert same(value, other.tensors()[name]), name
    assert torch.equal(whole.margins.sum(0), margins(whole.confusion))
    pixels = whole.inside + whole.outside
    assert pixels.sum(1).tolist() == [whole.pixels] * 4
    assert torch.equal(whole.inside.sum(1), whole.confusion.sum(1))
    assert whole.confidence[0].sum() == whole.pixels


def test_metrics_of_a_region_are_those_of_a_split_with_it_alone() -> None:
    parts = [drawn(seed=seed) for seed in range(3)]
    whole = counted(*parts).tally
    for name in ("mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall"):
        each = measure(name, whole.margins.double())
        alone = [quick(counted(part).tally, [name])[name] for part in parts]
        assert each.tolist() == pytest.approx(alone)


def test_agreement_with_a_teacher_by_hand() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 255, 2]]).byte()
    student, teacher = torch.tensor([[0, 1, 1, 1, 2, 0]]).byte(), torch.tensor([[0, 1, 0, 1, 1, 2]]).byte()
    said = Reading([student], counted((torch.zeros(3, 1, 6), mask)).tally)
    found = segmentation(said, split_of(mask, classes=CLASSES[:3]), CLASSES[:3], [teacher])
    assert found["agreement"] == 3 / 5
    assert [row["agreement"] for row in found["per_class"]] == [1 / 2, 1.0, 0.0]  # of the teacher's 2, 2 and 1 pixels
    itself = segmentation(said, split_of(mask, classes=CLASSES[:3]), CLASSES[:3], [student])
    assert itself["agreement"] == 1.0
    assert [row["agreement"] for row in itself["per_class"]] == [1.0, 1.0, None]


def test_a_file_holds_a_reading() -> None:
    said = counted(drawn(seed=1), drawn(seed=2, size=(5, 7)))
    again = Reading.of({name: value.clone() for name, value in said.tensors().items()})
    assert all(torch.equal(one, other) for one, other in zip(said.labels, again.labels, strict=True))
    assert all(torch.equal(value, again.tally.tensors()[name]) for name, value in said.tally.tensors().items())


def test_a_probability_of_zero_has_a_finite_loss() -> None:
    tally = Tally.empty(1, 2)
    tally.add(0, torch.tensor([[[1.0]], [[0.0]]]), torch.ones(1, 1).byte())
    assert tally.loss == pytest.approx(-math.log(1e-12))
