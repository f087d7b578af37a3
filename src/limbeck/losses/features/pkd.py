"""Distillation by Pearson correlation: features up to the scale and offset of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.shapes import by_channel, dimensions, fits_samples, same_features, wide


@compares("each_stage", same=True, relational=True, weight=6.0, equal=0.0, invariant=("scale",))
def pkd(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of two features whose channels are standardized over the batch.

    ``mean over n and C of (z_s - z_t)² / 2`` with ``z = (F - mean) / std``, both over a channel's n = B·H·W elements,
    std with n - 1. It is ``(n - 1) / n · (1 - mean over the channels of r)``, r Pearson's correlation of the two. The
    paper adds 1e-6 to std; here a channel that is constant to rounding counts as 0 instead, so that rounding is never
    blown up. The published weight 6 is for each level of a two-stage detector's feature pyramid (10 of a one-stage
    one's), where both have one width: no adapter.

    Args:
        student: feature ``[B, C, H, W]``, ``[B, N, D]`` (D channels) or ``[B, D]``, after the adapter.
        teacher: feature of the same shape; a constant, no gradient reaches it.
        mask: bool ``[B]``; samples where it is False are left out of the statistics and of the mean.

    Returns:
        A scalar without a unit, from 0 to 2: a batch's statistics can not be told apart by sample. float32 (float64 for
        float64 features). 0, with a graph, if no sample or a single element for each channel is left.

    Raises:
        ModelError: if the shapes differ, or the mask does not fit.

    Source: Cao, Zhang, Gao, Cheng, Cheng, Cheng, NeurIPS 2022, arXiv:2207.02039.

    Example:
        >>> f_s = torch.tensor([[[[1.0, 2.0, 3.0]]]])  # z = (-1, 0, 1)
        >>> f_t = torch.tensor([[[[10.0, 30.0, 20.0]]]])  # z = (-1, 1, 0), r = 1/2
        >>> pkd(f_s, f_t)  # (0 + 1 + 1) / 3 / 2
        tensor(0.3333)
        >>> pkd(7.0 * f_t + 5.0, f_t)
        tensor(0.)
    """
    same_features("pkd", student, teacher)
    dimensions("pkd", student, (2, 3, 4))
    student, teacher = by_channel(wide(student)), by_channel(wide(teacher.detach()))
    count = torch.full((), student[:, 0].numel(), dtype=torch.int64, device=student.device)
    if mask is not None:
        fits_samples("pkd", mask, student)
        count = (mask.sum() * student.shape[2]).clamp(min=1)
        mask = mask.view(-1, 1, 1)
    (student, ours), (teacher, theirs) = (_deviations(feature, count, mask) for feature in (student, teacher))
    varies = (ours > 0).to(ours.dtype) + (theirs > 0).to(ours.dtype)  # Σ z² / (n - 1) of both
    r = (student * teacher).sum((0, 2)) * _root(ours) * _root(theirs)
    return (varies / 2 - r).mean() * (count - 1) / count


def _deviations(feature: Tensor, count: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Deviations from each channel's mean, and the sum of their squares ``[C]``: 0 if they are but rounding."""
    if mask is not None:
        feature = torch.where(mask, feature, 0.0)  # whatever a masked sample holds
    mean = feature.detach().sum((0, 2), keepdim=True) / count  # no gradient: deviations sum to 0, as those of r do
    centered = feature - mean
    if mask is not None:
        centered = torch.where(mask, centered, 0.0)
    squares = centered.square().sum((0, 2))
    rounding = (16 * torch.finfo(feature.dtype).eps * mean.flatten()).square() * count
    return centered, torch.where(squares > rounding, squares, 0.0)


def _root(squares: Tensor) -> Tensor:
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).rsqrt(), 0.0)
