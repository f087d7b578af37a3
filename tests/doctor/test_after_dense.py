"""Findings about finished runs of segmentation, from made-up scores: pixels are not independent samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from limbeck.doctor.after import about_gain, about_predictions, about_training
from limbeck.doctor.chance import knowledge
from limbeck.evaluation.dense.measures import measure
from limbeck.evaluation.dense.tally import margins

CLASSES = ["land", "road", "water"]
GOOD = [[900, 50, 50], [20, 160, 20], [20, 20, 160]]
ALL_LAND = [[1000, 0, 0], [200, 0, 0], [200, 0, 0]]
NO_WATER = [[900, 100, 0], [20, 180, 0], [150, 50, 0]]


def scored(table: list[list[int]], spread: float | None = 0.05) -> dict[str, Any]:
    """As ``segmentation`` and ``intervals`` give it, as far as it is read here."""
    counts = torch.tensor(table).double()
    found: dict[str, Any] = {
        name: float(measure(name, margins(counts))) for name in ("mean_iou", "pixel_accuracy", "mean_dice")
    }
    found |= {"confusion": table, "pixels": int(counts.sum()), "samples": 4, "loss": 0.5}
    if spread is not None:
        middle = found["mean_iou"]
        found["sampling"] = {"mean_iou": {"low": middle - spread, "high": middle + spread, "method": "made up"}}
    return found


def run(
    table: list[list[int]] = GOOD, last: list[list[int]] | None = None, *, seed: int = 0, spread: float | None = 0.05
) -> dict[str, Any]:
    best = {"epoch": 7, **{split: scored(table, spread) for split in ("validation", "test")}}
    end = {"epoch": 10, **{split: scored(last or table, None) for split in ("validation", "test")}}
    return {"seed": seed, "selected": best, "last": end}


def difference(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"metric": "mean_iou", "split": "test", "mean": mean, "low": low, "high": high, "seeds": 3}


def codes(found: list[Any]) -> list[str]:
    assert all(one.cause and one.cure and one.message for one in found)
    return [one.code for one in found]


def test_a_healthy_run_has_no_finding() -> None:
    made = {role: [run(), run(seed=1)] for role in ("teacher", "control", "student")}
    assert about_predictions(made, "test", CLASSES) == []
    assert about_gain(made, {"control": difference(0.02, 0.01, 0.03)}, "test") == []
    assert about_training(made, {"student": [[0.1, 0.4, 0.6, 0.65, 0.66, 0.66, 0.66, 0.66]] * 2}) == []


def test_one_class_everywhere_is_told_of_pixels() -> None:
    found = about_predictions({"student": [run(ALL_LAND)]}, "test", CLASSES)
    assert codes(found) == ["constant_predictor"]  # and not each class that it never names
    assert found[0].message == "the student answers 'land' for 100.0 % of the test pixels"
    assert found[0].evidence["pixels"] == 1400
    assert codes(about_predictions({"teacher": [run(ALL_LAND)]}, "test", CLASSES)) == [
        "constant_predictor",
        "teacher_near_majority",
    ]


def test_nearly_one_class_is_told_only_where_others_have_a_hundredth_of_the_pixels() -> None:
    rare = [[9900, 10, 0], [45, 15, 0], [15, 0, 15]]  # 99.6 % land said, 99.1 % land there
    assert about_predictions({"student": [run(rare)]}, "test", CLASSES) == []
    missed = [[9600, 10, 0], [180, 15, 0], [180, 0, 15]]
    assert "constant_predictor" in codes(about_predictions({"student": [run(missed)]}, "test", CLASSES))


def test_a_class_that_is_never_named_is_told_with_its_share_and_seeds() -> None:
    found = about_predictions({"student": [run(), run(NO_WATER, seed=1)]}, "test", CLASSES)
    assert codes(found) == ["class_never_named"]
    assert found[0].evidence["classes"] == ["water"]
    assert found[0].evidence["share_of_labels"] == pytest.approx(200 / 1400, abs=1e-6)
    assert found[0].evidence["seeds"] == [1]
    absent = [[900, 100, 0], [20, 180, 0], [0, 0, 0]]
    assert about_predictions({"student": [run(absent)]}, "test", CLASSES) == []


def test_many_pixels_do_not_make_a_guess_knowledge() -> None:
    """A bias that a million independent samples would prove, but a handful of pictures does not."""
    guess = torch.tensor([[505_000, 495_000], [495_000, 505_000]])
    assert knowledge(guess).beyond_chance
    assert not knowledge(guess, "pixels").beyond_chance
    assert knowledge(torch.tensor([[55, 45], [45, 60]]), "pixels").beyond_chance
    found = about_predictions({"student": [run(guess.tolist())]}, "test", CLASSES[:2])
    assert codes(found) == ["not_learned"]
    assert "pixel accuracy is 50.5 %" in found[0].message


def test_a_worse_end_is_told_when_it_is_beyond_the_draw_of_the_pictures() -> None:
    worse = [[600, 300, 100], [60, 100, 40], [60, 60, 80]]  # mean IoU 0.61 -> 0.36
    assert codes(about_training({"student": [run(GOOD, worse)]})) == ["diverged"]
    assert about_training({"student": [run(GOOD, worse, spread=0.2)]}) == []
    assert about_training({"student": [run(GOOD, worse, spread=None)]}) == []


def test_still_improving_is_judged_by_the_interval_of_the_pictures() -> None:
    rising = [0.2, 0.3, 0.4, 0.45, 0.5, 0.52, 0.56, 0.60]
    found = about_training({"student": [run(spread=0.05)]}, {"student": [rising]})
    assert codes(found) == ["still_improving"]
    assert found[0].evidence["mean_iou"] == 0.60
    for spread in (0.1, None):
        assert about_training({"student": [run(spread=spread)]}, {"student": [rising]}) == []


def test_a_mean_iou_that_is_not_defined_says_nothing() -> None:
    one = run()
    one["last"]["validation"]["mean_iou"] = None
    assert about_training({"student": [one]}, {"student": [[]]}) == []
    nothing = [[0, 0, 0]] * 3
    one["selected"]["test"]["confusion"] = nothing
    assert about_predictions({"student": [one], "teacher": [one]}, "test", CLASSES) == []
