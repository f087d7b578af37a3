"""Heads of independent yes-or-no questions: one logit, or one for each label."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero, bernoulli
from limbeck.losses.shapes import fits, same_shape, wide


@compares("logits", weight=1.0, equal=0.0, classes=1, pixels=True)
def bernoulli_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Distillation of heads with a sigmoid: a Bernoulli divergence for each logit, added over a sample's labels.

    ``T² Σ_l [p_t log(p_t / p_s) + (1 - p_t) log((1 - p_t) / (1 - p_s))]`` with ``p = sigmoid(z / T)``. For one logit z
    it is :func:`limbeck.losses.kl` of the two classes with logits (0, z). For L labels that are independent, as
    sigmoids say they are, it is exactly the divergence of the joint answer (2^L outcomes), as the softmax's is a sum
    over classes; beside a cross-entropy that is *averaged* over labels, give it weight 1/L. There is no
    ``standardize``: the logits of different questions are no row, and one logit has no spread.

    Args:
        student: logits ``[B]``, ``[B, 1]`` or ``[B, L]``; dense heads ``[B, L, H, W]``.
        teacher: logits of the same shape (``[B]`` and ``[B, 1]`` are one); a constant.
        temperature: T > 0; the value is always multiplied by T².
        axis: the axis of the labels.
        mask: bool ``[B]`` or ``[B, H, W]``; where it is False value and gradient are 0.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit.
        RecipeError: if the temperature is not above 0.

    Source: Hinton, Vinyals, Dean, 2014, arXiv:1503.02531, for two outcomes.

    Example:
        >>> bernoulli_kl(torch.tensor([0.0]), torch.tensor([2.0]), temperature=2.0)  # kl of (0, 0) and (0, 2)
        tensor([0.4438])
    """
    above_zero("bernoulli_kl.temperature", temperature)
    student, teacher = (z.unsqueeze(1) if z.ndim == 1 else z for z in (student, teacher.detach()))
    same_shape("bernoulli_kl", student, teacher, axis=axis)
    z_s, z_t = wide(student), wide(teacher)
    if mask is not None:
        fits("bernoulli_kl", "mask", mask, student, axis, torch.bool)
        z_s, z_t = (torch.where(mask.unsqueeze(axis), z, 0.0) for z in (z_s, z_t))
    return bernoulli(z_s / temperature, z_t / temperature).sum(axis) * temperature**2
