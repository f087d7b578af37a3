"""Whole pictures from overlapping windows, blended where they meet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.data.convert import scaled
from limbeck.data.windows import Size, blending, places

Call = Callable[[Tensor], Tensor]  # inputs [B, C, H, W] in [0, 1] -> logits [B, classes, H, W]
OVERLAP = 0.25  # of a window's side, that it shares with the next
_PIXELS = 2**19  # that are computed at once: 8 windows of 256 x 256


def stitched(call: Call, picture: Tensor, window: Size, *, overlap: float = OVERLAP) -> Tensor:
    """Class probabilities of a whole picture: the weighted mean over the windows that a pixel lies in.

    A picture that is smaller than the window is filled up with black, whose pixels are cut off again.

    Args:
        call: the model, its preparation inside.
        picture: uint8 ``[C, H, W]``.
        window: height and width, those of the training patches.
        overlap: share of a side.

    Returns:
        float32 ``[classes, H, W]``.

    Example:
        >>> constant = lambda x: torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).expand(len(x), 2, *x.shape[2:])
        >>> stitched(constant, torch.zeros(3, 5, 7).byte(), (4, 4))[:, 0, 0]
        tensor([0.1192, 0.8808])
    """
    high, wide = picture.shape[1:]
    step = (max(round(window[0] * (1 - overlap)), 1), max(round(window[1] * (1 - overlap)), 1))
    corners = places((high, wide), window, step)
    padded = torch.zeros(picture.shape[0], max(high, window[0]), max(wide, window[1]), dtype=torch.uint8)
    padded[:, :high, :wide] = picture
    weight = torch.from_numpy(blending(window))
    total: Tensor | None = None
    weights = torch.zeros(padded.shape[1:])
    together = max(_PIXELS // (window[0] * window[1]), 1)
    for start in range(0, len(corners), together):
        part = corners[start : start + together]
        inputs = scaled(torch.stack([padded[:, top : top + window[0], left : left + window[1]] for top, left in part]))
        for (top, left), one in zip(part, torch.softmax(call(inputs).float().cpu(), dim=1), strict=True):
            if total is None:
                total = torch.zeros(one.shape[0], *padded.shape[1:])
            total[:, top : top + window[0], left : left + window[1]] += one * weight
            weights[top : top + window[0], left : left + window[1]] += weight
    if total is None:
        raise ValueError("a picture without pixels")
    return (total / weights)[:, :high, :wide]


__all__ = ["OVERLAP", "Call", "stitched"]
