"""Losses against labels: the ground truth's, or a teacher's hard ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError
from limbeck.losses.shapes import same_shape

UNLABELED = -1


def cross_entropy(
    student: Tensor,
    *,
    target: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """Cross-entropy with the labels, with label smoothing and class weights.

    The label's share is ``1 - e + e/C`` and every other class has ``e/C`` (torch's convention). A class weight
    multiplies the loss of its class's samples; the mean is taken over labeled samples, not over weights, so weights
    whose mean over the samples is 1 keep the balance with other terms.

    Args:
        student: logits ``[B, C]`` or ``[B, C, H, W]``.
        target: int64 ``[B]`` or ``[B, H, W]``; -1 means no label: the loss is 0 there, and so is its gradient.
        label_smoothing: e in [0, 1).
        class_weights: C positive numbers.

    Returns:
        ``[B]`` or ``[B, H, W]``, not reduced, float32 (float64 for float64 logits).

    Raises:
        ModelError: if a label or the number of weights does not fit the logits.

    Source: label smoothing: Szegedy et al., 2016, arXiv:1512.00567.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]])
        >>> cross_entropy(z, target=torch.tensor([0, 1, -1]))
        tensor([0.6931, 2.1269, 0.0000])
    """
    classes = student.shape[1]
    if class_weights is not None and len(class_weights) != classes:
        raise ModelError(f"class_weights has {len(class_weights)} numbers for {classes} classes")
    logits = student.to(torch.promote_types(student.dtype, torch.float32))
    if class_weights is None:
        return functional.cross_entropy(
            logits, target, reduction="none", ignore_index=UNLABELED, label_smoothing=label_smoothing
        )
    weights = torch.as_tensor(class_weights, dtype=logits.dtype, device=logits.device)
    plain = cross_entropy(student, target=target, label_smoothing=label_smoothing)
    return plain * weights[target.clamp(min=0)]


def hard(student: Tensor, teacher: Tensor, *, target: Tensor) -> Tensor:
    """Cross-entropy with the label where there is one, else with the teacher's most probable class.

    It is what a second control learns from where some images have no labels, so that the gain of *soft* targets is seen
    apart from the gain of more images.

    Args:
        student: logits ``[B, C]``.
        teacher: logits ``[B, C]``.
        target: int64 ``[B]``; -1 means no label.

    Returns:
        ``[B]``, not reduced.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
        >>> hard(z, torch.tensor([[9.0, 1.0], [9.0, 1.0]]), target=torch.tensor([1, -1]))
        tensor([0.6931, 0.6931])
    """
    same_shape("hard", student, teacher)
    return cross_entropy(student, target=torch.where(target < 0, teacher.argmax(dim=1), target))
