"""Whole pictures from overlapping windows, a band of rows at a time. Only numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.windows import Size, blending, starts, stepped

Floats = NDArray[np.float32]
Call = Callable[[Floats], Floats]  # inputs [B, C, H, W] in [0, 1] -> logits [B, classes, H, W]
_PIXELS = 2**18  # that are computed at once: 4 windows of 256 x 256


def bands(
    call: Call,
    picture: NDArray[np.uint8],
    window: Size,
    overlap: float,
    tell: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Class probabilities of a whole picture, from above: the weighted mean over the windows that a pixel lies in.

    What :func:`limbeck.evaluation.dense.stitching.stitched` gives at once, in parts: of the blended probabilities no
    more than the rows of one window are held. A picture that is smaller than the window is filled up with black, whose
    pixels are cut off again.

    Args:
        call: the model, its preparation inside.
        picture: uint8 ``[C, H, W]``.
        window: height and width.
        overlap: share of a window's side that it has in common with the next.
        tell: is told how many windows are done.

    Yields:
        The first row of a band, and its probabilities, float32 ``[classes, rows, W]``.

    Example:
        >>> constant = lambda x: np.broadcast_to(np.float32([[[0]], [[2]]]), (len(x), 2, *x.shape[2:]))
        >>> found = list(bands(constant, np.zeros((3, 9, 5), np.uint8), (4, 4), 0.5))
        >>> [(top, shares.shape) for top, shares in found], found[0][1][:, 0, 0].round(4).tolist()
        ([(0, (2, 2, 5)), (2, (2, 2, 5)), (4, (2, 1, 5)), (5, (2, 4, 5))], [0.11919999867677689, 0.8808000087738037])
    """
    high, wide = picture.shape[1:]
    tops, lefts = (starts(*one) for one in zip((high, wide), window, stepped(window, overlap), strict=True))
    weight, together = blending(window), max(_PIXELS // (window[0] * window[1]), 1)
    total: Any = None
    weights = np.zeros((window[0], max(wide, window[1])), np.float32)
    for number, top in enumerate(tops):
        for start in range(0, len(lefts), together):
            part = lefts[start : start + together]
            shares = softmax(call(cut(picture, top, part, window)))
            if total is None:
                total = np.zeros((shares.shape[1], *weights.shape), np.float32)
            for left, one in zip(part, shares, strict=True):
                total[:, :, left : left + window[1]] += one * weight
                weights[:, left : left + window[1]] += weight
            if tell is not None:
                tell(number * len(lefts) + start + len(part))
        done = tops[number + 1] - top if number + 1 < len(tops) else window[0]
        yield top, (total[:, :done] / weights[:done])[:, : high - top, :wide]
        for held in (total, weights):  # what the next row of windows goes on with
            held[..., : window[0] - done, :] = held[..., done:, :].copy()
            held[..., window[0] - done :, :] = 0


def windows_of(size: Size, window: Size, overlap: float) -> int:
    """How many windows a picture is looked at in.

    Example:
        >>> windows_of((9, 5), (4, 4), 0.5)
        8
    """
    down, across = (starts(*one) for one in zip(size, window, stepped(window, overlap), strict=True))
    return len(down) * len(across)


def cut(picture: NDArray[np.uint8], top: int, lefts: list[int], window: Size) -> Floats:
    """Windows of one row as a model takes them: float32 ``[B, C, H, W]``, divided by 255, black beyond the edge."""
    found = np.zeros((len(lefts), picture.shape[0], *window), np.float32)
    for one, left in zip(found, lefts, strict=True):
        part = picture[:, top : top + window[0], left : left + window[1]]
        one[:, : part.shape[1], : part.shape[2]] = part
    return found / np.float32(255)


def softmax(logits: Floats) -> Floats:
    """Probabilities over axis 1, in float32.

    Example:
        >>> softmax(np.float32([[0, 0]])).tolist()
        [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


__all__ = ["Call", "bands", "cut", "softmax", "stepped", "windows_of"]
