"""Relations instead of values: how the classes of a sample, and the samples of a class, go together."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero, both, softened
from limbeck.losses.shapes import fits, unit

ROUNDING = 1e-6  # what varies by less than this part of its largest element holds nothing but rounding
SMALLEST = 1e-12  # nor does what varies by less than this: its gradient would be the noise's


@compares("logits", relational=True, weight=2.0, equal=0.0, invariant=("shift",))
def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """DIST: one minus the correlations of the softened probabilities, along rows (classes) and columns (samples).

    ``T² [β (1 - mean_b ρ(P_s[b, :], P_t[b, :])) + γ (1 - mean_c ρ(P_s[:, c], P_t[:, c]))]`` with ``P = softmax(z / T)``
    and Pearson's ρ. Of ``[B, C, H, W]`` each pixel is a row, and a column holds all pixels of the batch.

    ρ is undefined where the teacher's row or column is constant: such a one is left out of the mean, so that one
    sample alone is compared by its row only. The published code adds its eps to the *product of the norms*: a column
    of small probabilities (a rare class, many classes) has a product far below it, and counts as uncorrelated however
    well the student has learned it. Here a vector is divided by its largest element before its norm is taken, which
    needs no eps; constant is what varies by less than 1e-6 of its largest element, or by less than 1e-12.

    With two classes ρ of a row is 1 or -1 and has no gradient: only the columns teach.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        beta: factor on the rows (relations between classes).
        gamma: factor on the columns (relations between samples); wants batches of some tens of samples.
        temperature: T > 0; the value is always multiplied by T². 4 on CIFAR-100; 1 on ImageNet and for segmentation.
        standardize, axis: as of :func:`limbeck.losses.kl`.
        mask: bool ``[B]`` or ``[B, H, W]``; rows where it is False are dropped before anything is compared.

    Returns:
        A scalar, 0 to 2 T² (β + γ); 0 if all is masked; float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        RecipeError: if the temperature is not above 0.

    Source: Huang et al., 2022, arXiv:2205.10536. Weight 2 beside a cross-entropy of weight 1; segmentation: weight 1.

    Example:
        >>> z_t = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 5.0]])
        >>> dist(z_t, z_t).abs() < 1e-5
        tensor(True)
        >>> dist(z_t.flip(0), z_t, beta=0.0, temperature=1.0)  # of two samples ρ is 1 or -1; here -1 in each column
        tensor(2.)
    """
    above_zero("dist.temperature", temperature)
    z_s, z_t = (z.movedim(axis, -1).flatten(0, -2) for z in both("dist", student, teacher, axis=axis))
    if mask is not None:  # before the softmax: a NaN that is dropped after it would still spoil the gradient
        fits("dist", "mask", mask, student, axis, torch.bool)
        z_s, z_t = z_s[mask.flatten()], z_t[mask.flatten()]
    if not len(z_s):
        return z_s.sum()
    p_s, p_t = (torch.softmax(softened(z, temperature, axis=1, standardize=standardize), 1) for z in (z_s, z_t))
    inter, intra = _uncorrelated(p_s, p_t), _uncorrelated(p_s.T, p_t.T)
    return temperature**2 * (beta * inter + gamma * intra)


def _uncorrelated(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - ρ over the rows where the teacher's is not constant."""
    direction_s, _ = _direction(student)
    direction_t, varies = _direction(teacher)
    rho = (direction_s * direction_t).sum(-1)
    return torch.where(varies, 1 - rho, 0.0).sum() / varies.sum().clamp(min=1)


def _direction(p: Tensor) -> tuple[Tensor, Tensor]:
    """Centered rows of length 1, and which of them vary by more than rounding does."""
    centered = p - p.mean(-1, keepdim=True)
    tiny = (ROUNDING * p.detach().amax(-1, keepdim=True)).clamp(min=SMALLEST)
    return unit(centered, tiny), (centered.detach().abs() > tiny).any(-1)
