"""Distillation with a weight for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero, both, labeled, of_label, softened

SMALLEST = 1e-7  # nats: below it a teacher's cross-entropy with the label is taken for this


@compares("logits", weight=2.5, invariant=("shift",), held=True, pixels=True)
def wsld(
    student: Tensor,
    teacher: Tensor,
    *,
    target: Tensor,
    temperature: float = 2.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Weighted soft labels: distillation counts for less where the student already does better than the teacher.

    ``w T² · -Σ_c p_t(c) log p_s(c)`` with ``p = softmax(z / T)`` and ``w = 1 - exp(-CE_s / CE_t)``, the cross-entropies
    of both with the label at temperature 1. The weight is a constant: no gradient goes through it. Where the teacher
    makes no mistake at all CE_t is taken for 1e-7, and w is 1 unless the student makes none either.

    The soft part is a cross-entropy, so where the student is the teacher the value is ``(1 - 1/e) T²`` times the
    teacher's entropy, and the gradient 0.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: value and gradient are 0 there.
        temperature: T > 0, of the soft part only, which is always multiplied by T².
        standardize, axis, mask: as of :func:`limbeck.losses.kl`; the weight is always of the logits as they are.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        DataError: if a label is not one of the classes.
        RecipeError: if the temperature is not above 0.

    Source: Zhou et al., 2021, arXiv:2102.00650. Weight 2.5 beside a cross-entropy of weight 1, on ImageNet.

    Example:
        >>> z = torch.zeros(1, 2)
        >>> wsld(z, z, target=torch.tensor([0]))  # (1 - 1/e) 4 ln 2
        tensor([1.7526])
    """
    above_zero("wsld.temperature", temperature)
    target, known = labeled("wsld", target, student, axis=axis, mask=mask)
    z_s, z_t = both("wsld", student, teacher, axis=axis, mask=known)
    ce_s, ce_t = (-of_label(torch.log_softmax(z, axis), target, axis) for z in (z_s.detach(), z_t))
    weight = -torch.expm1(-ce_s / ce_t.clamp(min=SMALLEST))
    log_s, log_t = (
        torch.log_softmax(softened(z, temperature, axis=axis, standardize=standardize), axis) for z in (z_s, z_t)
    )
    soft = -(log_t.exp() * log_s).sum(axis)
    return torch.where(known, weight * soft * temperature**2, 0.0)
