"""Neuron selectivity transfer: what makes channels active, as a distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.shapes import (
    by_channel,
    dimensions,
    gram,
    products,
    same_positions,
    same_samples,
    smaller,
    unit,
    wide,
)

TINY = 1e-24  # the squared length below which a channel is taken for 0


@compares("each_stage", same=False, weight=50.0, equal=0.0, invariant=("scale",))
def nst(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two features, with the kernel ``k(a, b) = (a·b)²``.

    ``mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) - 2 mean_ij k(s_i, t_j)``, where a channel of a sample, flattened and of
    length 1, is one vector. It equals ``|SᵀS / C_s - TᵀT / C_t|²`` (Frobenius) of positions x positions, which is what
    is computed where that is the smaller product. The numbers of channels may differ: no adapter. Larger maps are
    average-pooled to the smaller. The published weight 50 belongs to this mean over the pairs of channels.

    Args:
        student: feature map ``[B, C, H, W]``, or tokens ``[B, N, D]``, which count as N positions of D channels.
        teacher: feature map of any size and number of channels, or N tokens; a constant, no gradient reaches it.

    Returns:
        A pure number ``[B]``, from 0 to 2 up to rounding, not reduced over the samples, float32 (float64 for float64
        features). A channel that is 0 everywhere counts as the vector 0.

    Raises:
        ModelError: if the samples or the numbers of positions differ, or there is one position only.

    Source: Huang, Wang, 2017, arXiv:1707.01219, with the polynomial kernel of degree 2.

    Example:
        >>> import torch
        >>> f_s = torch.tensor([[[[2.0, 0.0]]]])  # one channel, (1, 0)
        >>> f_t = torch.tensor([[[[0.0, 5.0]], [[3.0, 4.0]]]])  # two, (0, 1) and (.6, .8)
        >>> nst(f_s, f_t)  # 1 + (1 + 1 + 2 · .64) / 4 - 2 (0 + .36) / 2
        tensor([1.4600])
    """
    same_samples("nst", student, teacher)
    for feature in (student, teacher):
        dimensions("nst", feature, (3, 4))
    student, teacher = (by_channel(feature) for feature in smaller(wide(student), wide(teacher.detach())))
    same_positions("nst", student, teacher, least=2)
    ours, theirs, positions = student.shape[1], teacher.shape[1], student.shape[2]
    if positions * (ours + theirs) <= ours * ours + ours * theirs + theirs * theirs:
        student, teacher = unit(student), unit(teacher)
        return _squared(gram(student.mT) / ours - gram(teacher.mT) / theirs)
    (own, cross), other = products(student, teacher), gram(teacher)
    s, t = _one_over_length(own), _one_over_length(other)  # no pass over the features to make them of length 1
    within = _squared(own * s * s.mT) / ours**2 + _squared(other * t * t.mT) / theirs**2
    return within - 2 * _squared(cross * s * t.mT) / (ours * theirs)


def _one_over_length(products: Tensor) -> Tensor:
    # Not diagonal(): torch 2.15's inductor compiles its gradient wrongly here.
    itself = torch.eye(products.shape[1], dtype=torch.bool, device=products.device)
    squares = torch.where(itself, products, 0.0).sum(2, keepdim=True)
    return torch.where(squares > TINY, squares, 1.0).rsqrt()


def _squared(matrices: Tensor) -> Tensor:
    return matrices.square().sum((1, 2))
