"""How similar the samples of a batch are to each other: similarity preserving, correlation congruence, PKT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.relations.rows import both, sized
from limbeck.losses.shapes import gram, unit


@compares("last_stage", same=False, relational=True, weight=3000.0, equal=0.0, invariant=("scale", "rotation"), batch=2)
def sp(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Similarity preserving: squared difference of the similarities of samples, each sample's of length 1.

    ``|G_s - G_t|_F² / B²``, ``G = f fᵀ`` with each row divided by its L2 norm, f the flattened maps ``B × d``. Channels
    and sizes may differ. A batch of one has the similarity 1 on both sides.

    Args:
        student: feature map ``[B, C, H, W]``; tokens and vectors are taken too.
        teacher: feature of the same samples; a constant, no gradient reaches it.
        mask: bool ``[B]``; samples where it is False are left out.

    Returns:
        A scalar without a unit, float32 (float64 for float64 features). 0, with a graph, if no sample is left.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.

    Source: Tung, Mori, ICCV 2019, arXiv:1907.09682. The weight 3000 belongs to the division by B².

    Example:
        >>> f_s = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # G is the identity
        >>> f_t = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # rows (.7071, .7071)
        >>> sp(f_s, f_t)  # 2 (.2929² + .7071²) / 4
        tensor(0.2929)
    """
    ours, theirs = both("sp", student, teacher, mask)
    if len(ours) == 0:
        return ours.sum()
    return (unit(gram(sized(ours))) - unit(gram(sized(theirs)))).square().mean()


@compares("pooled", same=False, relational=True, weight=1.0, equal=0.0, invariant=("scale", "rotation"), batch=2)
def cc(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, mask: Tensor | None = None) -> Tensor:
    """Correlation congruence: squared difference of two Gaussian kernels between samples, expanded to second order.

    ``|K_s - K_t|_F² / B²``, ``K_ij = e^(-2γ) Σ_{p=0..2} (2γ)^p / p! (x_i·x_j)^p`` with rows x of length 1: Taylor's
    series of ``exp(-γ |x_i - x_j|²)``. Widths may differ.

    The weight 1 is this toolkit's neutral default and published nowhere that we know of. The 0.02 that is often quoted
    belongs to RepDistiller's loss of that name, which compares successive samples' trainable embeddings and so depends
    on their order: another loss.

    Args:
        student: pooled vectors ``[B, D]``; maps and tokens are flattened.
        teacher: feature of the same samples; a constant, no gradient reaches it.
        gamma: γ > 0 of the kernel.
        mask: bool ``[B]``; samples where it is False are left out.

    Returns:
        A scalar without a unit, float32 (float64 for float64 features). 0, with a graph, if no sample is left. A row
        of zeros has the product 0 with all.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.
        RecipeError: if gamma is not above 0.

    Source: Peng, Jin, Liu, et al., ICCV 2019, arXiv:1904.01802.

    Example:
        >>> x_s = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> x_t = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> cc(x_s, x_t)  # between the two: e^-.8 = .4493 against .4493 (1 + .8 + .32): 2 (.5032)² / 4
        tensor(0.1266)
    """
    if not 0 < gamma < math.inf:
        raise RecipeError(f"cc.gamma is {gamma}, expected a finite number above 0")
    ours, theirs = both("cc", student, teacher, mask)
    if len(ours) == 0:
        return ours.sum()
    return (_kernel(ours, gamma) - _kernel(theirs, gamma)).square().mean()


def _kernel(rows: Tensor, gamma: float) -> Tensor:
    scaled = 2 * gamma * gram(unit(rows))
    return math.exp(-2 * gamma) * (1 + scaled + scaled.square() / 2)


@compares("pooled", same=False, relational=True, weight=3e4, equal=0.0, invariant=("scale", "rotation"), batch=3)
def pkt(student: Tensor, teacher: Tensor, *, eps: float = 1e-7, mask: Tensor | None = None) -> Tensor:
    """Probabilistic knowledge transfer: divergence of the probabilities with which a sample picks a neighbor.

    ``(1/B²) Σ_{i≠j} P_t log((P_t + e) / (P_s + e))``, ``P_ij = K_ij / Σ_{k≠i} K_ik``, ``K = (cos + 1) / 2``. Widths may
    differ. A sample is not its own neighbor, as in the paper; popular code counts it, which takes a share of about
    1/B or 2/B from the others. So two samples give 0, and a gradient takes three.

    The weight 3e4 belongs to the mean over B²; of the paper's sum it would be 3e4 / B².

    Args:
        student: pooled vectors ``[B, D]``; maps and tokens are flattened.
        teacher: feature of the same samples; a constant, no gradient reaches it.
        eps: e, which keeps the logarithm finite where a kernel is 0. It leaves a gradient of about e at equality.
        mask: bool ``[B]``; samples where it is False are left out.

    Returns:
        Nats, a scalar, float32 (float64 for float64 features). 0, with a graph, if no sample is left. A row of zeros
        has the cosine 0 with all.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.
        RecipeError: if eps is not above 0.

    Source: Passalis, Tefas, ECCV 2018, arXiv:1803.10837.

    Example:
        >>> x_s = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # P: (2/3, 1/3) twice, (1/2, 1/2)
        >>> x_t = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])  # P: 1/2
        >>> pkt(x_s, x_t)  # 2 (ln(3/4) + ln(3/2)) / 2 / 9
        tensor(0.0131)
    """
    if not 0 < eps < math.inf:
        raise RecipeError(f"pkt.eps is {eps}, expected a finite number above 0")
    ours, theirs = both("pkt", student, teacher, mask)
    if len(ours) == 0:
        return ours.sum()
    p_s, p_t = _neighbors(ours, eps), _neighbors(theirs, eps)
    return (p_t * (torch.log(p_t + eps) - torch.log(p_s + eps))).mean()


def _neighbors(rows: Tensor, eps: float) -> Tensor:
    kernel = (gram(unit(rows)) + 1) / 2
    kernel = kernel.clamp(min=0).masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), 0.0)
    return kernel / kernel.sum(1, keepdim=True).clamp(min=eps)  # opposite of all others: no neighbor
