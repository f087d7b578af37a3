"""Losses that take the label's class apart from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import (
    above_zero,
    bernoulli,
    both,
    divergence,
    labeled,
    of_label,
    others,
    softened,
    standardized,
)


@compares("logits", weight=1.0, equal=0.0, invariant=("shift",), classes=3, pixels=True)
def dkd(
    student: Tensor,
    teacher: Tensor,
    *,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Decoupled knowledge distillation: the label's class against the rest, and the rest among themselves.

    ``T² [α KL(b_t || b_s) + β KL(q_t || q_s)]`` with ``b = (p(y), 1 - p(y))``, ``p = softmax(z / T)`` and ``q`` the
    softmax over the classes other than y. It holds exactly ``KL(p_t || p_s) = KL(b_t || b_s) + (1 - p_t(y)) KL(q_t ||
    q_s)``: plain distillation hardly teaches the second part where the teacher is sure; here its factor is β, and α 1,
    β 1 is not plain distillation.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 3.
        teacher: logits of the same shape; a constant.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: value and gradient are 0 there.
        alpha: factor on the label's part.
        beta: factor on the other classes' part. CIFAR-100: 8 for ResNet-32x4 teachers, 6 for VGG-13 and WRN, 2 for
            ResNet-56 and -110; ImageNet: 0.5 at T 1.
        temperature: T > 0; the value is always multiplied by T².
        standardize, axis, mask: as of :func:`limbeck.losses.kl`.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there are fewer than three classes: the second part is then 0.
        DataError: if a label is not one of the classes.
        RecipeError: if the temperature is not above 0.

    Source: Zhao et al., 2022, arXiv:2203.08679. There weight 1 beside a cross-entropy of weight 1, and linear warm-up
        of this term's weight over 20 epochs.

    Example:
        >>> z_s, z_t = torch.zeros(1, 3), torch.tensor([[0.0, 9.0, 0.0]])
        >>> # of the other two, the teacher has (.9999, .0001) and the student (½, ½)
        >>> dkd(z_s, z_t, target=torch.tensor([0]), alpha=0.0, beta=1.0, temperature=1.0)
        tensor([0.6919])
        >>> dkd(z_s, z_t, target=torch.tensor([-1]))
        tensor([0.])
    """
    above_zero("dkd.temperature", temperature)
    target, known = labeled("dkd", target, student, axis=axis, mask=mask, classes=3)
    sides = []
    for logits in both("dkd", student, teacher, axis=axis, mask=known):  # equal, and so 0, where there is no label
        z = softened(logits, temperature, axis=axis, standardize=standardize)
        rest = others(z, target, axis)
        every = torch.logsumexp(rest, axis)
        # log p(y) - log(1 - p(y)) is the first difference: no logarithm of a probability is taken
        sides.append((of_label(z, target, axis) - every, rest - every.unsqueeze(axis)))
    (own_s, rest_s), (own_t, rest_t) = sides
    value = alpha * bernoulli(own_s, own_t) + beta * divergence(rest_s, rest_t, axis)
    return value * temperature**2


@compares("logits", weight=1.0, invariant=("shift",), classes=3, pixels=True)
def nkd(
    student: Tensor,
    teacher: Tensor,
    *,
    target: Tensor,
    gamma: float = 1.5,
    temperature: float = 1.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalized knowledge distillation: the teacher's trust in the label, and the other classes among themselves.

    ``-p_t(y) log p_s(y) - γ T² Σ_{c ≠ y} q_t(c) log q_s(c)`` with ``p = softmax(z)`` at temperature 1 and ``q`` the
    softmax of z / T over the classes other than y. The paper's loss has the cross-entropy with the label besides,
    which here is the objective's ``supervised`` term (weight 1). Both parts are cross-entropies: where the student is
    the teacher the value is the teacher's entropies and not 0, and the first part's gradient is not 0 either.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 3.
        teacher: logits of the same shape; a constant.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: value and gradient are 0 there.
        gamma: factor on the other classes' part; 1.5 on ImageNet; 3.5 in the published configuration for CIFAR-100.
        temperature: T > 0, of the second part only, which is always multiplied by T². 1 as in the paper on ImageNet.
        standardize, axis, mask: as of :func:`limbeck.losses.kl`; standardized logits are used in both parts.

    Returns:
        Nats ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError, DataError, RecipeError: as :func:`dkd`.

    Source: Yang et al., 2023, arXiv:2303.13005.

    Example:
        >>> z_s, z_t = torch.zeros(1, 3), torch.tensor([[9.0, 0.0, 0.0]])
        >>> nkd(z_s, z_t, target=torch.tensor([0]))  # .9998 ln 3 + 1.5 ln 2
        tensor([2.1381])
    """
    above_zero("nkd.temperature", temperature)
    target, known = labeled("nkd", target, student, axis=axis, mask=mask, classes=3)
    z_s, z_t = both("nkd", student, teacher, axis=axis, mask=known)
    if standardize:
        z_s, z_t = standardized(z_s, axis), standardized(z_t, axis)
    own_s, own_t = (of_label(torch.log_softmax(z, axis), target, axis) for z in (z_s, z_t))
    rest_s, rest_t = (torch.log_softmax(others(z, target, axis) / temperature, axis) for z in (z_s, z_t))
    value = own_t.exp() * own_s + gamma * temperature**2 * (rest_t.exp() * rest_s).sum(axis)
    return torch.where(known, -value, 0.0)
