"""Metrics of predicted classes, from counts: a confusion matrix, or many of them at once.

A confusion matrix ``[…, C, C]`` has the truth in its rows and the prediction in its columns; results are ``[…]``, NaN
where a metric is not defined.
"""

from __future__ import annotations

import torch
from torch import Tensor


def confusion(targets: Tensor, guess: Tensor, classes: int, weights: Tensor | None = None) -> Tensor:
    """Confusion matrix of predictions, float64.

    Args:
        targets: int64 ``[N]``, all with a label.
        guess: int64 ``[N]``.
        classes: how many.
        weights: ``[B, N]``, how often each sample counts, for B matrices at once; None: once, one matrix.

    Example:
        >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    cells = targets * classes + guess
    if weights is None:
        return torch.bincount(cells, minlength=classes * classes).double().reshape(classes, classes)
    sums = torch.zeros(classes * classes, len(weights), dtype=torch.float64)
    return sums.index_add_(0, cells, weights.T.double()).T.reshape(-1, classes, classes)


def accuracy(counts: Tensor) -> Tensor:
    """Share of samples whose class was predicted."""
    return _trace(counts) / counts.sum(dim=(-2, -1))


def recalls(counts: Tensor) -> Tensor:
    """Recall of each class, ``[…, C]``."""
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(dim=-1)


def balanced_accuracy(counts: Tensor) -> Tensor:
    """Mean recall over the classes that have a sample: what chance gives is 1 / C however they are distributed.

    Example:
        >>> float(balanced_accuracy(torch.tensor([[3.0, 1.0], [1.0, 1.0]])))
        0.625
    """
    return recalls(counts).nanmean(dim=-1)


def f1s(counts: Tensor) -> Tensor:
    """F1 of each class, ``[…, C]``; not defined for a class that is neither there nor predicted."""
    return 2 * counts.diagonal(dim1=-2, dim2=-1) / (counts.sum(dim=-1) + counts.sum(dim=-2))


def macro_f1(counts: Tensor) -> Tensor:
    """Mean F1 over the classes that are there or predicted."""
    return f1s(counts).nanmean(dim=-1)


def f1(counts: Tensor, positive: int) -> Tensor:
    """F1 of one class; not defined without a sample of it.

    Example:
        >>> float(f1(torch.tensor([[5.0, 1.0], [1.0, 3.0]]), 1))
        0.75
    """
    return torch.where(counts[..., positive, :].sum(dim=-1) > 0, f1s(counts)[..., positive], torch.nan)


def sensitivity(counts: Tensor, positive: int) -> Tensor:
    """Share of the positive class that was predicted to be it: its recall."""
    return recalls(counts)[..., positive]


def specificity(counts: Tensor, positive: int) -> Tensor:
    """Share of all other samples that were not predicted to be of the positive class.

    Example:
        >>> float(specificity(torch.tensor([[6.0, 2.0], [1.0, 4.0]]), 1))
        0.75
    """
    others = counts.sum(dim=(-2, -1)) - counts[..., positive, :].sum(dim=-1)
    alarms = counts[..., :, positive].sum(dim=-1) - counts[..., positive, positive]
    return (others - alarms) / others


def _trace(counts: Tensor) -> Tensor:
    return counts.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
