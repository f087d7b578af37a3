"""What losses check about the shapes they are given."""

from __future__ import annotations

from torch import Tensor

from limbeck.errors import ModelError


def same_shape(name: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse a student and a teacher whose outputs differ in shape.

    Raises:
        ModelError: naming both shapes.
    """
    if student.shape != teacher.shape:
        raise ModelError(
            f"loss '{name}' compares tensors of one shape; the student gave {tuple(student.shape)}, "
            f"the teacher {tuple(teacher.shape)}",
            cure="build both models with the same number of classes, in the same order",
        )
