"""Metrics of segmentation, from counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.scenes import IGNORED, SceneSplit
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import BINS, Tally, thresholds
from limbeck.evaluation.metrics import defined

POINTS = 200  # of a curve


def ious(counts: Tensor) -> Tensor:
    """Intersection over union of each class, ``[…, C]``; NaN for a class that has no pixel in the truth.

    A class that is not there can only be predicted wrongly: it does not count in the mean, its false pixels count
    against the classes that they were taken from.

    Args:
        counts: confusion matrices ``[…, C, C]``, truth in rows.

    Example:
        >>> ious(torch.tensor([[3.0, 1.0], [0.0, 4.0]])).tolist()
        [0.75, 0.800000011920929]
    """
    right = counts.diagonal(dim1=-2, dim2=-1)
    truth, guessed = counts.sum(-1), counts.sum(-2)
    return torch.where(truth > 0, right / (truth + guessed - right), torch.nan)


def dices(counts: Tensor) -> Tensor:
    """Dice of each class, ``2 I / (|truth| + |prediction|)``, which is F1; NaN for a class that is not there.

    Example:
        >>> dices(torch.tensor([[3.0, 1.0], [0.0, 4.0]]))[0]
        tensor(0.8571)
    """
    right = counts.diagonal(dim1=-2, dim2=-1)
    truth, guessed = counts.sum(-1), counts.sum(-2)
    return torch.where(truth > 0, 2 * right / (truth + guessed), torch.nan)


def measure(name: str, counts: Tensor) -> Tensor:
    """A metric that a confusion matrix is enough for, ``[…]``.

    Raises:
        KeyError: if there is none of the name.
    """
    right, truth, guessed = counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1), counts.sum(-2)
    there = truth > 0
    found = {
        "mean_iou": lambda: ious(counts).nanmean(-1),
        "mean_dice": lambda: dices(counts).nanmean(-1),
        "pixel_accuracy": lambda: right.sum(-1) / truth.sum(-1),
        "macro_recall": lambda: torch.where(there, right / truth, torch.nan).nanmean(-1),
        "macro_precision": lambda: torch.where(there, right / guessed.clamp(min=1), torch.nan).nanmean(-1),
    }
    return found[name]()


NAMES = ("mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall")


def quick(tally: Tally, wanted: Sequence[str] = ()) -> dict[str, float | None]:
    """Loss, pixel accuracy, mean IoU, and the other wanted metrics: what each epoch is judged by."""
    counts, found = tally.total, dict[str, float | None]()
    for name in dict.fromkeys(["loss", "pixel_accuracy", "mean_iou", *wanted]):
        found[name] = tally.loss / max(tally.pixels, 1) if name == "loss" else defined(measure(name, counts))
    return found


def segmentation(
    said: Reading, split: SceneSplit, classes: Sequence[str], teacher: Sequence[Tensor] | None = None
) -> dict[str, Any]:
    """Everything that is said of a segmenter on one split; pixels without a label do not count.

    Args:
        said: what it said.
        split: the same one.
        classes: names.
        teacher: uint8 ``[H, W]`` for each region: the teacher's most probable classes.

    Returns:
        ``loss`` (mean cross-entropy of the blended probabilities), ``mean_iou``, ``mean_dice``, ``pixel_accuracy``,
        ``macro_precision`` and ``macro_recall`` of the most probable class, means over the classes that are there;
        ``micro_precision`` and ``micro_recall``: over all classes together, a pixel being called a class where its
        probability is at least 1/2 (of the most probable class both would be the accuracy); ``average_precision``,
        mean over classes; ``confusion``, ``per_class``, ``pixels``, ``ignored``, ``samples`` (regions),
        ``majority_baseline`` (share of the most frequent class); with a teacher the ``agreement`` of most probable
        classes, over labeled pixels.

    Source: the threshold of 1/2 is that of Keras' ``Precision`` and ``Recall``.
    """
    tally = said.tally
    counts = tally.total
    precision, recall = micro(tally)
    per_class = _per_class(tally, classes)
    areas = [one["average_precision"] for one in per_class if one["average_precision"] is not None]
    found: dict[str, Any] = {
        **quick(tally, NAMES),
        "micro_precision": precision,
        "micro_recall": recall,
        "average_precision": sum(areas) / len(areas) if areas else None,
        "majority_baseline": defined(counts.sum(1).max() / counts.sum()),
        "samples": len(split.regions),
        "pixels": tally.pixels,
        "ignored": split.ignored,
        "confusion": counts.long().tolist(),
        "per_class": per_class,
    }
    if teacher is not None:
        found["agreement"] = agreement(said.labels, teacher, split)
    return found


def micro(tally: Tally) -> tuple[float | None, float | None]:
    """Precision and recall over all classes together, at probability 1/2."""
    right, wrong = (int(one[:, BINS // 2 :].sum()) for one in (tally.inside, tally.outside))
    every = int(tally.inside.sum())
    return (right / (right + wrong) if right + wrong else None), (right / every if every else None)


def agreement(labels: Sequence[Tensor], teacher: Sequence[Tensor], split: SceneSplit) -> float | None:
    """Share of labeled pixels whose most probable class is the teacher's."""
    same = every = 0
    for one, other, region in zip(labels, teacher, split.regions, strict=True):
        kept = region.read()[1] != IGNORED
        same, every = same + int(((one == other) & kept).sum()), every + int(kept.sum())
    return same / every if every else None


