"""What a recipe's task allows: which keys are for samples with one label, and which for pictures with masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from limbeck import losses
from limbeck.errors import nearest
from limbeck.losses.declare import declared
from limbeck.recipe.data_schema import DataSpec
from limbeck.recipe.mistakes import Mistake
from limbeck.recipe.model_schema import ModelSpec
from limbeck.recipe.reading import Key
from limbeck.recipe.schema import RecipeSpec
from limbeck.recipe.types import Classifying, Segmenting

SEGMENTATION, CLASSIFICATION = "segmentation", "classification"
LOSS = "loss"  # a metric of both
_ONE_CLASS = "is about one class against the others, and segmentation tells every class; leave it out"
_MIXED = ("mixup", "cutmix", "randaugment")


def task_mistakes(spec: RecipeSpec) -> list[Mistake]:
    """Keys of a recipe that do not go with its task, each with what to do.

    Args:
        spec: that is right in all else.

    Example:
        >>> plain = {"model": "limbeck/cnn5"}
        >>> task_mistakes(RecipeSpec(teacher=plain, student=plain, metric="mean_dice"))[0].text[:57]
        'mean_dice is a metric of segmentation, and the task is cl'
    """
    found = [*_data(spec), *_metrics(spec)]
    if spec.task == SEGMENTATION:
        return [*found, *_of_samples(spec), *(one for key, model in models(spec) for one in _model(key, model))]
    return [*found, *_of_pixels(spec)]


def models(spec: RecipeSpec) -> Iterator[tuple[Key, ModelSpec]]:
    """The models of a recipe with their keys."""
    several = isinstance(spec.teacher, list)
    for number, teacher in enumerate(spec.teacher if isinstance(spec.teacher, list) else [spec.teacher]):
        yield ("teacher", number) if several else ("teacher",), teacher
    for number, assistant in enumerate(spec.assistants):
        yield ("assistants", number), assistant
    yield ("student",), spec.student


def with_masks() -> list[str]:
    """The sources whose every pixel has a label.

    Example:
        >>> "segmentation_folder" in with_masks()
        True
    """
    return [one for one in get_args(DataSpec.model_fields["source"].annotation) if one.startswith(SEGMENTATION)]


def _data(spec: RecipeSpec) -> Iterator[Mistake]:
    source, masks = spec.data.source, with_masks()
    if spec.task == SEGMENTATION and source not in masks:
        text = f"source {source} has one label a sample, and the task is segmentation; use {' or '.join(masks)}"
        yield Mistake(("data", "source"), f"{text}, or set task: classification")
    if spec.task != SEGMENTATION and source in masks:
        yield Mistake(("data", "source"), f"source {source} has a label for every pixel; set task: segmentation")


def _metrics(spec: RecipeSpec) -> Iterator[Mistake]:
    of_this, other = get_args(Classifying), get_args(Segmenting)
    if spec.task == SEGMENTATION:
        of_this, other = (*other, LOSS), tuple(one for one in of_this if one != LOSS)
    kind = CLASSIFICATION if spec.task == SEGMENTATION else SEGMENTATION
    asked: list[tuple[Key, Any]] = [(("metric",), spec.metric)]
    asked += [((*key, "select"), one.select) for key, one in models(spec)]
    for key, metric in asked:
        if metric in other:
            near = nearest(metric, of_this) or f"; use one of {', '.join(of_this)}"
            yield Mistake(key, f"{metric} is a metric of {kind}, and the task is {spec.task}{near}")


def _of_samples(spec: RecipeSpec) -> Iterator[Mistake]:
    """Keys of a run, and terms, that are for samples with one label."""
    if spec.positive is not None:
        yield Mistake(("positive",), f"a positive class {_ONE_CLASS}")
    if spec.specificity is not None:
        yield Mistake(("specificity",), f"an operating point {_ONE_CLASS}")
    if spec.student.labels is not None:
        text = "the labels are of pixels, so they can not be taken from some samples"
        yield Mistake(("student", "labels"), f"{text}; leave it out")
    if spec.controls.hard_labels is True:
        text = "pixels without a label count for no term, so this control would be the first one again"
        yield Mistake(("controls", "hard_labels"), f"{text}; leave it out")
    for key, loss in _losses(spec):
        if loss is losses.simkd:
            text = "keeps the classifier of a mean over all places, and a segmenter has none"
            yield Mistake(key, f"simkd {text}; use pixel_kl, or a loss between feature maps")


def _of_pixels(spec: RecipeSpec) -> Iterator[Mistake]:
    """Terms that are for maps of logits."""
    for key, loss in _losses(spec):
        if declared(loss).site == "logits" and declared(loss).dense:
            text = "is for the logits of pixels, and the task is classification"
            yield Mistake(key, f"{loss.__name__} {text}; use kl, or set task: segmentation")


def _losses(spec: RecipeSpec) -> Iterator[tuple[Key, Any]]:
    """The losses of limbeck's own that an objective names."""
    if isinstance(spec.objective, dict):
        for name, value in spec.objective.items():
            loss = value.get("loss", name) if isinstance(value, dict) else name
            if loss in losses.TABLE:
                yield ("objective", name), losses.TABLE[loss]


def _model(key: Key, model: ModelSpec) -> Iterator[Mistake]:
    """Keys of a model that are for samples with one label."""
    if model.input_size is not None:
        text = "a segmenter's logits have the height and width of the patches"
        yield Mistake((*key, "input_size"), f"{text}; set data.patch instead")
    if model.sampling == "balanced":
        text = "a patch has pixels of several classes, and none of its own to be drawn by"
        yield Mistake((*key, "sampling"), f"{text}; leave it out, or give the loss class_weights: balanced")
    for name in _MIXED:
        if getattr(model.views, name):
            yield Mistake(
                (*key, "views", name), f"{name} is for pictures with one label, and these have masks; leave it out"
            )


__all__ = ["models", "task_mistakes", "with_masks"]
