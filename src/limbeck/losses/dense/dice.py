"""Soft Dice: how much of each class's area the student's probabilities and the labels share."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import labeled, of_label, visible
from limbeck.losses.shapes import dimensions


@compares("logits", invariant=("shift",), dense=True)
def dice(
    student: Tensor,
    *,
    target: Tensor,
    smooth: float = 1.0,
    absent: bool = False,
    background: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Soft Dice loss of each image: one minus the overlap of probabilities and labels, averaged over classes.

    ``1 - (2 I_c + e) / (P_c + Y_c + e)`` of each class c, ``p = softmax(z)`` over the classes: I_c adds p(c) over the
    pixels that are labeled c, P_c over all pixels, and Y_c counts the pixels that are labeled c. The sums are over the
    image's own pixels; over the batch's: :func:`dice_batch`. The paper's denominator adds the squares of p; this is the
    form without them, which most programs have.

    A class that no pixel of the image is labeled as has no overlap to speak of. It is left out of the mean by default;
    with ``absent`` it counts as ``P_c / (P_c + e)``, 0 only if no probability is given to it. So it is neither perfect
    whatever the student says, as in segmentation_models_pytorch, nor lost whatever it says, as with e = 0.

    Args:
        student: logits ``[B, C, H, W]``, C ≥ 2.
        target: int64 ``[B, H, W]``; -1 means no label: such a pixel is in none of the sums.
        smooth: e ≥ 0, in pixels.
        absent: whether classes count that the image does not have.
        background: number of a class that is left out of the mean; its pixels still count as what the others are not.
        mask: bool ``[B, H, W]``; where it is False a pixel is in none of the sums.

    Returns:
        A pure number ``[B]``, 0 to 1, mean over classes, float32 (float64 for float64 logits). 0, with a graph, for an
        image without a class that counts, be it that it has no label at all, or the background's alone. The objective
        leaves out images without a label; one of background alone counts as 0.

    Raises:
        ModelError: if shapes or the target's type do not fit the logits.
        DataError: if a label is not one of the classes (found on the CPU; a GPU ends with its own error).
        RecipeError: if a hyperparameter is out of range.

    Source: Milletari, Navab, Ahmadi (V-Net), 3DV 2016, arXiv:1606.04797.

    Example:
        >>> z = torch.zeros(1, 2, 1, 3)  # ½ for each class at each pixel
        >>> dice(z, target=torch.tensor([[[0, 0, 1]]]))  # 1 - (2 · 1 + 1) / (1½ + 2 + 1), 1 - 2 / 3½
        tensor([0.3810])
        >>> dice(z, target=torch.tensor([[[0, 0, -1]]]))  # of class 0: 1 - (2 · 1 + 1) / (1 + 2 + 1)
        tensor([0.2500])
    """
    return _mean("dice", _sums("dice", student, target, mask), smooth, absent, background)


@compares("logits", relational=True, invariant=("shift",), dense=True, summed=True)
def dice_batch(
    student: Tensor,
    *,
    target: Tensor,
    smooth: float = 1.0,
    absent: bool = False,
    background: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Soft Dice loss of a batch: :func:`dice` with the sums over all of its pixels.

    A rare class then counts in every batch that has it, by its pixels and not by its images. The batch's value is no
    mean of values of its parts, so that a batch that is computed in pieces is refused; several processes join theirs.

    Args:
        student, target, smooth, absent, background, mask: as of :func:`dice`, "the image" being the batch.

    Returns:
        A scalar, 0 to 1; 0, with a graph, without a class that counts; float32 (float64 for float64 logits).

    Raises:
        ModelError, DataError, RecipeError: as :func:`dice`.

    Source: Milletari, Navab, Ahmadi (V-Net), 3DV 2016, arXiv:1606.04797.

    Example:
        >>> z = torch.zeros(2, 2, 1, 3)
        >>> dice_batch(z, target=torch.tensor([[[0, 0, 1]], [[-1, -1, -1]]]))
        tensor(0.3810)
        >>> dice_batch(z, target=torch.tensor([[[0, 0, 1]], [[1, 1, 1]]]), background=1)  # 1 - 3 / (3 + 2 + 1)
        tensor(0.5000)
    """
    both, given, labels = (one.sum(0, keepdim=True) for one in _sums("dice_batch", student, target, mask))
    return _mean("dice_batch", (both, given, labels), smooth, absent, background)[0]


def _sums(name: str, student: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """I, P and Y of each image and class: ``[B, C]`` each."""
    dimensions(name, student, (4,))
    found, known = labeled(name, target, student, axis=1, mask=mask)
    p = torch.softmax(visible(name, student, 1, known), 1)
    right = of_label(p, found, 1).unsqueeze(1)
    every = torch.arange(student.shape[1], device=target.device).view(1, -1, 1, 1)
    own = (found.unsqueeze(1) == every) & known.unsqueeze(1)  # added up in one order on any device, not scattered
    both, given = torch.where(own, right, 0.0).sum((2, 3)), torch.where(known.unsqueeze(1), p, 0.0).sum((2, 3))
    return both, given, own.sum((2, 3)).to(p.dtype)


def _mean(
    name: str, sums: tuple[Tensor, Tensor, Tensor], smooth: float, absent: bool, background: int | None
) -> Tensor:
    """The mean of one minus the overlap over the classes that count, of each row."""
    if not 0 <= smooth < float("inf"):
        raise RecipeError(f"{name}.smooth is {smooth}, expected a finite number of at least 0")
    if absent and not smooth:
        raise RecipeError(
            f"{name}.smooth is 0 and absent classes count: such a class would be lost whatever the student says",
            cure="give smooth a number above 0, or leave absent out",
        )
    both, given, labels = sums
    classes = labels.shape[1]
    if background is not None and (type(background) is not int or not 0 <= background < classes):
        raise RecipeError(f"{name}.background is {background!r}, expected the number of a class, 0 to {classes - 1}")
    there = labels > 0
    counted = there.any(1, keepdim=True).expand_as(there) if absent else there
    if background is not None:
        counted = counted & (torch.arange(classes, device=labels.device) != background)
    below = torch.where(counted, given + labels + smooth, 1.0)  # 0 only where nothing counts
    lost = torch.where(counted, 1 - (2 * both + smooth) / below, 0.0)
    return lost.sum(1) / counted.sum(1).clamp(min=1)
