"""How much the draw of the pictures alone moves a metric of segmentation: 95 % intervals by a bootstrap of regions."""

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


def intervals(tally: Tally, metrics: Sequence[str], split: SceneSplit) -> dict[str, dict[str, Any]]:
    """By metric ``low``, ``high`` and ``method``; none where no resample differs, as with one region.

    Pixels of one picture are not independent, so pictures are drawn, whole; patches of one picture are drawn together.
    """
    counts, found = _by_picture(tally.confusion, split), {}
    for metric in metrics:
        ends = percentiles(_resampled(metric, counts))
        if ends is not None:
            found[metric] = {"low": ends[0], "high": ends[1], "method": "bootstrap of pictures"}
    return found


def paired(first: Reading, second: Reading, split: SceneSplit, metric: str) -> dict[str, Any] | None:
    """The difference of two models on the same regions, first minus second, with its interval from their draw.

    Returns:
        ``mean``, ``low``, ``high``, ``samples`` (pictures), ``groups``; None where it is not defined.
    """
    if metric not in NAMES:
        return None
    one, other = (_by_picture(said.tally.confusion, split) for said in (first, second))
    mean = float(measure(metric, one.sum(0)) - measure(metric, other.sum(0)))
    if math.isnan(mean):
        return None
    low, high = percentiles(_resampled(metric, one) - _resampled(metric, other)) or (None, None)
    return {"mean": mean, "low": low, "high": high, "samples": len(one), "groups": None}


def _by_picture(confusion: Tensor, split: SceneSplit) -> Tensor:
    """Confusion matrices of whole pictures, float64 ``[P, C, C]``."""
    names = {name: at for at, name in enumerate(dict.fromkeys(one.scene.name for one in split.regions))}
    rows = torch.tensor([names[one.scene.name] for one in split.regions])
    return torch.zeros(len(names), *confusion.shape[1:], dtype=torch.float64).index_add_(0, rows, confusion.double())


def _resampled(metric: str, counts: Tensor) -> Tensor:
    """The metric in every resample of the pictures."""
    flat = counts.flatten(1)
    return torch.cat(
        [measure(metric, (block @ flat).reshape(len(block), *counts.shape[1:])) for block in draws(len(counts))]
    )


__all__ = ["intervals", "paired"]
