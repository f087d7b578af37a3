"""What the logit losses share: what they check and hide, the standardized and the softened logits, the label's part."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError, RecipeError
from limbeck.losses.shapes import UNLABELED, fits, same_shape, several_classes, unknown_labels, wide

FLAT = 1e-7  # a row of logits with a smaller standard deviation has nothing to standardize


def rows(name: str, logits: Tensor, axis: int, classes: int = 2) -> None:
    """Refuse logits without an axis of classes, or with too few on it.

    Raises:
        ModelError: naming the shape.
    """
    if logits.ndim < 2:
        raise ModelError(
            f"loss '{name}' takes logits [B, C] or [B, C, H, W]; they are {tuple(logits.shape)}",
            cure="use bernoulli_kl for a head of one logit",
        )
    several_classes(name, logits, axis)
    if logits.shape[axis] < classes:
        raise ModelError(
            f"loss '{name}' compares how the classes other than the label share what is left, and takes {classes} "
            f"classes or more; the logits are {tuple(logits.shape)}: with two classes that part is 0 for any output",
            cure="use kl for two classes, bernoulli_kl for a head of one logit",
        )


def both(
    name: str, student: Tensor, teacher: Tensor, *, axis: int, mask: Tensor | None = None, classes: int = 2
) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher, checked, in float32 or wider, the teacher's a constant, masked rows 0.

    Raises:
        ModelError: if shapes do not fit, or there are too few classes.
    """
    same_shape(name, student, teacher, axis=axis)
    rows(name, student, axis, classes)
    return visible(name, student, axis, mask), visible(name, teacher.detach(), axis, mask)


def visible(name: str, logits: Tensor, axis: int, mask: Tensor | None) -> Tensor:
    """Logits in float32 or wider; rows where the mask is False hold zeros, and their gradient is 0.

    A row is hidden before the softmax: a NaN that is masked after it would still spoil the gradient.

    Raises:
        ModelError: if the mask does not fit.
    """
    if mask is None:
        return wide(logits)
    fits(name, "mask", mask, logits, axis, torch.bool)
    return torch.where(mask.unsqueeze(axis), wide(logits), 0.0)


def softened(logits: Tensor, temperature: float, *, axis: int, standardize: bool = False) -> Tensor:
    """Logits to take a softmax of: divided by the temperature, before that standardized if it is asked for."""
    return (standardized(logits, axis) if standardize else logits) / temperature


def standardized(logits: Tensor, axis: int) -> Tensor:
    """Each row of logits with mean 0 and standard deviation 1: of logits, the relations are kept and not the size.

    The standard deviation is the population's (a sum divided by C), so that a row of two classes becomes (1, -1). A row
    whose standard deviation is not above 1e-7 has no relations: it becomes zeros, and its gradient stays small.

    Source: Sun et al., 2024, arXiv:2403.01427.

    Example:
        >>> standardized(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), 1)
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    centered = logits - logits.detach().amax(axis, keepdim=True)  # equal logits are then exactly 0, of any size
    centered = centered - centered.mean(axis, keepdim=True)
    variance = centered.square().mean(axis, keepdim=True)
    return centered * torch.where(variance > FLAT**2, variance, 1.0).rsqrt()


def above_zero(name: str, value: float) -> None:
    """Refuse a temperature that is none.

    Raises:
        RecipeError: naming it.
    """
    if not 0 < value < float("inf"):
        raise RecipeError(f"{name} is {value}, expected a finite number above 0")


def labeled(
    name: str, target: Tensor, student: Tensor, *, axis: int, mask: Tensor | None, classes: int = 2
) -> tuple[Tensor, Tensor]:
    """Labels with 0 where there is none, and a mask of the rows that have one and are not masked.

    Raises:
        ModelError: if logits, target or mask do not fit.
    """
    rows(name, student, axis, classes)
    fits(name, "target", target, student, axis, torch.int64)
    known = target != UNLABELED
    if mask is not None:
        fits(name, "mask", mask, student, axis, torch.bool)
        known = known & mask
    return torch.where(known, target, 0), known


def of_label(values: Tensor, target: Tensor, axis: int) -> Tensor:
    """Of each row the element of its label.

    Raises:
        DataError: if a label is not one of the classes (found on the CPU; a GPU ends with its own error).

    Example:
        >>> of_label(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2]), 1)
        tensor([3.])
    """
    try:
        return values.gather(axis, target.unsqueeze(axis)).squeeze(axis)
    except (IndexError, RuntimeError):
        if bool(((target >= 0) & (target < values.shape[axis])).all()):
            raise
        raise unknown_labels(target, values.shape[axis]) from None


def others(values: Tensor, target: Tensor, axis: int) -> Tensor:
    """Of each row the C - 1 elements that are not its label's, in order.

    They are selected: a large number subtracted from the label's logit hides it only from smaller ones.

    Example:
        >>> others(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), torch.tensor([2, 0]), 1)
        tensor([[1., 2.],
                [2., 3.]])
    """
    shape = [1] * values.ndim
    shape[axis] = values.shape[axis] - 1
    place = torch.arange(values.shape[axis] - 1, device=values.device).reshape(shape)
    return values.gather(axis, place + (place >= target.unsqueeze(axis)))


def divergence(log_s: Tensor, log_t: Tensor, axis: int) -> Tensor:
    """Σ p_t (log p_t - log p_s) over an axis; fewer passes over dense maps than torch's ``kl_div``."""
    return (log_t.exp() * (log_t - log_s)).sum(dim=axis)


def bernoulli(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of two Bernoulli distributions from their logits, element by element.

    Example:
        >>> bernoulli(torch.tensor([0.0]), torch.tensor([0.0])), bernoulli(torch.tensor([0.0]), torch.tensor([99.0]))
        (tensor([0.]), tensor([0.6931]))
    """
    yes = functional.logsigmoid(teacher)
    no = functional.logsigmoid(-teacher)
    return yes.exp() * (yes - functional.logsigmoid(student)) + no.exp() * (no - functional.logsigmoid(-student))
