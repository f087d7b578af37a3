"""FitNets' hint: a middle layer of the student is led to the teacher's."""

from __future__ import annotations

from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.shapes import mean_square, same_features, wide


@compares("middle_stage", same=True, weight=100.0, equal=0.0)
def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two features of one shape, FitNets' hint.

    ``mean over the elements of a sample of (r(F_s) - F_t)²``. The trained regressor r is the term's adapter. The paper
    writes half the *sum* of squares, without a mean: the published weight 100 belongs to the mean, as the field trains
    it, jointly with the other terms; the paper trains up to this layer first.

    Args:
        student: feature ``[B, C, H, W]``, ``[B, N, D]`` or ``[B, D]``, after the adapter.
        teacher: feature of the same shape; a constant, no gradient reaches it.

    Returns:
        Squared units of the teacher's feature ``[B]``, not reduced over the samples, float32 (float64 for float64
        features).

    Raises:
        ModelError: if the shapes differ.

    Source: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, ICLR 2015, arXiv:1412.6550.

    Example:
        >>> import torch
        >>> f_s, f_t = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> fitnet(f_s, f_t)  # (0 + 4) / 2, (9 + 16) / 2
        tensor([ 2.0000, 12.5000])
    """
    same_features("fitnet", student, teacher)
    return mean_square(wide(student) - wide(teacher.detach()))
