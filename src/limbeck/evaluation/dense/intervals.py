"""How much the draw of the pictures alone moves a metric of segmentation: 95 % intervals by a bootstrap of pictures.

Pixels of one picture are not independent, so pictures are drawn, whole; patches of one picture are drawn together, and
pictures of one group (a tile) too, where there are at least 5 groups. The draws are the same for every model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.scenes import SceneSplit
from limbeck.evaluation.dense.measures import NAMES, measure
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import Tally
from limbeck.evaluation.sampling import draws, percentiles

GROUPS = 5  # of fewer a bootstrap says little; then pictures are drawn


def intervals(tally: Tally, metrics: Sequence[str], split: SceneSplit) -> dict[str, dict[str, Any]]:
    """95 % intervals of metrics of one model from the draw of the pictures.

    Args:
        tally: its counts.
        metrics: of :data:`limbeck.evaluation.dense.measures.NAMES`, or ``loss``.
        split: that was counted.

    Returns:
        By metric ``low``, ``high`` and ``method`` (``bootstrap of pictures``, ``bootstrap of groups``); none where no
        resample differs, as with one picture.

    Source: see :func:`limbeck.evaluation.sampling.intervals`.
    """
    units, kind = _units(split)
    resampled, found = _resampled(_summed(tally, units)), {}
    for metric in metrics:
        ends = percentiles(_of(metric, resampled))
        if ends is not None:
            found[metric] = {"low": ends[0], "high": ends[1], "method": f"bootstrap of {kind}"}
    return found


def paired(first: Reading, second: Reading, split: SceneSplit, metric: str) -> dict[str, Any] | None:
    """The difference of two models on the same regions, first minus second, with its interval from their draw.

    Returns:
        ``mean``, ``low``, ``high``, ``samples`` (pictures), ``groups`` (None where pictures were drawn); None where it
        is not defined. No interval where no resample differs.
    """
    if metric not in (*NAMES, "loss"):
        return None
    units, kind = _units(split)
    one, other = (_summed(said.tally, units) for said in (first, second))
    mean = float(_of(metric, one.sum(0)) - _of(metric, other.sum(0)))
    if math.isnan(mean):
        return None
    low, high = percentiles(_of(metric, _resampled(one)) - _of(metric, _resampled(other))) or (None, None)
    pictures = len({region.scene.name for region in split.regions})
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "samples": pictures,
        "groups": len(one) if kind == "groups" else None,
    }


def _units(split: SceneSplit) -> tuple[list[str], str]:
    """What each region is drawn with, and what that is called."""
    scenes = [region.scene for region in split.regions]
    pictures, groups = [one.name for one in scenes], [one.group or one.name for one in scenes]
    whole = len(set(pictures)) > len(set(groups)) >= GROUPS
    return (groups, "groups") if whole else (pictures, "pictures")


def _summed(tally: Tally, units: Sequence[str]) -> Tensor:
    """Counts of each unit, float64 ``[U, 3 C + 1]``: its margins, and its loss."""
    numbers = {name: at for at, name in enumerate(dict.fromkeys(units))}
    rows = torch.tensor([numbers[name] for name in units])
    each = torch.cat([tally.margins.flatten(1).double(), tally.losses[:, None]], dim=1)
    return torch.zeros(len(numbers), each.shape[1], dtype=torch.float64).index_add_(0, rows, each)


def _of(metric: str, sums: Tensor) -> Tensor:
    """A metric of sums ``[…, 3 C + 1]``."""
    counts = sums[..., :-1].unflatten(-1, (3, -1))
    return sums[..., -1] / counts[..., 1, :].sum(-1) if metric == "loss" else measure(metric, counts)


def _resampled(counts: Tensor) -> Tensor:
    """Sums of every resample of the units."""
    return torch.cat([block @ counts for block in draws(len(counts))])


__all__ = ["GROUPS", "intervals", "paired"]
