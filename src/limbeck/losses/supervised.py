"""Losses against labels: the ground truth's, or a teacher's hard ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError
from limbeck.losses.declare import compares
from limbeck.losses.shapes import UNLABELED, fits, same_shape, several_classes, unknown_labels, wide


@compares("logits", invariant=("shift",))
def cross_entropy(
    student: Tensor,
    *,
    target: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Tensor | None = None,
    axis: int = 1,
) -> Tensor:
    """Cross-entropy with the labels, with label smoothing and class weights.

    With smoothing e, the label's share is ``1 - e + e/C`` and every other class has ``e/C`` (torch's convention; some
    papers give the others ``e/(C-1)``). A class weight multiplies the whole loss of its class's samples. The objective
    then divides by the number of labeled samples, not by the sum of their weights as torch does: weights whose mean
    over the samples is 1 keep the balance with the other terms.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: the loss is 0 there, and so is its gradient.
        label_smoothing: e in [0, 1).
        class_weights: C numbers of at least 0.
        axis: the class axis.

    Returns:
        Nats ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if shapes, the target's type or the number of weights do not fit the logits.
        DataError: if a label is not one of the classes (found on the CPU; a GPU ends with its own error).

    Source: label smoothing: Szegedy et al., 2016, arXiv:1512.00567.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]])
        >>> cross_entropy(z, target=torch.tensor([0, 1, -1]))
        tensor([0.6931, 2.1269, 0.0000])
    """
    several_classes("cross_entropy", student, axis)
    fits("cross_entropy", "target", target, student, axis, torch.int64)
    classes = student.shape[axis]
    if class_weights is not None and len(class_weights) != classes:
        raise ModelError(
            f"class_weights has {len(class_weights)} numbers for {classes} classes",
            cure="give one weight for each class, in the order of the classes",
        )
    logits = wide(student) if axis == 1 else wide(student).movedim(axis, 1)  # torch wants the classes there
    try:
        value = functional.cross_entropy(
            logits, target, reduction="none", ignore_index=UNLABELED, label_smoothing=label_smoothing
        )
    except IndexError:
        raise unknown_labels(target, classes) from None
    if class_weights is None:
        return value
    weights = torch.as_tensor(class_weights, dtype=value.dtype, device=value.device)
    return value * weights[target.clamp(min=0)]


@compares("logits", invariant=("shift",), largest=True)
def hard_labels(
    student: Tensor,
    teacher: Tensor,
    *,
    target: Tensor | None = None,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Tensor | None = None,
    axis: int = 1,
) -> Tensor:
    """Cross-entropy with the label where there is one, else with the teacher's most probable class.

    It is what a second control learns from where some images have no labels, so that the gain of *soft* targets is seen
    apart from the gain of more images.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        teacher: logits of the same shape; a constant.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label. None: no sample has one.
        label_smoothing, class_weights, axis: as of :func:`cross_entropy`.

    Returns:
        Nats ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError, DataError: as :func:`cross_entropy`; also if the shapes of student and teacher differ.

    Source: pseudo-labels: Lee, ICML 2013 workshop on challenges in representation learning.

    Example:
        >>> z_s, z_t = torch.tensor([[0.0, 2.0], [0.0, 2.0]]), torch.tensor([[9.0, 1.0], [9.0, 1.0]])
        >>> hard_labels(z_s, z_t, target=torch.tensor([1, -1]))
        tensor([0.1269, 2.1269])
    """
    same_shape("hard_labels", student, teacher, axis=axis)
    said = teacher.detach().argmax(dim=axis)
    if target is not None:
        fits("hard_labels", "target", target, student, axis, torch.int64)
        said = torch.where(target == UNLABELED, said, target)
    return cross_entropy(student, target=said, label_smoothing=label_smoothing, class_weights=class_weights, axis=axis)


TABLE: dict[str, Callable[..., Tensor]] = {"cross_entropy": cross_entropy, "hard_labels": hard_labels}

__all__ = ["cross_entropy", "hard_labels"]
