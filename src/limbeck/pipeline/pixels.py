"""What a call from Python may ask for where pixels have labels; of a recipe, the recipe's own check says it."""

from __future__ import annotations

from limbeck.errors import RecipeError
from limbeck.pipeline import reusing
from limbeck.pipeline.experiment import Experiment
from limbeck.store import Store


def check(experiment: Experiment) -> None:
    """Refuse what is for samples with one label, before anything is trained.

    Raises:
        RecipeError: naming the argument, if the experiment's task is segmentation.
    """
    if not experiment.task.dense:
        return
    leave = "leave it out"
    if experiment.labels is not None:
        raise RecipeError(
            f"labels is {experiment.labels}, and the labels are of pixels: they can not be taken from some samples",
            cure=leave,
        )
    if experiment.hard_labels:
        raise RecipeError(
            "hard_labels: pixels without a label count for no term, so this control would be the first one again",
            cure=leave,
        )
    if any(isinstance(one, Store) for one in experiment.teachers):
        raise RecipeError(
            "the teacher is a store, which keeps one row of logits for a view, and these data have masks",
            cure="give the live teacher",
        )
    if reusing.keeps_classifier(experiment.objective):
        raise RecipeError(
            "simkd keeps the classifier of a mean over all places, and a segmenter has none",
            cure="use pixel_kl, or a loss between feature maps",
        )
    for settings in (one.settings for one in (experiment.student, *experiment.assistants, *experiment.peers)):
        if settings is None:
            continue
        if settings.sampling == "balanced":
            raise RecipeError(
                "sampling is balanced, and a patch has pixels of several classes: none of its own to be drawn by",
                cure="leave it out, or give the loss class_weights: balanced",
            )
        for name in ("mixup", "cutmix", "randaugment"):
            if getattr(settings.views, name):
                raise RecipeError(f"views.{name} is for pictures with one label, and these have masks", cure=leave)


__all__ = ["check"]
