"""What a summary says of the task and of how its data were divided; what a model without sight would reach."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_DIVIDED = re.compile(r"(divided by [a-z]+)([^;]*)")  # up to what each split holds


def is_dense(summary: Mapping[str, Any]) -> bool:
    """Whether pixels have labels, and not samples: then pixels were counted.

    Example:
        >>> is_dense({"models": {"student": {"metrics": {"validation": {"pixels": 64, "mean_iou": 0.5}}}}})
        True
    """
    return any("pixels" in one for one in summary["models"]["student"]["metrics"].values())


def division(summary: Mapping[str, Any]) -> str | None:
    """How pictures with masks were divided into splits, in short; None where that is not said.

    Example:
        >>> told = "divided by patch: patches of one picture lie in several splits"
        >>> division({"findings": [{"message": told}]})
        'divided by patch'
    """
    found = _note(summary)
    return None if found is None else found[1]


def division_note(summary: Mapping[str, Any]) -> str | None:
    """The same with its meaning, as the run says it.

    Example:
        >>> division_note({"findings": [{"message": "divided by group: whole folders are held out; test 9 pictures"}]})
        'divided by group: whole folders are held out'
    """
    found = _note(summary)
    return None if found is None else found[0]


def _note(summary: Mapping[str, Any]) -> re.Match[str] | None:
    notes = (_DIVIDED.match(str(one["message"])) for one in summary.get("findings", []))
    return next((one for one in notes if one), None)


def chance(metric: str, share: float | None, there: int | None) -> float | None:
    """What naming the most frequent class for every pixel gives, in a metric of segmentation; None if not known.

    Of ``there`` classes that have pixels, the others' IoU, Dice and recall are 0. Equal scores everywhere have the
    class's own share as precision at every recall, and these shares add up to 1.

    Args:
        metric: its name.
        share: of the most frequent class among the pixels.
        there: how many classes have pixels.

    Example:
        >>> chance("mean_iou", 0.5, 4), chance("pixel_accuracy", 0.5, None), chance("mean_iou", 0.5, None)
        (0.125, 0.5, None)
    """
    if share is None:
        return None
    if metric in ("pixel_accuracy", "micro_precision", "micro_recall"):
        return share
    means = {"mean_iou": share, "macro_precision": share, "mean_dice": 2 * share / (1 + share)}
    means |= {"macro_recall": 1.0, "average_precision": 1.0}
    return means[metric] / there if there and metric in means else None


def classes_there(per_class: Sequence[Mapping[str, Any]]) -> int:
    """How many classes have a pixel in the truth."""
    return sum(one["support"] > 0 for one in per_class)


__all__ = ["chance", "classes_there", "division", "division_note", "is_dense"]
