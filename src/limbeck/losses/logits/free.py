"""Distillation without a teacher: from one that is made by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero, labeled, of_label, visible


@compares("logits", weight=0.1, invariant=("shift",), pixels=True)
def teacher_free(
    student: Tensor,
    *,
    target: Tensor,
    correct: float = 0.99,
    temperature: float = 20.0,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Teacher-free distillation (Tf-KD with the regularizer): a teacher made by hand, who is always right.

    ``Σ_c u_T(c) (log u_T(c) - log p_s(c))`` with ``p_s = softmax(z)`` at temperature 1. The teacher u gives ``correct``
    to the label and ``(1 - correct) / (C - 1)`` to each other class; u_T, proportional to ``u^(1/T)``, is that teacher
    softened as any other would be, ``softmax(log(u) / T)``. A comparator for what a real teacher adds: like label
    smoothing it knows nothing of the classes. There is no T², because the student's side is not softened.

    The paper's objective is ``(1 - α) CE + α`` this, α 0.1: weights of the objective, ``supervised(0.9)`` and this
    term's published weight 0.1. The published code differs: it softens by ``softmax(u / T)``, the *probabilities*
    divided by T, which is nearly uniform at any T, and averages over samples *and classes*, with a multiplier (1 to
    1000, by network) that makes up for the second; here the value is one sample's, and no multiplier is needed.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: value and gradient are 0 there.
        correct: the teacher's probability of the label before softening, above 0 and below 1.
        temperature: T > 0 of the teacher; the paper's 20 is a soft one.
        axis: the class axis.
        mask: bool ``[B]`` or ``[B, H, W]``; where it is False value and gradient are 0.

    Returns:
        Nats ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        DataError: if a label is not one of the classes.
        RecipeError: if ``correct`` or the temperature is out of range.

    Source: Yuan et al., 2020, arXiv:1909.11723.

    Example:
        >>> z = torch.zeros(1, 2)
        >>> teacher_free(z, target=torch.tensor([1]), correct=0.9, temperature=2.0)  # u_T = (.25, .75): ln 2 - .5623
        tensor([0.1308])
    """
    if not 0 < correct < 1:
        raise RecipeError(f"teacher_free.correct is {correct}, expected a number above 0 and below 1")
    above_zero("teacher_free.temperature", temperature)
    target, known = labeled("teacher_free", target, student, axis=axis, mask=mask)
    log_s = torch.log_softmax(visible("teacher_free", student, axis, known), axis)
    others = student.shape[axis] - 1
    yes, no = math.log(correct) / temperature, math.log((1 - correct) / others) / temperature
    top = max(yes, no)
    total = top + math.log(math.exp(yes - top) + others * math.exp(no - top))
    yes, no = yes - total, no - total  # log u_T of the label, and of each other class
    entropy = -math.exp(yes) * yes - others * math.exp(no) * no
    own = of_label(log_s, target, axis)
    cross = -math.exp(yes) * own - math.exp(no) * (log_s.sum(axis) - own)
    return torch.where(known, cross - entropy, 0.0)
