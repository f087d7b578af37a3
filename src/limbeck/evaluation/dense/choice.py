"""Which pictures of a segmentation a reader is shown: some by lot, the best, the worst, the most disputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.data.order import permutation
from limbeck.data.scenes import IGNORED, SceneSplit
from limbeck.evaluation.dense.reading import Reading

BY_LOT = 10
EACH = 2  # of the best, the worst, the most disputed


def by_lot(seed: int, count: int, most: int = BY_LOT) -> list[int]:
    """Which regions of ``count`` are shown whatever was said of them: a function of the seed; all if they are few.

    Example:
        >>> by_lot(0, 3), len(by_lot(0, 30)), by_lot(1, 30) == by_lot(1, 30)
        ([0, 1, 2], 10, True)
    """
    return sorted(permutation(seed, 0, count)[:most].tolist())


def mean_iou(labels: Tensor, mask: Tensor, classes: int) -> float | None:
    """The mean IoU of one picture alone, over the classes that it has; None where it has no label.

    Args:
        labels: uint8 ``[H, W]``, what a model says.
        mask: uint8 ``[H, W]``, the truth.
        classes: how many.

    Example:
        >>> mean_iou(torch.tensor([[0, 0, 1, 1]]).byte(), torch.tensor([[0, 1, 1, 255]]).byte(), 3)
        0.5
    """
    kept = mask != IGNORED
    truth, said = mask[kept].long(), labels[kept].long()
    of_class, called, right = (
        torch.bincount(one, minlength=classes).double() for one in (truth, said, truth[truth == said])
    )
    there = of_class > 0
    return float((right / (of_class + called - right))[there].mean()) if bool(there.any()) else None


def extremes(scores: Sequence[float | None], most: int = EACH) -> tuple[list[int], list[int]]:
    """The regions with the highest and the lowest scores, none in both; the first among equals.

    Args:
        scores: of each region; one without a score is in neither.
        most: how many of each.

    Returns:
        The best, the best first, and the worst, the worst first.

    Example:
        >>> extremes([0.5, 0.9, None, 0.1, 0.7]), extremes([0.5])
        (([1, 4], [3, 0]), ([0], []))
    """
    known = [(one, at) for at, one in enumerate(scores) if one is not None]
    best = [at for _, at in sorted(known, key=lambda pair: (-pair[0], pair[1]))][: min(most, -(-len(known) // 2))]
    rest = [pair for pair in known if pair[1] not in best]
    return best, [at for _, at in sorted(rest)][:most]


def disputed(student: Reading, teacher: Reading, split: SceneSplit, most: int = EACH) -> list[int]:
    """The regions where the largest share of labeled pixels gets another class from the student than from the teacher.

    Regions where both say the same everywhere are not among them.
    """
    shares: dict[int, float] = {}
    for at, (one, other, region) in enumerate(zip(student.labels, teacher.labels, split.regions, strict=True)):
        kept = region.read()[1] != IGNORED
        differ = int((torch.ne(one, other) & kept).sum())
        if differ:
            shares[at] = differ / int(kept.sum())
    return sorted(shares, key=lambda at: (-shares[at], at))[:most]


def chosen(
    splits: Mapping[str, SceneSplit], said: Mapping[str, Mapping[str, Reading]], seed: int
) -> list[tuple[str, str, int]]:
    """What is shown: kind, split, and the region's number.

    The kinds are ``by_lot``, of validation; ``by_lot_too``, of test where validation has not ten; ``best``, ``worst``,
    ``disputed``, of test.
    """
    found = []
    if "validation" in splits:
        found += [("by_lot", "validation", at) for at in by_lot(seed, len(splits["validation"].regions))]
    if "test" in splits:
        more = BY_LOT - len(found)
        found += [("by_lot_too", "test", at) for at in by_lot(seed, len(splits["test"].regions), more)]
        student = said["student"]["test"]
        regions, classes = splits["test"].regions, len(splits["test"].classes)
        scores = [mean_iou(one, region.read()[1], classes) for one, region in zip(student.labels, regions, strict=True)]
        best, worst = extremes(scores)
        found += [("best", "test", at) for at in best] + [("worst", "test", at) for at in worst]
        if "teacher" in said:
            most = disputed(student, said["teacher"]["test"], splits["test"])
            found += [("disputed", "test", at) for at in most]
    return found


__all__ = ["BY_LOT", "EACH", "by_lot", "chosen", "disputed", "extremes", "mean_iou"]
