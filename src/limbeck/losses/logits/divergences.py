"""Divergences between the softened probabilities of a student and a teacher, and the squared distance of logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero, both, divergence, softened, standardized


@compares("logits", weight=1.0, equal=0.0, invariant=("shift",), grouped=True, pixels=True)
def kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    square: bool = True,
    standardize: bool = False,
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
        standardize: give each row of logits, of both, mean 0 and standard deviation 1 (the population's) before T: the
            student learns the relations of the logits, not their size. Published with T 2 and weight 9 beside 0.1 CE.
        axis: the class axis.
        mask: bool ``[B]`` or ``[B, H, W]``; where it is False the value and the gradient are 0, whatever the logits
            hold there.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.
        RecipeError: if the temperature is not above 0.

    Source: Hinton, Vinyals, Dean, 2014, arXiv:1503.02531; standardized logits: Sun et al., 2024, arXiv:2403.01427.

    Example:
        >>> z_s, z_t = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> kl(z_s, z_t, temperature=2.0)  # p_t = (.7311, .2689): 4 (ln 2 - .5822)
        tensor([0.4438])
        >>> kl(z_t, z_t)
        tensor([0.])
        >>> kl(3 * z_t + 1, z_t, standardize=True)  # both rows are (1, -1) then
        tensor([0.])
    """
    log_s, log_t = _log_p("kl", student, teacher, temperature, standardize, axis, mask)
    value = divergence(log_s, log_t, axis)
    return value * temperature**2 if square else value


@compares("logits", weight=1.0, equal=0.0, invariant=("shift",), grouped=True, pixels=True)
def reverse_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Reverse Kullback–Leibler divergence between softened probabilities: from the student's point of view.

    ``T² Σ_c p_s(c) (log p_s(c) - log p_t(c))``. A student that can not have all that the teacher has gives up classes
    rather than to put probability where the teacher has none (:func:`kl`: the other way round).

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        temperature: T > 0; the value is always multiplied by T².
        standardize, axis, mask: as of :func:`kl`.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError, RecipeError: as :func:`kl`.

    Source: as a loss of distillation: Gu et al. (MiniLLM), 2023, arXiv:2306.08543; there of whole sequences, so that
        its weights are not this function's. Here of one prediction.

    Example:
        >>> z_s, z_t = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> reverse_kl(z_s, z_t, temperature=2.0)  # 4 (-ln 2 - (ln .7311 + ln .2689) / 2) = 4 · .1201
        tensor([0.4805])
    """
    log_s, log_t = _log_p("reverse_kl", student, teacher, temperature, standardize, axis, mask)
    return divergence(log_t, log_s, axis) * temperature**2


@compares("logits", weight=1.0, equal=0.0, invariant=("shift",), grouped=True, pixels=True)
def jsd(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 4.0,
    standardize: bool = False,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Generalized Jensen–Shannon divergence: of both to their mixture, bounded however much they differ.

    ``T² [β KL(p_t || m) + (1 - β) KL(p_s || m)]``, ``m = β p_t + (1 - β) p_s``. At β 0.5 it is symmetric and at most
    ``T² ln 2``; in general at most T² times the entropy of (β, 1 - β). At both ends the formula is 0 for any output,
    so these are *defined*: β 0 as the forward divergence (:func:`kl`), β 1 as the reverse one; near an end the value
    is about β, or 1 - β, times that, which a weight has to make up for.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        beta: the teacher's share β of the mixture, 0 to 1.
        temperature: T > 0; the value is always multiplied by T². The paper's loss is at T 1.
        standardize, axis, mask: as of :func:`kl`.

    Returns:
        Nats (times T²) ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError, RecipeError: as :func:`kl`; also if β is outside of 0 to 1.

    Source: Agarwal et al. (GKD), 2024, arXiv:2306.13649.

    Example:
        >>> z_s, z_t = torch.tensor([[0.0, 0.0]]), torch.tensor([[99.0, 0.0]])
        >>> jsd(z_s, z_t, temperature=1.0)  # m = (.75, .25): (-ln .75 + ln .5 - (ln .75 + ln .25) / 2) / 2
        tensor([0.2158])
    """
    if not 0 <= beta <= 1:
        raise RecipeError(f"jsd.beta is {beta}, expected a number of 0 to 1")
    log_s, log_t = _log_p("jsd", student, teacher, temperature, standardize, axis, mask)
    if beta in (0, 1):
        ends = (log_s, log_t) if beta == 0 else (log_t, log_s)
        return divergence(*ends, axis) * temperature**2
    log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
    value = beta * divergence(log_m, log_t, axis) + (1 - beta) * divergence(log_m, log_s, axis)
    return value * temperature**2


@compares("logits", weight=0.1, equal=0.0, invariant=("shift",), pixels=True)
def logit_mse(
    student: Tensor, teacher: Tensor, *, standardize: bool = False, axis: int = 1, mask: Tensor | None = None
) -> Tensor:
    """Mean squared difference of centered logits: regression on what comes before the softmax.

    ``(1/C) Σ_c (d_c - mean(d))²`` with ``d = z_s - z_t``. Logits are centered by row, because a number added to all of
    them says nothing. It is the limit of distillation at high temperature: as T grows, :func:`kl` (with T²) tends to
    ``(1/2C) |d - mean(d)|²``, half of this value. The published weight 0.1 goes with this mean over classes (beside a
    cross-entropy of weight 1): as strong as :func:`kl` of weight 0.2 at T → ∞.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        standardize: compare z-scores of the rows, as of :func:`kl`; the value is then 2 (1 - their correlation).
        axis, mask: as of :func:`kl`.

    Returns:
        Squared logits ``[B]`` or ``[B, H, W]``, mean over classes, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes do not fit, or there is one class only.

    Source: Ba, Caruana, 2014, arXiv:1312.6184; there half the squared sum over classes, ``C/2`` times a mean.

    Example:
        >>> z_s, z_t = torch.tensor([[4.0, 2.0]]), torch.tensor([[0.0, 0.0]])
        >>> logit_mse(z_s, z_t)  # (4, 2) is (1, -1) when centered
        tensor([1.])
        >>> z_s, z_t = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[5.0, 1.0, 0.0]])
        >>> logit_mse(z_s, z_t, standardize=True)  # the correlation of (-1, 0, 1) and (3, -1, -2) is -.9449
        tensor([3.8898])
    """
    z_s, z_t = both("logit_mse", student, teacher, axis=axis, mask=mask)
    if standardize:
        z_s, z_t = standardized(z_s, axis), standardized(z_t, axis)
    difference = z_s - z_t
    return (difference - difference.mean(axis, keepdim=True)).square().mean(axis)


def _log_p(
    name: str,
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    standardize: bool,
    axis: int,
    mask: Tensor | None,
) -> list[Tensor]:
    """Log-probabilities of student and teacher."""
    above_zero(f"{name}.temperature", temperature)
    pair = both(name, student, teacher, axis=axis, mask=mask)
    return [torch.log_softmax(softened(z, temperature, axis=axis, standardize=standardize), axis) for z in pair]
