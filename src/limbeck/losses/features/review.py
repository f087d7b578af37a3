"""Knowledge review: a student's stages, each fused with the deeper ones, are led to the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import ModelError, RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.shapes import dimensions, fits_samples, pooled, same_samples, smaller, wide

LEVELS = (4, 2, 1)


@compares("all_stages", same=False, weight=5.0)
class ReviewKD(nn.Module):
    """Hierarchical context loss between the teacher's stages and the student's, fused from the deepest to the first.

    A stage of the student goes through a 1 x 1 convolution with batch norm to a common width m. The fused stage below,
    at this one's size (nearest neighbor), is joined to it by attention: two maps ``a, b = sigmoid(1 x 1 convolution of
    both)`` weigh ``a·stage + b·fused``, which is handed on, and by a 3 x 3 convolution with batch norm compared with
    the teacher's stage: ``Σ over the stages of [d(0) + Σ w_l d(l)] / (1 + Σ w_l)``, where ``d(0)`` is the mean squared
    difference, ``d(l)`` that of the maps average-pooled to l x l for l = 4, 2, 1 smaller than the map, and w_l is 1/2
    for the first of these that is used, then half of the one before.

    m is the width of the student's deepest stage, 512 at most. These modules are trained with the student and not
    shipped. The published weights belong to this sum with the pooled vectors as one more stage, which ``at`` may name
    (``fc:input``; vectors are maps of 1 x 1): 5 for WRN-40-2 → 16-2 and ResNet-32x4 → 8x4 on CIFAR-100, 8 for
    ShuffleNetV2, 1 for ResNet-110 → 32, 0.6 for 56 → 20; all with a warm-up of 20 epochs
    (``schedule={"warmup": 20}``).

    Args:
        student_shape: shapes of the student's stages without the batch, shallow to deep: ``(C, H, W)`` or ``(D,)``.
        teacher_shape: the same of the teacher's stages, as many; a larger map is average-pooled to the smaller.
        middle: the largest m.

    Raises:
        ModelError: if the numbers of stages differ, or a shape is none of these.
        RecipeError: if ``middle`` is not positive.

    Source: Chen, Liu, Zhao, Jia, CVPR 2021, arXiv:2104.09044.

    Example:
        >>> review = ReviewKD([(1, 2, 2)], [(1, 2, 2)]).eval()
        >>> f_s, f_t = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
        >>> review([f_s], [f_t]).detach()  # a new norm leaves 0 as it is: (12.5 + 1/2 · 3²) / (1 + 1/2)
        tensor([11.3333])
    """

    def __init__(
        self,
        student_shape: Sequence[Sequence[int]],
        teacher_shape: Sequence[Sequence[int]],
        *,
        middle: int = 512,
    ) -> None:
        super().__init__()
        if middle < 1:
            raise RecipeError(f"review.middle is {middle}, expected a number of channels, 1 at least")
        _as_many(student_shape, teacher_shape)
        own, theirs = ([_width(shape) for shape in shapes] for shapes in (student_shape, teacher_shape))
        middle = min(middle, own[-1])
        last = len(own) - 1
        self.stages = nn.ModuleList(
            _Stage(width, middle, out, fuses=number < last)
            for number, (width, out) in enumerate(zip(own, theirs, strict=True))
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: Tensor | None = None) -> Tensor:
        """The loss of each sample.

        The norms' statistics are those of the batch in training mode; a channel of a single element is normalized by
        the running ones.

        Args:
            student: feature maps ``[B, C, H, W]`` or vectors ``[B, D]``, one for each stage, shallow to deep.
            teacher: as many; constants, no gradient reaches them.
            mask: bool ``[B]``; samples where it is False are left out of the norms' statistics, and have the loss 0.

        Returns:
            Squared units of the teacher's features ``[B]``, not reduced over the samples, float32 (float64 for float64
            features).

        Raises:
            ModelError: if the stages or the samples do not fit, or the mask.
        """
        _as_many(student, teacher)
        if len(student) != len(self.stages):
            raise ModelError(
                f"loss 'review' was made for {len(self.stages)} stages; it was given {len(student)}",
                cure="make it from the shapes of the layers that it compares",
            )
        own, theirs = [_map(one) for one in student], [_map(one.detach()) for one in teacher]
        for mine, their in zip(own, theirs, strict=True):
            same_samples("review", mine, their)
        if mask is None:
            return self._compare(own, theirs)
        fits_samples("review", mask, own[0])
        own, theirs = [one[mask] for one in own], [one[mask] for one in theirs]
        if len(own[0]):
            value = self._compare(own, theirs)
        else:
            value = torch.stack([one.flatten(1).sum(1) for one in own]).sum(0)  # no values, but a graph
        whole = torch.zeros(len(mask), dtype=value.dtype, device=value.device)
        whole[mask] = value
        return whole

    def _compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        fused: Tensor | None = None
        values = []
        for stage, own, theirs in zip(reversed(self.stages), reversed(student), reversed(teacher), strict=True):
            out, fused = stage(own, fused)
            if out.shape[1] != theirs.shape[1]:
                raise ModelError(
                    f"loss 'review' was made for {out.shape[1]} channels of the teacher; it was given "
                    f"{theirs.shape[1]}",
                    cure="make it from the shapes of the layers that it compares",
                )
            values.append(_context(out, theirs))
        return torch.stack(values).sum(0)


class _Stage(nn.Module):
    """One stage: brought to the common width, fused with the deeper ones, brought to the teacher's width."""

    def __init__(self, width: int, middle: int, out: int, *, fuses: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(width, middle, 1, bias=False), _Norm(middle))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        self.leave = nn.Sequential(nn.Conv2d(middle, out, 3, padding=1, bias=False), _Norm(out))

    def forward(self, feature: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        entry = cast(nn.Conv2d, self.enter[0])
        if feature.shape[1] != entry.in_channels:
            raise ModelError(
                f"loss 'review' was made for {entry.in_channels} channels of the student; it was given "
                f"{feature.shape[1]}",
                cure="make it from the shapes of the layers that it compares",
            )
        own = self.enter(feature.to(entry.weight.dtype))
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, own.shape[2:], mode="nearest")
            share = self.attention(torch.cat([own, deeper], dim=1)).sigmoid()
            own = share[:, :1] * own + share[:, 1:] * deeper
        return self.leave(own), own