def curves(tally: Tally, classes: Sequence[str]) -> dict[str, Any]:
    """Precision against recall of each class that is there, at most 200 points; see :func:`pr_curve`."""
    found = {}
    for number, name in enumerate(classes):
        if not int(tally.inside[number].sum()):
            continue
        precision, recall, at, area = pr_curve(tally.inside[number], tally.outside[number])
        kept = [round(one) for one in torch.linspace(0, len(at) - 1, min(len(at), POINTS)).tolist()]
        found[name] = {
            "precision": [precision[one] for one in kept],
            "recall": [recall[one] for one in kept],
            "threshold": [at[one] for one in kept],
            "average_precision": area,
        }
    return {"pr": found}


def pr_curve(inside: Tensor, outside: Tensor) -> tuple[list[float], list[float], list[float], float]:
    """Precision, recall and threshold at every bin that holds something, from the highest, and the average precision.

    Average precision is the sum of precisions times steps of recall: of scores in bins, so that within a bin no order
    is known.

    Args:
        inside, outside: int64 ``[BINS]``.

    Example:
        >>> ones = torch.zeros(BINS).long(); ones[-1] = 4
        >>> pr_curve(ones, ones.flip(0))[3]
        1.0
    """
    hits, every = inside.flip(0).cumsum(0).double(), (inside + outside).flip(0).cumsum(0).double()
    used = ((inside + outside).flip(0) > 0).nonzero().flatten()
    hits, every = hits[used], every[used]
    precision, recall = hits / every, hits / inside.sum()
    steps = torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64))
    edges = thresholds()
    at = [edges[BINS - 1 - one] for one in used.tolist()]
    return precision.tolist(), recall.tolist(), at, float((precision * steps).sum())


def _per_class(tally: Tally, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts, rows = tally.total, []
    right, truth, guessed = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou, dice = ious(counts), dices(counts)
    for at, name in enumerate(classes):
        there = bool(truth[at] > 0)
        area = pr_curve(tally.inside[at], tally.outside[at])[3] if there else None
        rows.append(
            {
                "class": name,
                "iou": defined(iou[at]),
                "dice": defined(dice[at]),
                "recall": float(right[at] / truth[at]) if there else None,
                "precision": float(right[at] / guessed[at]) if guessed[at] else None,
                "support": int(truth[at]),
                "average_precision": area,
            }
        )
    return rows


__all__ = ["NAMES", "agreement", "curves", "dices", "ious", "measure", "micro", "pr_curve", "quick", "segmentation"]
