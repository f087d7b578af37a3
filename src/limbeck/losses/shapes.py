"""What losses check about what they are given, and the few ways they bring it into form.

Shapes are known without reading a value, so a check costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import DataError, ModelError

UNLABELED = -1


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
            cure="use bernoulli_kl; or make of a logit z two classes with logits (0, z): torch.cat([0 * z, z], dim=1)",
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


def fits_samples(name: str, mask: Tensor, feature: Tensor) -> None:
    """Refuse a mask that does not have one bool for each sample.

    Raises:
        ModelError: naming both shapes, or the type.
    """
    if mask.dtype != torch.bool or tuple(mask.shape) != (feature.shape[0],):
        raise ModelError(
            f"loss '{name}' takes a mask of one bool for each of the {feature.shape[0]} samples; it is "
            f"{tuple(mask.shape)} of {mask.dtype}",
            cure="give True for the samples that count",
        )


def unknown_labels(target: Tensor, classes: int) -> DataError:
    """What to say of labels that are not among the classes.

    Example:
        >>> unknown_labels(torch.tensor([0, 7, -1]), 5).what
        'labels [7] are not among the 5 classes, 0 to 4'
    """
    wrong = target[(target < UNLABELED) | (target >= classes)].unique().tolist()
    return DataError(
        f"labels {wrong[:5]} are not among the {classes} classes, 0 to {classes - 1}",
        cure=f"check the labels; {UNLABELED} stands for no label",
    )


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
    """Numbers in float32, or in float64 if they are: half precision holds no softmax's tail and no sum of squares."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def same_samples(name: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse features of different numbers of samples.

    Raises:
        ModelError: naming both shapes.
    """
    if student.ndim == 0 or teacher.ndim == 0 or student.shape[0] != teacher.shape[0]:
        raise ModelError(
            f"loss '{name}' compares the same samples; the student's feature is {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}",
            cure="give both models one batch, and take layers whose first axis is the sample",
        )


def same_features(name: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse features of different shapes, where a loss compares them element by element.

    Raises:
        ModelError: naming both shapes.
    """
    same_samples(name, student, teacher)
    if student.shape != teacher.shape:
        raise ModelError(
            f"loss '{name}' compares features of one shape; the student's is {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}",
            cure="let the term have an adapter (adapter='auto'), or take layers of one shape with 'at'",
        )


def dimensions(name: str, feature: Tensor, allowed: Sequence[int]) -> None:
    """Refuse a feature whose number of axes a loss can not read.

    Raises:
        ModelError: naming the shape and those that the loss takes.
    """
    if feature.ndim not in allowed:
        kinds = {2: "vectors [B, D]", 3: "tokens [B, N, D]", 4: "feature maps [B, C, H, W]"}
        raise ModelError(
            f"loss '{name}' takes {' or '.join(kinds[number] for number in sorted(allowed))}; "
            f"it was given {tuple(feature.shape)}",
            cure="take another layer with 'at'",
        )


def by_channel(feature: Tensor) -> Tensor:
    """Any feature as ``[B, C, positions]``: a map's places, the tokens, or one for a vector.

    Example:
        >>> [tuple(by_channel(torch.zeros(s)).shape) for s in ((2, 16, 8, 8), (2, 65, 192), (2, 64))]
        [(2, 16, 64), (2, 192, 65), (2, 64, 1)]
    """
    if feature.ndim == 3:
        return feature.transpose(1, 2)
    return feature.flatten(2) if feature.ndim > 2 else feature.unsqueeze(2)


def smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two feature maps at one size: along each axis the larger is average-pooled to the smaller.

    Anything else than two maps ``[B, C, H, W]``, and two maps of one size, is given back as it is.

    Example:
        >>> s, t = smaller(torch.zeros(1, 2, 1, 1), torch.arange(4.0).view(1, 1, 2, 2))
        >>> t  # (0 + 1 + 2 + 3) / 4
        tensor([[[[1.5000]]]])
    """
    if student.ndim != 4 or teacher.ndim != 4:
        return student, teacher
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return pooled(student, size), pooled(teacher, size)


def pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Feature maps average-pooled to a height and a width.

    Example:
        >>> pooled(torch.arange(4.0).view(1, 1, 2, 2), (1, 2))  # (0 + 2) / 2, (1 + 3) / 2
        tensor([[[[1., 2.]]]])
    """
    height, width = maps.shape[2:]
    if (height, width) == size:
        return maps
    if height % size[0] == 0 and width % size[1] == 0:  # the same, and on a GPU its gradient is the same each time
        return functional.avg_pool2d(maps, (height // size[0], width // size[1]))
    return functional.adaptive_avg_pool2d(maps, size)


def same_positions(name: str, student: Tensor, teacher: Tensor, *, least: int = 1) -> None:
    """Refuse features (as :func:`by_channel` gives them) of different numbers of positions, or of too few.

    Raises:
        ModelError: naming both numbers.
    """
    ours, theirs = student.shape[2], teacher.shape[2]
    if ours != theirs:
        raise ModelError(
            f"loss '{name}' compares position by position; the student's feature has {ours}, the teacher's {theirs}",
            cure="let the term have an adapter (adapter='auto'), or take two feature maps, or tokens of one number",
        )
    if ours < least:
        raise ModelError(
            f"loss '{name}' compares how a feature is spread over at least {least} positions; this one has {ours}: "
            "it would be 0 for any output",
            cure="take earlier layers with 'at', before the pooling",
        )


def unit(rows: Tensor, tiny: float | Tensor = 1e-12) -> Tensor:
    """Rows (last axis) of length 1; a row with no element above ``tiny`` is taken for zero, and given back about 0.

    Dividing by the largest element first keeps squares from overflowing, and the gradient at a row of zeros stays that
    of dividing by about 1: it is neither NaN nor 1e12 times too large.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [3e30, 4e30], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    largest = rows.detach().abs().amax(-1, keepdim=True)
    zero = largest <= tiny
    scaled = rows / torch.where(zero, 1.0, largest)  # a constant: the direction does not depend on it
    return scaled * scaled.square().sum(-1, keepdim=True).clamp(min=0.5).rsqrt()  # 1 at least, but for zeros


def gram(rows: Tensor) -> Tensor:
    """Products of all rows of a sample with each other: ``[B, R, n]`` to ``[B, R, R]``.

    Example:
        >>> gram(torch.tensor([[[1.0, 2.0], [0.0, 3.0]]]))
        tensor([[[5., 6.],
                 [6., 9.]]])
    """
    return _Gram.apply(rows)


class _Gram(torch.autograd.Function):
    """``X Xᵀ`` with one product in its backward, ``(G + Gᵀ) X``, where autograd would take two.

    A gradient that lies in memory as the feature does needs no copy on its way back.
    """

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        return rows @ rows.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        both = gradient + gradient.mT
        return both @ rows if rows.is_contiguous() else (rows.mT @ both).mT


def mean_square(feature: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """The mean of the squares over some axes, or over all but the first.

    Example:
        >>> mean_square(torch.tensor([[3.0, 1.0], [2.0, 0.0]]))  # (9 + 1) / 2, (4 + 0) / 2
        tensor([5., 2.])
    """
    axes = tuple(range(1, feature.ndim)) if axes is None else axes
    return _MeanSquare.apply(feature, axes) if axes else feature.square()


class _MeanSquare(torch.autograd.Function):
    """Its gradient is one product that lies in memory as the feature does; autograd takes three in another order."""

    @staticmethod
    def forward(feature: Tensor, axes: tuple[int, ...]) -> Tensor:
        return feature.square().mean(axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        feature, ctx.axes = inputs
        ctx.save_for_backward(feature)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (feature,) = ctx.saved_tensors
        for axis in sorted(ctx.axes):
            gradient = gradient.unsqueeze(axis)
        return feature * (gradient * (2 * gradient.numel() / max(1, feature.numel()))), None


def products(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Products of all rows of the student's with each other, and with those of the teacher, which is a constant.

    Example:
        >>> s, t = torch.tensor([[[1.0, 2.0], [0.0, 3.0]]]), torch.tensor([[[1.0, 1.0]]])
        >>> [one.tolist() for one in products(s, t)]
        [[[[5.0, 6.0], [6.0, 9.0]]], [[[3.0], [3.0]]]]
    """
    return _Products.apply(student, teacher)


class _Products(torch.autograd.Function):
    """Two products in its backward, the second added to the first; in the order in which the student's rows lie."""

    @staticmethod
    def forward(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return student @ student.mT, student @ teacher.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, own: Tensor, cross: Tensor) -> tuple[Tensor, None]:
        student, teacher = ctx.saved_tensors
        own = own + own.mT
        if student.is_contiguous():
            return torch.baddbmm(cross @ teacher, own, student), None
        return torch.baddbmm(teacher.mT @ cross.mT, student.mT, own).mT, None
