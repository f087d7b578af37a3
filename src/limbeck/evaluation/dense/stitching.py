"""Whole pictures from overlapping windows, blended where they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from limbeck.data.convert import scaled
from limbeck.data.windows import Size, blending, places, stepped
from limbeck.errors import ModelError

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
        overlap: share of a side, from 0 to below 1.

    Returns:
        float32 ``[classes, H, W]``.

    Raises:
        ModelError: if the logits are not of every pixel of a window.

    Example:
        >>> constant = lambda x: torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).expand(len(x), 2, *x.shape[2:])
        >>> stitched(constant, torch.zeros(3, 5, 7).byte(), (4, 4))[:, 0, 0]
        tensor([0.1192, 0.8808])
    """
    return torch.cat([one for _, one in bands(call, picture, window, overlap=overlap)], dim=1)


def bands(call: Call, picture: Tensor, window: Size, *, overlap: float = OVERLAP) -> Iterator[tuple[int, Tensor]]:
    """What :func:`stitched` gives, from the top down in bands that no later window reaches.

    So the probabilities of a large picture with many classes are never held all at once.

    Yields:
        The first row of a band, and float32 ``[classes, rows, W]``.

    Example:
        >>> constant = lambda x: torch.zeros(len(x), 2, *x.shape[2:])
        >>> [(top, tuple(one.shape)) for top, one in bands(constant, torch.zeros(3, 9, 4).byte(), (4, 4))]
        [(0, (2, 3, 4)), (3, (2, 2, 4)), (5, (2, 4, 4))]
    """
    high, wide = picture.shape[1:]
    weight, at = torch.from_numpy(blending(window)), 0
    total = weights = torch.zeros(0)
    for (top, left), one in _windows(call, picture, window, overlap):
        if not total.numel():
            total = torch.zeros(len(one), window[0], max(wide, window[1]))
            weights = torch.zeros(total.shape[1:])
        if top > at:
            yield at, (total[:, : top - at] / weights[: top - at])[..., :wide]
            total, weights, at = _moved(total, top - at), _moved(weights, top - at), top
        total[:, :, left : left + window[1]] += one * weight
        weights[:, left : left + window[1]] += weight
    yield at, (total[:, : high - at] / weights[: high - at])[..., :wide]


def _windows(call: Call, picture: Tensor, window: Size, overlap: float) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Corner and class probabilities ``[classes, *window]`` of each window, row by row."""
    high, wide = picture.shape[1:]
    if not picture.numel():
        raise ValueError("a picture without pixels")
    corners = places((high, wide), window, stepped(window, overlap))
    padded = torch.zeros(picture.shape[0], max(high, window[0]), max(wide, window[1]), dtype=torch.uint8)
    padded[:, :high, :wide] = picture
    together = max(_PIXELS // (window[0] * window[1]), 1)
    for start in range(0, len(corners), together):
        part = corners[start : start + together]
        inputs = scaled(torch.stack([padded[:, top : top + window[0], left : left + window[1]] for top, left in part]))
        logits = call(inputs)
        if logits.ndim != 4 or (len(logits), *logits.shape[2:]) != (len(part), *window):
            raise ModelError(
                f"of pictures {tuple(inputs.shape)} the model gives logits {tuple(logits.shape)}, not one a pixel",
                cure="give a model of segmentation, whose logits are [B, classes, H, W]",
            )
        yield from zip(part, torch.softmax(logits.float().cpu().contiguous(), dim=1), strict=True)


def _moved(values: Tensor, rows: int) -> Tensor:
    """Without the first rows, and with as many of zeros below."""
    found = torch.zeros_like(values)
    kept = values.shape[-2] - rows
    found[..., :kept, :] = values[..., rows:, :]
    return found


__all__ = ["OVERLAP", "Call", "bands", "stitched"]
