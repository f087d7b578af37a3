"""What losses check about what they are given; shapes are known without reading a value, so this costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import ModelError


def same_shape(name: str, student: Tensor, teacher: Tensor, *, axis: int = 1) -> None:
    """Refuse a student and a teacher whose outputs differ in shape.

    Raises:
        ModelError: naming both shapes and what differs.
    """
    if student.shape == teacher.shape:
        return
    if student.ndim != teacher.ndim or student.shape[0] != teacher.shape[0]:
        cure = "give both models the same samples, and logits of the same kind: [B, C], or [B, C, H, W]"
    elif student.shape[axis] != teacher.shape[axis]:
        cure = "build both models with the same classes in the same order"
    else:
        cure = "resize the logits of one to the size of the other before the loss"
    raise ModelError(
        f"loss '{name}' compares tensors of one shape; the student gave {tuple(student.shape)}, "
        f"the teacher {tuple(teacher.shape)}",
        cure=cure,
    )


def several_classes(name: str, logits: Tensor, axis: int) -> None:
    """Refuse a single logit: the softmax over it is 1 whatever it is, so that the loss would teach nothing.

    Raises:
        ModelError: naming the shape.
    """
    if logits.shape[axis] < 2:
        raise ModelError(
            f"loss '{name}' takes a softmax over axis {axis}, which holds one logit in {tuple(logits.shape)}: "
            "it would be 0 for any output",
            cure="a head of one logit z is the two classes with logits (0, z): torch.cat([0 * z, z], dim=1)",
        )


def fits(name: str, what: str, given: Tensor, logits: Tensor, axis: int, dtype: torch.dtype) -> None:
    """Refuse a target or mask that does not have one element for each row of logits.

    Raises:
        ModelError: naming both shapes, or both types.
    """
    rows = without(logits.shape, axis)
    if tuple(given.shape) != rows:
        raise ModelError(
            f"loss '{name}' takes a {what} of shape {rows} for logits {tuple(logits.shape)} with classes on axis "
            f"{axis}; it is {tuple(given.shape)}",
            cure=f"give one {what} element for each row of logits, and the axis of the classes",
        )
    if given.dtype != dtype:
        raise ModelError(f"loss '{name}' takes a {what} of {dtype}, found {given.dtype}", cure=f"convert it to {dtype}")


def without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """A shape with one axis left out.

    Example:
        >>> without((8, 10, 4, 4), 1)
        (8, 4, 4)
    """
    kept = list(shape)
    del kept[axis]
    return tuple(kept)


def wide(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are: half precision can not hold a softmax's tail."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
