"""Views that move pixels: each a function of a batch and of numbers for each sample.

Every function here gives the same bits for a sample in any batch: there are no matrix products, whose rounding may
change with the batch's size, and no sum over samples.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from limbeck.errors import RecipeError

Numbers = NDArray[np.float64]


def turned(angle: Numbers, size: Numbers | float = 1.0, slant: Numbers | float = 0.0) -> Tensor:
    """Matrices ``[B, 2, 2]`` of the place in the input of a pixel: turned, enlarged by ``size``, slanted.

    Args:
        angle: radians.
        size: factor of enlargement.
        slant: pixels to the side for each pixel down, before turning.

    Example:
        >>> turned(np.zeros(1), 2.0, 0.5).tolist()
        [[[0.5, 0.25], [0.0, 0.5]]]
    """
    turn, large, tilt = (torch.as_tensor(one, dtype=torch.float64) for one in (angle, size, slant))
    cos, sin = torch.cos(turn) / large, torch.sin(turn) / large
    return torch.stack([torch.stack([cos, cos * tilt - sin], 1), torch.stack([sin, sin * tilt + cos], 1)], 1)


def window(inputs: Tensor, area: Numbers, ratio: Numbers, corner: tuple[Numbers, Numbers]) -> tuple[Tensor, Tensor]:
    """A part of each picture: its middle and its half size, ``[B, 2]`` (x, y), where the picture is [-1, 1] × [-1, 1].

    Args:
        inputs: ``[B, C, H, W]``.
        area: share of the area.
        ratio: number in [0, 1) for width : height, 3/4 to 4/3 on a logarithmic scale; what does not fit is left out.
        corner: numbers in [0, 1) for the place of the part, horizontally and vertically.
    """
    shape = inputs.shape[3] / inputs.shape[2]
    least, most = (np.log(np.clip(one, shape * area, shape / area)) for one in (3 / 4, 4 / 3))
    sides = np.exp(least + (most - least) * ratio)
    half = np.stack([np.sqrt(area * sides / shape), np.sqrt(area / sides * shape)], axis=1).clip(max=1.0)
    middle = (2 * np.stack(corner, axis=1) - 1) * (1 - half)
    return torch.from_numpy(middle), torch.from_numpy(half)


def warp(
    inputs: Tensor,
    matrix: Tensor,
    moved: Tensor | None = None,
    part: tuple[Tensor, Tensor] | None = None,
    *,
    nearest: bool = False,
) -> Tensor:
    """Sample pictures bilinearly at other places; uncovered places are black.

    Args:
        inputs: ``[B, C, H, W]``.
        matrix: ``[B, 2, 2]``, from a pixel of the result to its place in the input, in pixels from the middle.
        moved: ``[B, 2]``, pixels (x, y) added to that place.
        part: from :func:`window`: the result is this part of the picture, enlarged to its size.
        nearest: take the nearest pixel as it is, where values can not be blended.
    """
    height, width = inputs.shape[2:]
    ratio = height / width
    x, y = _centers(width)[None, None, :], _centers(height)[None, :, None]
    if part is not None:  # at its edge a picture goes on as it is there, so that an enlarged border is not darkened
        middle, half = (one.float()[:, :, None, None] for one in part)
        x = (x * half[:, 0] + middle[:, 0]).clamp(1 / width - 1, 1 - 1 / width)
        y = (y * half[:, 1] + middle[:, 1]).clamp(1 / height - 1, 1 - 1 / height)
    matrix = matrix.float()[:, :, :, None, None]
    across, down = matrix[:, 0, 0] * x, matrix[:, 1, 1] * y
    if moved is not None:
        moved = moved.float()[:, :, None, None]
        across, down = across + moved[:, 0] * 2 / width, down + moved[:, 1] * 2 / height
    # The grid by hand: affine_grid is a batched matrix product.
    grid = torch.empty(len(inputs), height, width, 2)
    torch.add(across, matrix[:, 0, 1] * ratio * y, out=grid[..., 0])
    torch.add(matrix[:, 1, 0] / ratio * x, down, out=grid[..., 1])
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(inputs, grid, mode=mode, padding_mode="zeros", align_corners=False)


def shifted(inputs: Tensor, x: Numbers, y: Numbers, reach: int) -> Tensor:
    """Pixel (r, c) of the result is pixel (r - y, c - x) of the input, or black where there is none.

    Args:
        inputs: ``[B, C, H, W]``.
        x, y: numbers in [0, 1) for a whole number of pixels from ``-reach`` to ``reach``.
        reach: largest shift.
    """
    height, width = inputs.shape[2:]
    right, down = (torch.from_numpy(np.floor(one * (2 * reach + 1)).astype(np.int64) - reach) for one in (x, y))
    # Every shift of every image, as a view of the padded images; the indexing copies one of them for each sample.
    windows = functional.pad(inputs, [reach] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(inputs)), :, reach - down, reach - right]


def flipped(inputs: Tensor, chosen: NDArray[np.bool_], axis: int) -> Tensor:
    """The chosen pictures mirrored along an axis."""
    if chosen.all() or not chosen.any():  # of large pictures, which are computed one by one, always
        return inputs.flip(axis) if chosen.all() else inputs
    return torch.where(torch.from_numpy(chosen).reshape(-1, 1, 1, 1), inputs.flip(axis), inputs)


def quarters(inputs: Tensor, number: Numbers) -> Tensor:
    """Pictures turned by so many quarters, counterclockwise.

    Args:
        inputs: ``[B, C, H, W]``, square.
        number: in [0, 1).

    Raises:
        RecipeError: if they are not square.

    Example:
        >>> quarters(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([0.3])).tolist()
        [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    if inputs.shape[2] != inputs.shape[3]:
        raise RecipeError(
            f"views.quarter_turns is for square inputs, these are {inputs.shape[2]}×{inputs.shape[3]}",
            cure="use vertical_flip, or square patches",
        )
    turns = np.floor(number * 4).astype(np.int64)
    if (turns == turns[:1]).all():
        return torch.rot90(inputs, int(turns[0]), (2, 3)) if turns.any() else inputs
    found = inputs.clone()
    for count in (1, 2, 3):
        chosen = torch.from_numpy(np.flatnonzero(turns == count))
        found[chosen] = torch.rot90(inputs[chosen], count, (2, 3))
    return found


def erased(
    inputs: Tensor, chosen: NDArray[np.bool_], area: Numbers, ratio: Numbers, corner: tuple[Numbers, Numbers]
) -> Tensor:
    """The chosen pictures with a black rectangle.

    Args:
        inputs: ``[B, C, H, W]``.
        chosen: bool ``[B]``.
        area: share of the picture's area.
        ratio: of the rectangle's sides, height : width.
        corner: numbers in [0, 1) for its place, horizontally and vertically.
    """
    height, width = inputs.shape[2:]
    tall = np.clip(np.rint(np.sqrt(area * ratio) * height), 1, height)
    wide = np.clip(np.rint(np.sqrt(area / ratio) * width), 1, width)
    top, left = np.floor(corner[1] * (height - tall + 1)), np.floor(corner[0] * (width - wide + 1))
    found = inputs.clone()
    edges = np.stack([top, top + tall, left, left + wide], axis=1).astype(np.int64)
    for sample in np.flatnonzero(chosen):  # a few small rectangles: much less than a pass over all pixels
        first, last, start, stop = edges[sample].tolist()
        found[sample, :, first:last, start:stop] = 0
    return found


def boxes(inputs: Tensor, top: Numbers, left: Numbers, bottom: Numbers, right: Numbers) -> Tensor:
    """Which pixels lie in each sample's rectangle: bool ``[B, 1, H, W]``; bottom and right are outside.

    Example:
        >>> edges = (np.array([one]) for one in (0.0, 1.0, 1.0, 3.0))
        >>> boxes(torch.zeros(1, 1, 2, 3), *edges)[0, 0].int().tolist()
        [[0, 1, 1], [0, 0, 0]]
    """
    rows, columns = np.arange(inputs.shape[2]), np.arange(inputs.shape[3])
    in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    in_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return torch.from_numpy(in_rows[:, None, :, None] & in_columns[:, None, None, :])


def _centers(length: int) -> Tensor:
    return (torch.arange(length) * 2 + 1) / length - 1
