"""Views: augmentation as a pure function of (seed, sample, view number), computed on a whole batch at once.

Nothing about an augmentation needs to be stored to replay it: the same address gives the same picture, bit for bit, at
any batch size, in any process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from limbeck.data.order import uniform
from limbeck.errors import RecipeError

# Each random quantity has a channel of its own, so that turning one on leaves the others as they were.
_SHIFT_X, _SHIFT_Y, _FLIP, _ROTATE, _SCALE, _ERASE, _ERASE_AREA, _ERASE_RATIO, _ERASE_X, _ERASE_Y = range(10)


@dataclass(frozen=True)
class Views:
    """What may happen to an image. Uncovered places are black (0).

    Args:
        shift: largest shift in pixels, both directions: padding and cropping.
        flip: mirror left and right, half of the time.
        rotate: largest rotation in degrees.
        scale: largest relative change of size, such as 0.1.
        erase: probability that a rectangle of 2 to 20 % of the area is made black.

    Raises:
        RecipeError: if a value is out of range.

    Example:
        >>> views = Views(shift=1)
        >>> x = torch.eye(3).reshape(1, 1, 3, 3)
        >>> bool((views(x, seed=0, sample=torch.tensor([5]), view=2) == views(x, seed=0, sample=[5], view=2)).all())
        True
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int):
            raise RecipeError(f"views.shift is {self.shift!r}, expected a whole number of pixels")
        if not isinstance(self.flip, bool):
            raise RecipeError(f"views.flip is {self.flip!r}, expected true or false")
        limits = {"shift": (0, 1024), "rotate": (0, 180), "scale": (0, 0.9), "erase": (0, 1)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise RecipeError(f"views.{name} is {value!r}, expected {least} to {most}")

    @property
    def identity(self) -> bool:
        """Whether every view is the image itself."""
        return self == Views()

    def __call__(self, inputs: Tensor, *, seed: int, sample: Any, view: Any) -> Tensor:
        """The views of a batch.

        Args:
            inputs: float ``[B, C, H, W]``.
            seed: of the training.
            sample: int ``[B]``, addresses.
            view: view number, one or ``[B]``.

        Raises:
            RecipeError: if the inputs are not images.
        """
        if self.identity:
            return inputs
        if inputs.ndim != 4:
            raise RecipeError(f"views are for images [B, C, H, W], found inputs {tuple(inputs.shape)}")
        sample = np.asarray(sample, dtype=np.int64)

        def draw(channel: int) -> np.ndarray[Any, np.dtype[np.float64]]:
            return uniform(seed, sample, view, channel)

        if self.rotate or self.scale:
            inputs = _affine(inputs, *self._affine_values(draw(_ROTATE), draw(_SCALE)))
        if self.shift:
            inputs = _shift(inputs, self._pixels(draw(_SHIFT_X)), self._pixels(draw(_SHIFT_Y)), self.shift)
        if self.flip:
            inputs = torch.where(_column(draw(_FLIP) < 0.5), inputs.flip(3), inputs)
        if self.erase:
            area, ratio = 0.02 + 0.18 * draw(_ERASE_AREA), np.exp((draw(_ERASE_RATIO) - 0.5) * math.log(9))
            corner = draw(_ERASE_X), draw(_ERASE_Y)
            inputs = _erase(inputs, draw(_ERASE) < self.erase, area, ratio, corner)
        return inputs

    def _pixels(self, drawn: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.floor(drawn * (2 * self.shift + 1)).astype(np.int64) - self.shift)

    def _affine_values(self, turn: np.ndarray[Any, Any], size: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        angle = torch.from_numpy((2 * turn - 1) * math.radians(self.rotate))
        return angle, torch.from_numpy(1 + (2 * size - 1) * self.scale)


def _column(values: Any) -> Tensor:
    return torch.as_tensor(values).reshape(-1, 1, 1, 1)


def _shift(inputs: Tensor, x: Tensor, y: Tensor, reach: int) -> Tensor:
    """Pixel (r, c) of the result is pixel (r - y, c - x) of the input, or black where there is none."""
    height, width = inputs.shape[2:]
    # Every shift of every image, as a view of the padded images; the indexing copies one of them for each sample.
    windows = functional.pad(inputs, [reach] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(inputs)), :, reach - y, reach - x]


def _affine(inputs: Tensor, angle: Tensor, size: Tensor) -> Tensor:
    cos, sin = (torch.cos(angle) / size).float(), (torch.sin(angle) / size).float()
    ratio = inputs.shape[2] / inputs.shape[3]
    zero = torch.zeros_like(cos)
    matrix = torch.stack([torch.stack([cos, -sin * ratio, zero], 1), torch.stack([sin / ratio, cos, zero], 1)], 1)
    # The grid by hand: affine_grid is a batched matrix product, whose rounding may change with the batch's size.
    ys = (torch.arange(inputs.shape[2]) * 2 + 1) / inputs.shape[2] - 1
    xs = (torch.arange(inputs.shape[3]) * 2 + 1) / inputs.shape[3] - 1
    y, x = ys[None, :, None], xs[None, None, :]
    grid = torch.stack([matrix[:, row, 0, None, None] * x + matrix[:, row, 1, None, None] * y for row in (0, 1)], dim=3)
    return functional.grid_sample(inputs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _erase(inputs: Tensor, chosen: Any, area: Any, ratio: Any, corner: tuple[Any, Any]) -> Tensor:
    height, width = inputs.shape[2:]
    tall = np.clip(np.rint(np.sqrt(area * ratio) * height), 1, height)
    wide = np.clip(np.rint(np.sqrt(area / ratio) * width), 1, width)
    top, left = np.floor(corner[1] * (height - tall + 1)), np.floor(corner[0] * (width - wide + 1))
    rows, columns = np.arange(height), np.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    gone = in_rows[:, None, :, None] & in_columns[:, None, None, :] & np.asarray(chosen)[:, None, None, None]
    return inputs * ~torch.from_numpy(gone)
