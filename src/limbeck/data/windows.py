"""Windows over a picture: where they lie, and how much each of their pixels counts where they overlap. Only numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
EDGES = ("cover", "drop")


def starts(length: int, window: int, step: int, edges: str = "cover") -> list[int]:
    """Where windows begin along one side, in steps; the first at 0.

    Args:
        length: of the side.
        window: its length.
        step: from one window to the next; below ``window`` they overlap.
        edges: of a length that does not divide: ``cover``: a last window ends with the side, and a side shorter than a
            window has one that reaches beyond it; ``drop``: what is left is in no window.

    Example:
        >>> starts(10, 4, 4), starts(10, 4, 4, "drop"), starts(3, 4, 4), starts(3, 4, 4, "drop")
        ([0, 4, 6], [0, 4], [0], [])
    """
    if length < window:
        return [0] if edges == "cover" else []
    found = list(range(0, length - window + 1, step))
    if edges == "cover" and found[-1] + window < length:
        found.append(length - window)
    return found


def places(size: Size, window: Size, step: Size, edges: str = "cover") -> list[tuple[int, int]]:
    """Top left corners of the windows over a picture, row by row.

    Example:
        >>> places((4, 6), (4, 4), (4, 4))
        [(0, 0), (0, 2)]
    """
    tops, lefts = (starts(*one, edges) for one in zip(size, window, step, strict=True))
    return [(top, left) for top in tops for left in lefts]


def stepped(window: Size, overlap: float) -> Size:
    """How far it is from one window to the next, down and across.

    Example:
        >>> stepped((256, 64), 0.25)
        (192, 48)
    """
    return max(round(window[0] * (1 - overlap)), 1), max(round(window[1] * (1 - overlap)), 1)


def blending(window: Size) -> NDArray[np.float32]:
    """How much each pixel of a window counts where windows overlap, ``[H, W]``: most in its middle, above 0 everywhere.

    A pixel near an edge was seen without its surroundings. Along a side the weight falls linearly.

    Example:
        >>> blending((1, 4)).tolist()
        [[0.5, 1.0, 1.0, 0.5]]
    """
    rows, columns = (_ramp(side) for side in window)
    return np.outer(rows, columns).astype(np.float32)


def _ramp(side: int) -> Any:
    middle = (side + 1) // 2
    rising = np.arange(1, side + 1)
    return np.minimum(rising, rising[::-1]) / middle


__all__ = ["EDGES", "Size", "blending", "places", "starts", "stepped"]
