"""The one reduction of a term's loss: over what counts, over both labels of a mixed sample, exact over pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.data.batch import Mixed
from limbeck.errors import ModelError, RecipeError
from limbeck.losses import TABLE
from limbeck.objective.links import Gather
from limbeck.objective.terms import Term
from limbeck.outputs import Outputs


def sides(target: Any, mixed: Mixed | None) -> list[tuple[Any, Tensor | None]]:
    """The labels that samples have, each with its share of the sample; None: the whole.

    Example:
        >>> sides(0, Mixed(torch.tensor([1]), torch.tensor([0.75])))
        [(0, tensor([0.7500])), (tensor([1]), tensor([0.2500]))]
    """
    if mixed is None or target is None:
        return [(target, None)]
    return [(target, mixed.share), (mixed.partner, 1 - mixed.share)]


def shared(value: Tensor, share: Tensor | None) -> Tensor:
    """A value of each sample, or of each of its elements, times the sample's share.

    Example:
        >>> shared(torch.tensor([[4.0, 2.0]]), torch.tensor([0.5]))
        tensor([[2., 1.]])
    """
    if share is None:
        return value
    each = share.reshape(-1, *[1] * (value.ndim - 1))
    return value * (each.to(value.dtype) if value.is_floating_point() else each)


def of_samples(kept: Tensor) -> Tensor:
    """Of each sample, whether any of its elements is kept.

    Example:
        >>> of_samples(torch.tensor([[[True, False]], [[False, False]]]))
        tensor([ True, False])
    """
    return kept.flatten(1).any(1) if kept.ndim > 1 else kept


def reduced(
    one: Term,
    student: Outputs,
    teacher: Outputs | None,
    target: Tensor | None,
    mixed: Mixed | None,
    counts: Mapping[str, Tensor] | None,
    *,
    index: Tensor | None,
    mask: Tensor | None,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor]:
    """A term's loss for each sample, detached, and its mean over what counts.

    A loss that takes a ``target`` is computed for both labels of mixed samples and added by their shares.

    Raises:
        ModelError: if the loss has no element for each sample where one is needed.
    """
    values, means = [], []
    for labels, share in sides(target, mixed if "target" in one.declared else None):
        value = one(student, teacher, target=labels, index=index, mask=mask, gather=gather)
        if value.ndim == 0 and share is not None:
            raise ModelError(
                f"term '{one.name}' compares whole batches by their labels, and mixed samples have two",
                cure="leave mixup and cutmix out, or this term",
            )
        _hides(one, value, mask)
        if value.ndim == 0 and gather is not None and one.compares.relational:
            _whole(one, gather.samples, counts)
            means.append(_of_all(value, len(student.logits), gather.samples, counts))
        elif value.ndim == 0:
            means.append(_of_piece(one, value, len(student.logits), mask, counts))
        else:
            means.append(_mean(one, value, len(student.logits), labels, share, mask, counts))
        values.append(shared(value.detach(), share))
    return sum(values[1:], values[0]), sum(means[1:], means[0])


def in_pieces(one: Term, pieces: str) -> RecipeError:
    """That a term's value is not to be had of pieces of a batch."""
    return RecipeError(
        f"term '{one.name}' adds up over the whole batch, which is computed in {pieces}: the sums of the pieces are "
        "not the batch's",
        cure="set accumulate: 1"
        + (", or take dice, whose sums are over each image" if one.loss is TABLE["dice_batch"] else ""),
    )


def _hides(one: Term, value: Tensor, mask: Tensor | None) -> None:
    """Refuse a loss that looks at whole samples, or maps, and can not be told what of them is to be ignored."""
    if mask is None or "mask" in one.declared:
        return
    if mask.ndim == 1 and value.ndim == 0:
        raise ModelError(
            f"term '{one.name}' compares whole samples and takes no mask", cure="leave the mask out for this term"
        )
    if mask.ndim > 1 and value.ndim < 2 and one.place == "logits":
        raise ModelError(
            f"term '{one.name}' compares whole maps of logits and takes no mask of pixels, so that pixels without a "
            "label would count",
            cure="compare features with at: [teacher's, student's], or use a loss of pixels, such as pixel_kl or cwd",
        )


def _whole(one: Term, samples: int, counts: Mapping[str, Tensor] | None) -> None:
    """Refuse a piece of a batch for a loss whose value of the batch is no mean of values of pieces."""
    if one.compares.summed and counts is not None and samples != int(counts["samples"]):
        raise in_pieces(one, f"pieces of {samples} of {int(counts['samples'])} samples")


def _of_all(value: Tensor, own: int, samples: int, counts: Mapping[str, Tensor] | None) -> Tensor:
    """This process's part of a value over the samples of all: parts add up to it, and so do their gradients.

    The gradient reaches this process's samples only, so it counts in full; the value is there in every process, so it
    counts by this one's share of the samples.
    """
    whole = samples if counts is None else int(counts["samples"])
    return value * (samples / whole) - (value * ((samples - own) / whole)).detach()


def _of_piece(
    one: Term, value: Tensor, samples: int, mask: Tensor | None, counts: Mapping[str, Tensor] | None
) -> Tensor:
    """A scalar of a piece of a batch, times the piece's share of what counts in the batch."""
    if counts is None:
        return value
    _whole(one, samples, counts)
    if mask is None or mask.ndim == 1:
        return value * samples / counts["samples"].to(value.device)
    if one.place == "logits":
        return value * mask.sum() / counts["elements"].to(value.device).clamp(min=1)
    return value * of_samples(mask).sum() / counts["seen"].to(value.device).clamp(min=1)


def _mean(
    one: Term,
    value: Tensor,
    samples: int,
    target: Tensor | None,
    share: Tensor | None,
    mask: Tensor | None,
    counts: Mapping[str, Tensor] | None,
) -> Tensor:
    """The sum over what counts, divided by how many that are in the whole batch."""
    if len(value) != samples:
        raise ModelError(
            f"term '{one.name}' gives a loss of shape {tuple(value.shape)} for {samples} samples",
            cure="let the loss return one element for each sample, or a scalar",
        )
    value, kept, counted = shared(value, share), mask, "elements"
    if one.needs_label and target is not None:
        kept, counted = (target >= 0 if mask is None else mask & (target >= 0)), "labeled"
    if kept is None:
        elements = value.numel() // samples
        return value.mean() if counts is None else value.sum() / (counts["samples"].to(value.device) * elements)
    if kept.ndim > 1 and value.ndim == 1:  # one value a sample: it counts if a pixel of it does
        kept, counted = of_samples(kept), {"elements": "seen", "labeled": "told"}[counted]
    if value.shape != kept.shape:
        raise ModelError(
            f"term '{one.name}' gives a loss of shape {tuple(value.shape)} for labels or a mask of shape "
            f"{tuple(kept.shape)}: what counts can not be told",
            cure="let the loss return one element for each label",
        )
    count = kept.sum() if counts is None else counts[counted]
    return torch.where(kept, value, 0.0).sum() / count.to(value.device).clamp(min=1)
