"""Divergences between the softened probabilities of a student and a teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.shapes import fits, same_shape, several_classes, wide


@compares("logits", weight=1.0, equal=0.0, invariant=("shift",))
def kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    square: bool = True,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Forward Kullback–Leibler divergence between softened probabilities, the loss of knowledge distillation.

    ``T² Σ_c p_t(c) (log p_t(c) - log p_s(c))`` with ``p = softmax(z / T)`` over the class axis. The paper writes the
    cross-entropy of the softened probabilities: the same gradient, a value larger by the teacher's entropy.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant, no gradient reaches it.
        temperature: T > 0. 2 to 8 is usual; higher for an overconfident teacher or few classes.
        square: multiply by T², so that the gradient does not shrink as T grows (it falls as 1/T²).
        axis: the class axis.
        mask: bool ``[B]`` or ``[B, H, W]``; where it is False the value and the gradient are 0, whatever the logits
            hold there.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        RecipeError: if the temperature is not above 0.

    Source: Hinton, Vinyals, Dean, 2014, arXiv:1503.02531.

    Example:
        >>> z_s, z_t = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> kl(z_s, z_t, temperature=2.0)  # p_t = (.7311, .2689): 4 (ln 2 - .5822)
        tensor([0.4438])
        >>> kl(z_t, z_t)
        tensor([0.])
    """
    same_shape("kl", student, teacher, axis=axis)
    several_classes("kl", student, axis)
    if not temperature > 0:
        raise RecipeError(f"kl.temperature is {temperature}, expected a number above 0")
    student, teacher = wide(student), wide(teacher.detach())
    if mask is not None:  # equal logits: value 0; and a NaN masked after the softmax would still spoil the gradient
        fits("kl", "mask", mask, student, axis, torch.bool)
        keep = mask.unsqueeze(axis)
        student, teacher = (torch.where(keep, logits, 0.0) for logits in (student, teacher))
    log_s = torch.log_softmax(student / temperature, dim=axis)
    log_t = torch.log_softmax(teacher / temperature, dim=axis)
    value = (log_t.exp() * (log_t - log_s)).sum(dim=axis)  # fewer passes over dense maps than torch's kl_div
    return value * temperature**2 if square else value
