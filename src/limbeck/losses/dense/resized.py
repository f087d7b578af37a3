"""Dense logits of student and teacher at one size."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.errors import ModelError
from limbeck.losses.shapes import dimensions, same_samples, wide


def at_students_size(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps in float32 or wider, the teacher's a constant, resized (bilinear) to the student's size if it differs.

    The student's is the size that labels and mask fit, and so no gradient goes through the resizing.

    Raises:
        ModelError: if they are no maps, or of different samples or channels.

    Example:
        >>> import torch
        >>> at_students_size("cwd", torch.zeros(1, 1, 1, 1), torch.arange(4.0).view(1, 1, 2, 2))[1]
        tensor([[[[1.5000]]]])
    """
    for maps in (student, teacher):
        dimensions(name, maps, (4,))
    same_samples(name, student, teacher)
    if student.shape[1] != teacher.shape[1]:
        raise ModelError(
            f"loss '{name}' compares channel by channel; the student's map is {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}",
            cure="build both models with the same classes in the same order; between layers, use an adapter",
        )
    student, teacher = wide(student), wide(teacher.detach())
    if student.shape == teacher.shape:
        return student, teacher
    return student, interpolate(teacher, size=student.shape[2:], mode="bilinear", align_corners=False)
