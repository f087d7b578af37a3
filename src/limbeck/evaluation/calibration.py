"""Calibration: whether a model is right as often as it says."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15


def reliability(logits: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """Mean confidence and accuracy of the samples in 15 equal bins of confidence; bins without a sample are left out.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, all with a label.

    Source: Guo et al., 2017, arXiv:1706.04599.

    Example:
        >>> reliability(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        [{'confidence': 0.5, 'accuracy': 0.5, 'count': 2}]
    """
    confidence, guess = torch.softmax(logits.double(), dim=1).max(dim=1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    columns = torch.stack([torch.ones_like(confidence), confidence, (guess == targets).double()], dim=1)
    sums = torch.zeros(BINS, 3, dtype=torch.float64).index_add(0, bins, columns)
    return [
        {"confidence": confident / count, "accuracy": right / count, "count": int(count)}
        for count, confident, right in sums.tolist()
        if count
    ]


def calibration_error(bins: list[dict[str, float]]) -> float | None:
    """Expected calibration error: the gap between confidence and accuracy, mean over samples; None without.

    Args:
        bins: what :func:`reliability` gives.

    Example:
        >>> calibration_error([{"confidence": 0.9, "accuracy": 0.5, "count": 10}])
        0.4
    """
    total = sum(one["count"] for one in bins)
    gaps = (one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins)
    return sum(gaps) / total if total else None
