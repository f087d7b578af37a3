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
    """Rows divided by a power of two that brings their largest element to 1/2 to 1: no square overflows or vanishes.

    For what does not depend on the scale of all rows together. A power of two rounds nothing: rows that nearly agree
    keep their difference.

    Example:
        >>> sized(torch.tensor([[0.0, 12.0], [6.0, 1.0]]))
        tensor([[0.0000, 0.7500],
                [0.3750, 0.0625]])
    """
    exponent = torch.frexp(rows.detach().abs().amax()).exponent.clamp(-126, 126)
    return rows * torch.ldexp(torch.ones_like(exponent, dtype=rows.dtype), -exponent)
