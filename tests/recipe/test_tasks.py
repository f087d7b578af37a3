"""Keys that do not go with a recipe's task are refused by name, with what to do, before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck import losses
from limbeck.errors import RecipeError
from limbeck.losses.declare import declared
from limbeck.recipe.recipe import Recipe
from limbeck.recipe.tasks import with_masks

UNET = {"model": "limbeck/unet"}
MASKS = {"source": "segmentation_folder", "root": "nowhere", "colors": {"land": 0, "water": 1}}


def segmenting(**changes: Any) -> dict[str, Any]:
    return {"task": "segmentation", "data": MASKS, "teacher": UNET, "student": UNET, **changes}


def refusal(mapping: Any, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(mapping, **options)
    return str(caught.value)


def test_what_a_segmentation_gets_without_being_told() -> None:
    recipe = Recipe.parse(segmenting())
    assert (recipe.spec.metric, recipe.student.select, recipe.spec.controls.hard_labels) == ("mean_iou", None, "auto")
    assert Recipe.parse(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "metric", ["mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall", "loss"]
)
def test_metrics_of_segmentation(metric: str) -> None:
    student = {**UNET, "select": metric}
    assert Recipe.parse(segmenting(metric=metric, student=student)).student.select == metric


def test_loss_is_a_metric_of_both_tasks() -> None:
    plain = {"model": "limbeck/cnn5"}
    assert Recipe.parse({"teacher": plain, "student": plain, "metric": "loss"}).spec.metric == "loss"


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"data": {"source": "digits"}}, "data.source", "one label a sample, and the task is segmentation; use segm"),
        ({"metric": "accuracy"}, "metric", "accuracy is a metric of classification; did you mean 'pixel_accuracy'?"),
        ({"metric": "auc"}, "metric", "a metric of classification, and the task is segmentation; use one of mean_iou"),
        ({"student": {**UNET, "select": "f1"}}, "student.select", "f1 is a metric of classification"),
        ({"teacher": [UNET, {**UNET, "select": "auc"}]}, "teacher.1.select", "auc is a metric of classification"),
        ({"assistants": [{**UNET, "select": "auc"}]}, "assistants.0.select", "auc is a metric of classification"),
        ({"positive": "water"}, "positive", "segmentation tells every class; leave it out"),
        ({"specificity": 0.9}, "specificity", "segmentation tells every class; leave it out"),
        ({"student": {**UNET, "labels": 5}}, "student.labels", "the labels are of pixels"),
        ({"student": {**UNET, "sampling": "balanced"}}, "student.sampling", "give the loss class_weights: balanced"),
        ({"teacher": {**UNET, "views": {"mixup": 0.2}}}, "teacher.views.mixup", "mixup is for pictures with one label"),
        ({"student": {**UNET, "views": {"cutmix": 1}}}, "student.views.cutmix", "cutmix is for pictures with one"),
        ({"student": {**UNET, "views": {"randaugment": {}}}}, "student.views.randaugment", "these have masks"),
        ({"student": {**UNET, "input_size": 64}}, "student.input_size", "set data.patch instead"),
        ({"controls": {"hard_labels": True}}, "controls.hard_labels", "count for no term"),
        ({"objective": {"mine": {"loss": "simkd"}}}, "objective.mine", "simkd keeps the classifier of a mean over"),
    ],
)
def test_what_is_for_samples_is_refused_for_pixels(change: dict[str, Any], key: str, says: str) -> None:
    message = refusal(segmenting(**change)).replace(", and the task is segmentation; did", "; did")
    assert message.startswith(f"recipe: {key}: ")
    assert says in message


def test_what_is_for_pixels_is_refused_for_samples() -> None:
    plain = {"teacher": {"model": "limbeck/cnn5"}, "student": {"model": "limbeck/cnn5"}}
    assert "data.source: source segmentation_folder has a label for every pixel" in refusal({**plain, "data": MASKS})
    assert "metric: mean_dice is a metric of segmentation" in refusal({**plain, "metric": "mean_dice"})
    dense = [name for name, loss in losses.TABLE.items() if declared(loss).dense and declared(loss).site == "logits"]
    assert "pixel_kl" in dense
    for name in dense:
        assert f"objective.{name}: " in refusal({**plain, "objective": {"kl": 1, name: 1}})
        Recipe.parse(segmenting(objective={"kl": 1, name: 1}))


def test_mistakes_are_told_with_their_lines_and_settings() -> None:
    lines = {("positive",): 7, ("student",): 9}
    message = refusal(segmenting(positive="water"), lines=lines, overrides=["student.labels=5"])
    assert "line 7: positive: " in message
    assert "--set student.labels: the labels are of pixels" in message


def test_both_kinds_of_sources_are_known_by_their_name() -> None:
    assert "segmentation_folder" in with_masks()
    assert not {"digits", "arrays", "image_folder"} & set(with_masks())
