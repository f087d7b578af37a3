"""Losses of large maps of logits, part by part: softened probabilities of a whole batch are never held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from limbeck.errors import ModelError
from limbeck.losses.declare import Compares
from limbeck.outputs import Outputs

LARGE = 2**20  # numbers: logits of more are taken in parts of about as many (4 MB each, in float32)
OF_SAMPLES = ("target", "mask", "index")

Part = tuple[slice, slice]  # of the samples, and of the rows of pixels
Whole = Callable[[Outputs, Outputs | None, Mapping[str, Any]], Tensor]


def by_parts(
    loss: Callable[..., Any], student: Outputs, teacher: Outputs | None, arguments: Mapping[str, Any]
) -> list[Part]:
    """The parts that a loss of logits is computed in; none: it is computed of the whole.

    A part is some samples; or, of a loss that compares each pixel by itself, some rows of one sample, where that sample
    alone is large. Taken apart is only what a loss says of itself: that it does not compare samples. A module may have
    parameters, whose gradient is not known here.

    Example:
        >>> from limbeck.losses import kl
        >>> z = Outputs(torch.zeros(4, 2, 512, 512))
        >>> [(one.start, one.stop) for one, _ in by_parts(kl, z, z, {})]
        [(0, 2), (2, 4)]
        >>> by_parts(kl, Outputs(z.logits[:2]), z, {})
        []
    """
    logits, says = student.logits, getattr(loss, "compares", None)
    if logits.ndim != 4 or logits.numel() <= LARGE or isinstance(loss, nn.Module) or not isinstance(says, Compares):
        return []
    if says.relational or says.site != "logits" or not _fits(logits, teacher, arguments):
        return []
    samples, _, height, _ = logits.shape
    each = logits[0].numel()
    at_once = max(1, LARGE // each)
    ranges = [slice(None)]  # of maps of two sizes, each whole
    if says.pixels and each > LARGE and (teacher is None or teacher.logits.shape == logits.shape):
        rows = max(1, LARGE * height // each)
        ranges = [slice(row, min(row + rows, height)) for row in range(0, height, rows)]
    starts = range(0, samples, at_once)
    return [(slice(first, min(first + at_once, samples)), rows) for first in starts for rows in ranges]


def _fits(logits: Tensor, teacher: Outputs | None, arguments: Mapping[str, Any]) -> bool:
    """Whether all that belongs to the samples can be taken apart with them; if not, the loss has a word to say."""
    if arguments.get("axis", 1) != 1:
        return False
    maps = (len(logits), *logits.shape[2:])
    given = [arguments[key] for key in OF_SAMPLES if arguments.get(key) is not None]
    if any(tuple(one.shape) not in (maps, maps[:1]) for one in given):
        return False
    return teacher is None or (teacher.top is None and teacher.logits.ndim == 4 and len(teacher.logits) == len(logits))


def computed_by_parts(
    whole: Whole, parts: list[Part], student: Outputs, teacher: Outputs | None, arguments: Mapping[str, Any]
) -> Tensor:
    """The values of all parts; their gradient is computed part by part, once it is asked for.

    Args:
        whole: computes the loss of student, teacher and arguments.
        parts: that :func:`by_parts` gives.
        student, teacher: with logits ``[B, C, H, W]``.
        arguments: of the loss; ``target``, ``mask`` and ``index`` are taken apart with the samples.

    Returns:
        ``[B]`` or ``[B, H, W]``: value and gradient are those of the whole, but for the rounding of sums.
    """

    def of(part: Part, logits: Tensor) -> Tensor:
        named = {key: _piece(one, part) if key in OF_SAMPLES else one for key, one in arguments.items()}
        return whole(Outputs(logits), None if teacher is None else _of_teacher(teacher, part), named)

    value: Tensor = _ByParts.apply(student.logits, of, parts)
    return value


def _piece(one: Tensor | None, part: Part) -> Tensor | None:
    if one is None:
        return None
    return one[part[0]] if one.ndim < 3 else one[part]


def _of_teacher(teacher: Outputs, part: Part) -> Outputs:
    """The teacher's part; the rows of maps of another size stay as they are."""
    samples, rows = part
    members = None if teacher.members is None else teacher.members[:, samples, :, rows]
    return replace(teacher, logits=teacher.logits[samples, :, rows], features={}, members=members)


class _ByParts(torch.autograd.Function):
    """Values without a graph, then each part's gradient from a graph of its own, written into one tensor."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, of: Callable[[Part, Tensor], Tensor], parts: list[Part]) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.of, ctx.parts = of, parts
        found = logits.new_empty(0)
        for number, part in enumerate(parts):
            value = of(part, _taken(logits, part))
            if not value.ndim:
                raise ModelError(
                    "a loss gives one number for all samples, and does not say that it compares them",
                    cure="declare it with relational=True, or return one value for each sample",
                )
            if not number:
                found = value.new_empty((len(logits), *(logits.shape[2:] if value.ndim > 1 else ())))
            (found[part] if value.ndim > 1 else found[part[0]]).copy_(value)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        found = torch.empty_like(logits)
        with torch.enable_grad(), torch.autocast(logits.device.type, enabled=False):
            for part in ctx.parts:
                own = _taken(logits, part).detach().requires_grad_()
                value = ctx.of(part, own)
                given = gradient[part] if value.ndim > 1 else gradient[part[0]]
                _taken(found, part).copy_(torch.autograd.grad(value, own, given)[0])
        return found, None, None


def _taken(maps: Tensor, part: Part) -> Tensor:
    return maps[part[0], :, part[1]]


__all__ = ["LARGE", "by_parts", "computed_by_parts"]
