"""Metrics of segmentation, from counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.scenes import IGNORED, SceneSplit
from limbeck.evaluation.calibration import calibration_error
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import BINS, Tally, margins, thresholds
from limbeck.evaluation.metrics import defined

POINTS = 200  # of a curve


def ious(margins: Tensor) -> Tensor:
    """Intersection over union of each class, ``[…, C]``; NaN for a class that has no pixel in the truth.

    A class that is not there can only be predicted wrongly: it does not count in the mean, its false pixels count
    against the classes that they were taken from.

    Args:
        margins: ``[…, 3, C]``, see :func:`limbeck.evaluation.dense.tally.margins`.

    Example:
        >>> ious(margins(torch.tensor([[3.0, 1.0], [0.0, 4.0]])))
        tensor([0.7500, 0.8000])
    """
    right, truth, guessed = margins.unbind(-2)
    return torch.where(truth > 0, right / (truth + guessed - right), torch.nan)


def dices(margins: Tensor) -> Tensor:
    """Dice of each class, ``2 I / (|truth| + |prediction|)``, which is F1; NaN for a class that is not there.

    Example:
        >>> dices(margins(torch.tensor([[3.0, 1.0], [0.0, 4.0]])))[0]
        tensor(0.8571)
    """
    right, truth, guessed = margins.unbind(-2)
    return torch.where(truth > 0, 2 * right / (truth + guessed), torch.nan)


def measure(name: str, margins: Tensor) -> Tensor:
    """A metric of the most probable classes, ``[…]``; NaN where no pixel has a label.

    Means are over the classes that are there, each counting alike. A class that is there and never predicted has
    precision 0.

    Args:
        name: one of :data:`NAMES`.
        margins: ``[…, 3, C]``, of one picture or of all: what they are of, the metric is of.

    Raises:
        KeyError: if there is none of the name.

    Example:
        >>> measure("pixel_accuracy", margins(torch.tensor([[3.0, 1.0], [0.0, 4.0]])))
        tensor(0.8750)
    """
    right, truth, guessed = margins.unbind(-2)
    there = truth > 0
    found = {
        "mean_iou": lambda: ious(margins).nanmean(-1),
        "mean_dice": lambda: dices(margins).nanmean(-1),
        "pixel_accuracy": lambda: right.sum(-1) / truth.sum(-1),
        "macro_recall": lambda: torch.where(there, right / truth, torch.nan).nanmean(-1),
        "macro_precision": lambda: torch.where(there, right / guessed.clamp(min=1), torch.nan).nanmean(-1),
    }
    return found[name]()


NAMES = ("mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall")


def quick(tally: Tally, wanted: Sequence[str] = ()) -> dict[str, float | None]:
    """Loss, pixel accuracy, mean IoU, and the other wanted metrics: what each epoch is judged by."""
    counts, found = tally.margins.sum(0).double(), dict[str, float | None]()
    for name in dict.fromkeys(["loss", "pixel_accuracy", "mean_iou", *wanted]):
        found[name] = _loss(tally) if name == "loss" else defined(measure(name, counts))
    return found


def segmentation(
    said: Reading, split: SceneSplit, classes: Sequence[str], teacher: Sequence[Tensor] | None = None
) -> dict[str, Any]:
    """Everything that is said of a segmenter on one split.

    Everything is counted over all pixels of the split together, and not per picture: a mean of pictures' scores would
    weigh a picture's few pixels of a class like another one's many. Pixels without a label do not count at all. A class
    without a pixel in the truth of the split has no score, and is in no mean.

    Args:
        said: what it said.
        split: the same one.
        classes: names.
        teacher: uint8 ``[H, W]`` for each region: the teacher's most probable classes.

    Returns:
        ``loss`` (mean cross-entropy of the blended probabilities), ``mean_iou``, ``mean_dice``, ``pixel_accuracy``,
        ``macro_precision`` and ``macro_recall`` of the most probable class, means over the classes that are there;
        ``micro_precision`` and ``micro_recall``, see :func:`micro`; ``average_precision``, mean over classes, see
        :func:`pr_curve`; ``ece`` and ``reliability`` of the most probable class's probability; ``confusion`` (truth
        in rows), ``per_class``, ``pixels``, ``ignored``, ``samples`` (regions), ``majority_baseline`` (share of the
        most frequent class); with a teacher the ``agreement`` of most probable classes, over labeled pixels, and in
        ``per_class`` that over the pixels to which the teacher gives the class. None: not defined.

    Source: calibration error: Guo et al., 2017, arXiv:1706.04599.
    """
    tally = said.tally
    precision, recall = micro(tally)
    per_class = _per_class(tally, classes)
    areas = [one["average_precision"] for one in per_class if one["average_precision"] is not None]
    bins = trust(tally)
    found: dict[str, Any] = {
        **quick(tally, NAMES),
        "micro_precision": precision,
        "micro_recall": recall,
        "average_precision": sum(areas) / len(areas) if areas else None,
        "ece": calibration_error(bins),
        "majority_baseline": defined(tally.total.sum(1).max() / tally.total.sum()),
        "samples": len(split.regions),
        "pixels": tally.pixels,
        "ignored": split.ignored,
        "confusion": tally.confusion.tolist(),
        "per_class": per_class,
        "reliability": {"bins": bins},
    }
    if teacher is not None:
        right, truth, _ = margins(agreements(said.labels, teacher, split).double())
        found["agreement"] = defined(right.sum() / truth.sum())
        for row, share in zip(per_class, (right / truth).tolist(), strict=True):
            row["agreement"] = defined(share)
    return found


def micro(tally: Tally) -> tuple[float | None, float | None]:
    """Precision and recall over all classes together, a pixel being called a class where its probability is above 1/2.

    So a pixel is called one class or none. Of the most probable class both would be the pixel accuracy.

    Source: this is what Keras' ``Precision`` and ``Recall`` give for one-hot targets, whose threshold is 1/2.
    """
    right, wrong = (int(one[:, BINS // 2 :].sum()) for one in (tally.inside, tally.outside))
    every = int(tally.inside.sum())
    return (right / (right + wrong) if right + wrong else None), (right / every if every else None)


def trust(tally: Tally) -> list[dict[str, float]]:
    """Mean confidence and accuracy of the pixels in 15 equal bins of confidence; see ``calibration.reliability``."""
    return [
        {"confidence": confident / count, "accuracy": right / count, "count": int(count)}
        for count, confident, right in tally.confidence.T.tolist()
        if count
    ]


def agreements(labels: Sequence[Tensor], teacher: Sequence[Tensor], split: SceneSplit) -> Tensor:
    """How many labeled pixels the teacher gives to one class and the other model to another: int64 ``[C, C]``.

    The teacher in rows.
    """
    classes = len(split.classes)
    found = torch.zeros(classes**2, dtype=torch.int64)
    for one, other, region in zip(labels, teacher, split.regions, strict=True):
        kept = region.read()[1] != IGNORED
        found += torch.bincount(other[kept].long() * classes + one[kept], minlength=classes**2)
    return found.reshape(classes, classes)


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

    What has a score above a threshold is called the class. Average precision is the sum of precisions times steps of
    recall. It is that of the scores themselves where no bin holds pixels of the class with different scores beside
    others; else within a bin no order is known, and all its pixels count as if they had one score.

    Args:
        inside, outside: int64 ``[BINS]``.

    Example:
        >>> ones = torch.zeros(BINS).long(); ones[-1] = 4
        >>> pr_curve(ones, ones.flip(0))[3]
        1.0
    """
    inside, both = inside.flip(0), (inside + outside).flip(0)
    used = both.nonzero().flatten()
    hits, every = inside.cumsum(0)[used].double(), both.cumsum(0)[used].double()
    precision, recall = hits / every, hits / inside.sum()
    steps = torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64))
    edges = thresholds()
    at = [edges[BINS - 1 - one] for one in used.tolist()]
    return precision.tolist(), recall.tolist(), at, float((precision * steps).sum())


def _loss(tally: Tally) -> float | None:
    return tally.loss / tally.pixels if tally.pixels else None


def _per_class(tally: Tally, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts, rows = tally.margins.sum(0).double(), []
    iou, dice = ious(counts), dices(counts)
    for at, (name, (right, truth, guessed)) in enumerate(zip(classes, counts.T.tolist(), strict=True)):
        area = pr_curve(tally.inside[at], tally.outside[at])[3] if truth else None
        rows.append(
            {
                "class": name,
                "iou": defined(iou[at]),
                "dice": defined(dice[at]),
                "recall": right / truth if truth else None,
                "precision": right / guessed if guessed else None,
                "support": int(truth),
                "average_precision": area,
            }
        )
    return rows


__all__ = [
    "NAMES", "agreements", "curves", "dices", "ious", "measure", "micro", "pr_curve", "quick", "segmentation", "trust",
]  # fmt: skip
