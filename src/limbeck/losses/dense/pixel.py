"""Distillation of every pixel's classes."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.dense.resized import at_students_size
from limbeck.losses.logits.soften import above_zero, both, divergence, softened


@compares("logits", weight=10.0, equal=0.0, invariant=("shift",), dense=True, pixels=True)
def pixel_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    standardize: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Forward Kullback–Leibler divergence between the class probabilities of every pixel.

    ``T² Σ_c p_t(c) (log p_t(c) - log p_s(c))`` at each pixel, ``p = softmax(z / T)`` over the classes. If sizes differ,
    the *teacher's* logits are resized, once and before the softmax (bilinear, corners not aligned), to the student's,
    which labels and mask fit.

    The published weight 10 is for a mean over pixels *summed* over the batch; the objective takes the mean over both,
    for which the same strength is 10·B (80 at the paper's batch of 8). The default stays 10.

    Args:
        student: logits ``[B, C, H, W]``, C ≥ 2.
        teacher: logits ``[B, C, H', W']``; a constant, no gradient reaches it.
        temperature: T > 0; the paper's loss is at T 1.
        standardize: as of :func:`limbeck.losses.kl`.
        mask: bool ``[B, H, W]``; where it is False (ignored pixels) value and gradient are 0.

    Returns:
        Nats (times T²) ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        RecipeError: if the temperature is not above 0.

    Source: Liu, Chen, Liu, Qin, Luo, Wang, CVPR 2019, arXiv:1903.04197.

    Example:
        >>> z_s = torch.zeros(1, 2, 1, 2)
        >>> z_t = torch.tensor([[[[2.0, 5.0]], [[0.0, 5.0]]]])  # the second pixel's classes are equal
        >>> pixel_kl(z_s, z_t, temperature=2.0)  # p_t = (.7311, .2689): 4 (ln 2 - .5822)
        tensor([[[0.4438, 0.0000]]])
    """
    above_zero("pixel_kl.temperature", temperature)
    student, teacher = at_students_size("pixel_kl", student, teacher)
    pair = both("pixel_kl", student, teacher, axis=1, mask=mask)
    log_s, log_t = (torch.log_softmax(softened(z, temperature, axis=1, standardize=standardize), 1) for z in pair)
    return divergence(log_s, log_t, 1) * temperature**2
