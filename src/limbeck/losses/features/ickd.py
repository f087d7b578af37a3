"""Inter-channel correlation: which channels go together within a sample."""

from __future__ import annotations

from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.shapes import by_channel, dimensions, gram, same_features, unit, wide


@compares("last_stage", same=True, weight=2.5, equal=0.0, invariant=("scale",))
def ickd(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two matrices of inter-channel correlation (ICKD-C, for classification).

    ``Σ_ij (G_s - G_t)²_ij / C`` with ``G = unit_rows(F Fᵀ)``, F the channels of a sample, flattened: C x positions. The
    student comes through the term's adapter to the teacher's C channels. The published weight 2.5 belongs to the
    division by C; the paper's equation divides by C².

    Args:
        student: feature map ``[B, C, H, W]``, or tokens ``[B, N, D]`` with D channels, after the adapter.
        teacher: feature of the same shape; a constant, no gradient reaches it.

    Returns:
        A pure number ``[B]``, from 0 to below 4, not reduced over the samples, float32 (float64 for float64 features).
        A channel that is 0 everywhere has the row 0.

    Raises:
        ModelError: if the shapes differ, or are those of vectors.

    Source: Liu, Huang, Lin, Xie, Wang, Chang, Liang, ICCV 2021, arXiv:2202.03680.

    Example:
        >>> import torch
        >>> f_s = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])  # F Fᵀ = [[1, 0], [0, 4]]: G is the identity
        >>> f_t = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])  # F Fᵀ = [[9, 12], [12, 16]]: rows (.6, .8)
        >>> ickd(f_s, f_t)  # (.4² + .8² + .6² + .2²) / 2
        tensor([0.6000])
    """
    same_features("ickd", student, teacher)
    dimensions("ickd", student, (3, 4))
    difference = _correlation(wide(student)) - _correlation(wide(teacher.detach()))
    return difference.square().sum((1, 2)) / difference.shape[1]


def _correlation(feature: Tensor) -> Tensor:
    return unit(gram(by_channel(feature)), tiny=1e-24)  # products: a feature of 1e-12 is still one
