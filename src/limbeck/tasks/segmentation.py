"""Segmentation: one label a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.scenes import SceneSplit
from limbeck.errors import RecipeError
from limbeck.evaluation.dense.intervals import intervals, paired
from limbeck.evaluation.dense.measures import NAMES, curves, quick, segmentation
from limbeck.evaluation.dense.pictures import write_pictures
from limbeck.evaluation.dense.reading import Reading, read_module
from limbeck.evaluation.names import check_metric
from limbeck.tasks.task import Task


def segmentation_task(classes: Sequence[str] = (), *, metric: str = "mean_iou") -> Task:
    """Segmentation as a recipe asks for it.

    Args:
        classes: names.
        metric: that models are compared by; see ``limbeck.evaluation.names``.

    Raises:
        RecipeError: if there is no such metric of segmentation.

    Example:
        >>> segmentation_task().primary
        'mean_iou'
    """
    check_metric(metric, classes, None, dense=True)
    return Task(
        name="segmentation",
        primary=metric,
        hear=hear,
        quick=lambda said, wanted=(): quick(said.tally, wanted),
        metrics=segmentation,
        score=partial(score, primary=metric),
        paired=partial(paired, metric=metric),
        reference=lambda said: said,
        pictures=pictures,
        shown=("validation", "test"),
        dense=True,
    )


def hear(module: nn.Module, preparation: Any, split: SceneSplit, *, shared: bool = False) -> Reading:
    """Ask a module about every region of a split; ``shared``: each of several processes asks about some of them."""
    return read_module(module, preparation, split, shared=shared)


def score(
    said: Mapping[str, Reading],
    splits: Mapping[str, SceneSplit],
    classes: Sequence[str],
    teacher: Mapping[str, Reading] | None = None,
    *,
    primary: str = "mean_iou",
    detailed: bool = True,
) -> dict[str, dict[str, Any]]:
    """Everything that is said of one model on all splits.

    Args:
        said: what it said of each split.
        splits: the same splits.
        classes: names.
        teacher: what the teacher said of each split, to compare with.
        primary: the metric that models are compared by.
        detailed: also curves and intervals from the draw of the regions, of all splits but ``train``.

    Returns:
        By split what :func:`limbeck.evaluation.dense.measures.segmentation` gives; in detail also ``pr`` and
        ``sampling``.
    """
    found = {}
    for name, one in said.items():
        other = teacher[name].labels if teacher and name in teacher else None
        found[name] = segmentation(one, splits[name], classes, other)
        if detailed and name != "train":
            found[name] |= curves(one.tally, classes)
            names = [each for each in dict.fromkeys([primary, *NAMES]) if each in NAMES]
            found[name]["sampling"] = intervals(one.tally, names, splits[name])
    return found


def pictures(
    folder: str | Path,
    splits: Mapping[str, SceneSplit],
    classes: Sequence[str],
    said: Mapping[str, Mapping[str, Reading]],
    models: Mapping[str, Any],
    *,
    seed: int = 0,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write what models see in some pictures of ``validation`` and ``test``.

    Args:
        folder: the run folder.
        splits: that were looked at.
        classes: names.
        said: by role and split, with ``student`` at least.
        models: by role; they have said what they say already.
        seed: which pictures are drawn.
        colors: of the classes.
    """
    write_pictures(folder, splits, classes, said, seed=seed, colors=colors)


def check_data(dense: bool, task: str) -> None:
    """See that data and task belong together.

    Raises:
        RecipeError: if they do not.
    """
    if dense != (task == "segmentation"):
        have = "masks" if dense else "one label a sample"
        other = "segmentation" if dense else "classification"
        raise RecipeError(f"the task is {task}, and the data have {have}", cure=f"task: {other}, or other data")


__all__ = ["check_data", "hear", "pictures", "score", "segmentation_task"]