class _Norm(nn.BatchNorm2d):
    """Batch norm that takes the running statistics where a channel has one element, which has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x[:, 0].numel() == 1:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


def _context(student: Tensor, teacher: Tensor) -> Tensor:
    """Hierarchical context loss of two maps of one width, ``[B]``: their difference as it is, and pooled."""
    student, teacher = smaller(student, teacher)
    difference = student - teacher
    height, width = difference.shape[2:]
    value, total, weight = difference.square().mean((1, 2, 3)), 1.0, 1.0
    for level in LEVELS:
        if level < max(height, width):
            weight /= 2
            total += weight
            coarse = pooled(difference, (min(level, height), min(level, width)))  # pooling is linear
            value = value + weight * coarse.square().mean((1, 2, 3))
    return value / total


def _as_many(student: Sequence[Any], teacher: Sequence[Any]) -> None:
    if len(student) != len(teacher) or not student:
        raise ModelError(
            f"loss 'review' compares stage by stage; the student has {len(student)}, the teacher {len(teacher)}",
            cure="name pairs of layers with 'at', shallow to deep",
        )


def _width(shape: Sequence[int]) -> int:
    if len(shape) not in (1, 3):
        raise ModelError(
            f"loss 'review' takes features of shape (C, H, W) or (D,) without the batch; this one is {tuple(shape)}",
            cure="take another layer with 'at'",
        )
    return shape[0]


def _map(feature: Tensor) -> Tensor:
    dimensions("review", feature, (2, 4))
    feature = wide(feature)
    return feature if feature.ndim == 4 else feature[:, :, None, None]
