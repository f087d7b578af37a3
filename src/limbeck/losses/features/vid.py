"""Variational information distillation: how much a student's layer says about the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import ModelError, RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.shapes import by_channel, dimensions, mean_square, same_positions, same_samples, smaller, wide

LEAST = 1e-5


@compares("each_stage", same=False, weight=1.0)
class VID(nn.Module):
    """Negative log-likelihood of the teacher's feature, given the student's, under a Gaussian that is learned along.

    ``mean over the elements of a sample of ((F_t - μ(F_s))² / σ²_c + log σ²_c) / 2``: a bound on mutual information.
    μ is three 1 x 1 convolutions without bias, as wide as the teacher, with ReLU between; ``σ²_c = softplus(a_c) +
    1e-5`` is one variance for each channel of the teacher. Both are trained with the student, and not shipped. The
    constant ``log(2π) / 2`` is left out. The larger feature map is average-pooled to the smaller.

    Args:
        student_shape: shape of the student's feature without the batch: ``(C, H, W)``, ``(N, D)`` or ``(D,)``.
        teacher_shape: the same of the teacher's; the numbers of channels may differ.
        variance: σ² at the start, above 1e-5.

    Raises:
        ModelError: if a shape is none of these.
        RecipeError: if the variance is too small.

    Source: Ahn, Hu, Damianou, Lawrence, Dai, CVPR 2019, arXiv:1904.05835.

    Example:
        >>> vid = VID((1, 1, 2), (1, 1, 2), variance=4.0)
        >>> for layer in vid.mean.parameters():
        ...     _ = nn.init.ones_(layer)  # μ(F_s) = F_s where F_s ≥ 0
        >>> f_s, f_t = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, 2.0]]]])
        >>> vid(f_s, f_t).detach()  # ((4 / 4 + ln 4) + (0 / 4 + ln 4)) / 2 / 2
        tensor([0.9431])
    """

    def __init__(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, variance: float = 5.0) -> None:
        super().__init__()
        if not variance > LEAST:
            raise RecipeError(f"vid.variance is {variance}, expected a number above {LEAST}")
        narrow, width = _channels(student_shape), _channels(teacher_shape)
        self.mean = nn.Sequential(
            nn.Conv2d(narrow, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        start = variance - LEAST
        raw = start + math.log(-math.expm1(-start))  # softplus⁻¹(start)
        self.raw_variance = nn.Parameter(torch.full((width,), raw))

    def variance(self) -> Tensor:
        """σ² of each channel of the teacher, ``[C]``."""
        return functional.softplus(self.raw_variance) + LEAST

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            student: feature ``[B, C, H, W]``, tokens ``[B, N, D]`` or vectors ``[B, D]``.
            teacher: feature of the same kind, of any number of channels; a constant, no gradient reaches it.

        Returns:
            Nats for each element, ``[B]``, not reduced over the samples, float32 (float64 for float64 features). It can
            be negative, and is not 0 where the features are equal.

        Raises:
            ModelError: if the samples or positions differ, or the features are not of the shapes it was made for.
        """
        same_samples("vid", student, teacher)
        for feature in (student, teacher):
            dimensions("vid", feature, (2, 3, 4))
        student, teacher = (by_channel(feature) for feature in smaller(wide(student), wide(teacher.detach())))
        same_positions("vid", student, teacher)
        made = (self.mean[0].in_channels, len(self.raw_variance))
        if (student.shape[1], teacher.shape[1]) != made:
            raise ModelError(
                f"loss 'vid' was made for {made[0]} channels of the student and {made[1]} of the teacher; it was given "
                f"{student.shape[1]} and {teacher.shape[1]}",
                cure="make it from the shapes of the layers that it compares",
            )
        row = student.unsqueeze(2).to(self.raw_variance.dtype)  # positions in one row: channels-last if the map was
        expected = self.mean(row).squeeze(2)
        squares = mean_square(teacher - expected, (2,))  # one variance for a channel: divide once for all positions
        variance = self.variance()
        return 0.5 * (squares / variance + variance.log()).mean(1)


def _channels(shape: Sequence[int]) -> int:
    if len(shape) not in (1, 2, 3):
        raise ModelError(
            f"loss 'vid' takes features of shape (C, H, W), (N, D) or (D,) without the batch; one is {tuple(shape)}",
            cure="take another layer with 'at'",
        )
    return shape[-1] if len(shape) == 2 else shape[0]
