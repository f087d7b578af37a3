"""The task: what is asked for is what is told, and nothing more; the threshold comes from validation alone."""

from __future__ import annotations

import json
import typing

import pytest
import torch
from torch import Tensor

from limbeck.data import Split
from limbeck.data.about import About
from limbeck.errors import RecipeError
from limbeck.evaluation.names import DENSE, METRICS
from limbeck.evaluation.operating import choose_threshold, probability
from limbeck.recipe.types import Classifying, Segmenting
from limbeck.tasks.classification import CLASSIFICATION, classification_task

CLASSES = ("no", "yes")


def made(sizes: tuple[int, ...] = (60, 40, 50)) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Split]]:
    generator = torch.Generator().manual_seed(0)
    said, splits = {}, {}
    for name, size in zip(("train", "validation", "test"), sizes, strict=True):
        targets = (torch.rand(size, generator=generator) < 0.3).long()
        logits = torch.randn(size, 2, generator=generator)
        logits[:, 1] += 1.5 * targets - 1
        about = About(slices={"site": tuple("ab"[at % 2] for at in range(size))})
        said[name], splits[name] = (logits, targets), Split(torch.zeros(size, 1), targets, CLASSES, name, about)
    return said, splits


def test_the_recipes_metrics_are_the_tables() -> None:
    assert set(typing.get_args(Classifying)) == set(METRICS)
    assert {*typing.get_args(Segmenting), "loss"} == set(DENSE)


def test_all_that_is_asked_for() -> None:
    said, splits = made()
    task = classification_task(CLASSES, positive="yes", metric="average_precision", specificity=0.8)
    found = task.score(said, splits, CLASSES)
    threshold = choose_threshold(probability(said["validation"][0], 1), said["validation"][1] == 1, 0.8)
    for name, one in found.items():
        assert one["operating_point"]["threshold"] == threshold
        called = probability(said[name][0], 1) >= threshold
        truth = said[name][1] == 1
        assert one["operating_point"]["sensitivity"] == pytest.approx(float(called[truth].double().mean()))
        assert one["operating_point"]["specificity"] == pytest.approx(float((~called)[~truth].double().mean()))
    assert found["validation"]["operating_point"]["specificity"] >= 0.8
    assert {"pr", "roc", "slices", "sampling"} <= set(found["test"])
    assert not {"pr", "roc", "slices", "sampling"} & set(found["train"])
    assert "average_precision" in found["test"]["sampling"]
    assert not {"pr", "slices"} & set(task.score(said, splits, CLASSES, detailed=False)["test"])
    json.dumps(found, allow_nan=False)


def test_the_test_split_does_not_move_the_threshold() -> None:
    said, splits = made()
    task = classification_task(CLASSES, positive="yes", specificity=0.8)
    before = task.score(said, splits, CLASSES)["validation"]["operating_point"]
    said["test"] = (said["test"][0].flip(1), 1 - said["test"][1])
    said["train"] = (said["train"][0] * 3, said["train"][1])
    assert task.score(said, splits, CLASSES)["validation"]["operating_point"] == before


def test_samples_without_a_label_do_not_count_for_the_threshold() -> None:
    said, splits = made()
    task = classification_task(CLASSES, positive="yes", specificity=0.8)
    logits, targets = said["validation"]
    some = {**said, "validation": (logits[:30], targets[:30])}
    short = {**splits, "validation": splits["validation"].subset(torch.arange(30))}
    expected = task.score(some, short, CLASSES)["test"]["operating_point"]
    hidden = targets.clone()
    hidden[30:] = -1
    assert task.score({**said, "validation": (logits, hidden)}, splits, CLASSES)["test"]["operating_point"] == expected


def test_without_negatives_on_validation_there_is_no_operating_point() -> None:
    said, splits = made()
    said["validation"] = (said["validation"][0], torch.ones(40, dtype=torch.int64))
    found = classification_task(CLASSES, positive="yes", specificity=0.8).score(said, splits, CLASSES)
    assert "operating_point" not in found["test"]
    json.dumps(found, allow_nan=False)


def test_the_primary_metric_of_many_classes_gets_its_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    logits = torch.randn(60, 3, generator=generator) + torch.nn.functional.one_hot(targets, 3)
    split = Split(torch.zeros(60, 1), targets, ("a", "b", "c"), "test")
    said = dict.fromkeys(("validation", "test"), (logits, targets))
    splits = dict.fromkeys(said, split)
    plain = classification_task(split.classes).score(said, splits, split.classes)["test"]
    asked = classification_task(split.classes, metric="auc").score(said, splits, split.classes)["test"]
    assert "auc" not in plain["sampling"]
    assert asked["sampling"]["auc"]["low"] < asked["auc"] < asked["sampling"]["auc"]["high"]
    assert "roc" not in asked


def test_one_class_against_two_others() -> None:
    targets = torch.arange(90) % 3
    logits = torch.randn(90, 3, generator=torch.Generator().manual_seed(1)) + torch.nn.functional.one_hot(targets, 3)
    task = classification_task(["a", "b", "c"], positive="c")
    split = Split(torch.zeros(len(targets), 1), targets, ["a", "b", "c"], "test")
    found = task.metrics((logits, targets), split, split.classes)
    assert found["auc"] == found["per_class"][2]["auc"]
    assert found["sensitivity"] == pytest.approx(found["per_class"][2]["recall"])


def test_what_a_task_depends_on() -> None:
    asked = {"positive": "yes", "metric": "auc", "specificity": 0.9}
    assert classification_task(CLASSES, **asked).describe() == {"task": "classification", **asked}
    assert CLASSIFICATION.describe()["positive"] is None
    with pytest.raises(RecipeError, match="between 0 and 1"):
        classification_task(CLASSES, positive="yes", specificity=1.0)
