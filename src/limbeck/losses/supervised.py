"""Losses against labels: the ground truth's, or a teacher's hard ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError, RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import labeled, of_label, visible
from limbeck.losses.shapes import UNLABELED, fits, same_shape, several_classes, unknown_labels, wide

SMALLEST = 1e-12  # a chance of another class below it is taken for this


@compares("logits", invariant=("shift",), pixels=True)
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
    logits = wide(student) if axis == 1 else wide(student).movedim(axis, 1)  # torch wants the classes there
    try:
        value = functional.cross_entropy(
            logits, target, reduction="none", ignore_index=UNLABELED, label_smoothing=label_smoothing
        )
    except IndexError:
        raise unknown_labels(target, classes) from None
    return value if class_weights is None else value * _of_class(class_weights, target, classes, value)


def _of_class(class_weights: Sequence[float] | Tensor, target: Tensor, classes: int, like: Tensor) -> Tensor:
    """The weight of each label's class; of no label: any.

    Raises:
        ModelError: if there is not one weight for each class.
    """
    if len(class_weights) != classes:
        raise ModelError(
            f"class_weights has {len(class_weights)} numbers for {classes} classes",
            cure="give one weight for each class, in the order of the classes",
        )
    return torch.as_tensor(class_weights, dtype=like.dtype, device=like.device)[target.clamp(min=0)]


@compares("logits", invariant=("shift",), pixels=True)
def focal(
    student: Tensor,
    *,
    target: Tensor,
    gamma: float = 2.0,
    class_weights: Sequence[float] | Tensor | None = None,
    axis: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Focal loss: cross-entropy that counts for less where the label is already probable.

    ``-a(y) (1 - p(y))^γ log p(y)`` with ``p = softmax(z)`` over the classes, and a the class weights. The paper states
    it for two classes and a sigmoid, which is this with the logits (0, z). segmentation_models_pytorch's
    ``multiclass`` mode is another loss: C sigmoids, one class against the rest each, added up.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``, C ≥ 2.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: value and gradient are 0 there.
        gamma: γ ≥ 0; 0 is cross-entropy.
        class_weights: C numbers of at least 0, as of :func:`cross_entropy`.
        axis: the class axis.
        mask: bool ``[B]`` or ``[B, H, W]``; where it is False value and gradient are 0.

    Returns:
        Nats ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits). The objective divides by the
        number of labels, as of :func:`cross_entropy`; the paper, on detection, by the number of anchors with an object.

    Raises:
        ModelError: if shapes, the target's type or the number of weights do not fit the logits.
        DataError: if a label is not one of the classes.
        RecipeError: if γ is below 0.

    Source: Lin, Goyal, Girshick, He, Dollár, ICCV 2017, arXiv:1708.02002; there γ 2.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [0.0, 2.0], [5.0, 1.0]])
        >>> focal(z, target=torch.tensor([0, 0, -1]))  # ½² ln 2; p = .1192: .8808² · 2.1269
        tensor([0.1733, 1.6501, 0.0000])
    """
    if not 0 <= gamma < float("inf"):
        raise RecipeError(f"focal.gamma is {gamma}, expected a finite number of at least 0")
    found, known = labeled("focal", target, student, axis=axis, mask=mask)
    log_p = of_label(torch.log_softmax(visible("focal", student, axis, known), axis), found, axis)
    # Of a root (γ < 1) the slope at 0 is infinite. -expm1 keeps the digits of 1 - p where p is nearly 1.
    value = -((-torch.expm1(log_p)).clamp(min=SMALLEST) ** gamma) * log_p
    if class_weights is not None:
        value = value * _of_class(class_weights, found, student.shape[axis], value)
    return torch.where(known, value, 0.0)


@compares("logits", invariant=("shift",), largest=True, pixels=True)
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


TABLE: dict[str, Callable[..., Tensor]] = {"cross_entropy": cross_entropy, "focal": focal, "hard_labels": hard_labels}

__all__ = ["cross_entropy", "focal", "hard_labels"]
