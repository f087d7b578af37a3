"""Metrics of scores: how well a number orders the samples of a class before the others.

Ties count as ties: samples of one score stand on the same step of a curve. Weights (how often each sample counts) have
the shape ``[…, N]``, and results then ``[…]``, so that all resamples of a bootstrap are computed at once. What is not
defined, as where a class has no sample, is NaN here and left out by the callers.
"""

from __future__ import annotations

import torch
from torch import Tensor

POINTS = 200  # of a curve that is kept


def log_odds(logits: Tensor) -> Tensor:
    """``log p - log (1 - p)`` of every class, float64 ``[N, C]``.

    It orders samples as the probability does, and goes on ordering them where that has become 1.

    Example:
        >>> log_odds(torch.tensor([[3.0, 1.0], [100.0, 0.0]])).tolist()
        [[2.0, -2.0], [100.0, -100.0]]
    """
    logits = logits.double()
    if logits.shape[1] == 2:
        return logits - logits.flip(1)  # without rounding, which would part ties
    chosen = logits.argmax(dim=1, keepdim=True)
    total = logits.logsumexp(dim=1, keepdim=True)
    others = total + torch.log1p(-torch.exp(logits - total).scatter(1, chosen, 0.0))
    rest = logits.scatter(1, chosen, -torch.inf).logsumexp(dim=1, keepdim=True)  # of 1 - p nothing would be left
    return logits - others.scatter(1, chosen, rest)


def auc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    """Area under the ROC curve: the chance that a positive sample scores above a negative one, ties counting half.

    Args:
        scores: ``[N]``.
        positive: bool ``[N]``.
        weights: ``[…, N]``, how often each sample counts; None: once.

    Source: Hanley and McNeil, 1982, Radiology 143.

    Example:
        >>> float(auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, False, True, True])))
        0.875
    """
    hits, alarms = _steps(scores, positive, weights)
    before = torch.cat([torch.zeros_like(hits[..., :1]), hits[..., :-1]], dim=-1)
    added = alarms.diff(dim=-1, prepend=torch.zeros_like(alarms[..., :1]))
    area = (added * (before + hits) / 2).sum(dim=-1)
    return area / (hits[..., -1] * alarms[..., -1])


def average_precision(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    """Precision at each step of recall, weighted by the step: the sum behind the precision-recall curve.

    Args:
        scores: ``[N]``.
        positive: bool ``[N]``.
        weights: ``[…, N]``, how often each sample counts; None: once.

    Example:
        >>> float(average_precision(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([True, False, True, False])))
        0.8333333333333333
    """
    hits, alarms = _steps(scores, positive, weights)
    added = hits.diff(dim=-1, prepend=torch.zeros_like(hits[..., :1]))
    precision = hits / (hits + alarms).clamp(min=1)
    return (added * precision).sum(dim=-1) / hits[..., -1]


def pr_curve(scores: Tensor, positive: Tensor) -> tuple[list[float], list[float]]:
    """Precision and recall at falling thresholds, at most 200 points evenly spaced in recall.

    Example:
        >>> pr_curve(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
        ([1.0, 0.5, 0.66667], [0.5, 0.5, 1.0])
    """
    hits, alarms = _steps(scores, positive, None)
    recall, precision = hits / hits[-1], hits / (hits + alarms)
    kept = _evenly(recall)
    return _rounded(precision[kept]), _rounded(recall[kept])


def roc_curve(scores: Tensor, positive: Tensor) -> tuple[list[float], list[float]]:
    """False and true positive rate at falling thresholds from (0, 0) to (1, 1), at most 200 points.

    Example:
        >>> roc_curve(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
        ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    hits, alarms = (torch.cat([torch.zeros(1, dtype=torch.float64), one]) for one in _steps(scores, positive, None))
    true, false = hits / hits[-1], alarms / alarms[-1]
    kept = _evenly(true + false)
    return _rounded(false[kept]), _rounded(true[kept])


def _steps(scores: Tensor, positive: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positive and negative samples at or above each distinct score, from the highest score on: ``[…, steps]``."""
    order = scores.argsort(descending=True)
    ends = torch.cat([scores[order].diff() != 0, torch.ones(1, dtype=torch.bool)]).nonzero().flatten()
    counted = torch.ones(len(scores), dtype=torch.float64) if weights is None else weights[..., order].double()
    ordered = positive[order]
    return (counted * ordered).cumsum(-1)[..., ends], (counted * ~ordered).cumsum(-1)[..., ends]


def _evenly(along: Tensor) -> Tensor:
    """Addresses of at most ``POINTS`` values of a rising sequence, evenly spaced in value; all where there are few."""
    if len(along) <= POINTS:
        return torch.arange(len(along))
    wanted = torch.linspace(float(along[0]), float(along[-1]), POINTS, dtype=along.dtype)
    return torch.searchsorted(along, wanted).clamp(max=len(along) - 1).unique()


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
