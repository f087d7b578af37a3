"""What the losses between samples share: the rows that are compared, and their size."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.losses.shapes import dimensions, fits_samples, same_samples, wide


def both(name: str, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Features of student and teacher as rows ``[B, …]``, float32 or wider, without masked samples.

    Masked samples are left out by selection: whatever they hold, no gradient reaches them.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.
    """
    same_samples(name, student, teacher)
    for feature in (student, teacher):
        dimensions(name, feature, (2, 3, 4))
    student, teacher = wide(student).flatten(1), wide(teacher.detach()).flatten(1)
    if mask is None:
        return student, teacher
    fits_samples(name, mask, student)
    return student[mask], teacher[mask]


def sized(rows: Tensor) -> Tensor:
    """Rows divided by their largest element, a constant: squares neither overflow nor vanish.

    For what does not depend on the scale of all rows together.

    Example:
        >>> sized(torch.tensor([[0.0, 3e30], [1.5e30, 0.0]]))
        tensor([[0.0000, 1.0000],
                [0.5000, 0.0000]])
    """
    largest = rows.detach().abs().amax()
    return rows / torch.where(largest > 0, largest, 1.0)
