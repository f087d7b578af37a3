"""RandAugment: a few operations drawn from a list, all at one magnitude.

Cubuk et al., 2020, arXiv:1909.13719; the ranges are those of AutoAugment (arXiv:1805.09501, table 6) as far as
magnitude 30 stands for the strongest. Samples that drew the same operation are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from limbeck.data.views import channels, color
from limbeck.data.views.color import Draw, in_range
from limbeck.data.views.geometry import Numbers, turned, warp
from limbeck.errors import RecipeError

STRONGEST = 30


@dataclass(frozen=True)
class RandAugment:
    """``ops`` operations one after another, each drawn from identity, shear and translation along x and y, rotation,
    brightness, color (saturation), contrast, sharpness, posterize, solarize, autocontrast and equalize.

    Args:
        ops: how many, 1 to 8.
        magnitude: 0 to 30. At 30: slanted by 0.3, moved by 0.45 of a side, turned by 30°, factors 0.1 or 1.9, 4 bits
            of color, everything inverted; in proportion below. Directions are drawn.

    Raises:
        RecipeError: if a value is out of range.

    Example:
        >>> RandAugment().magnitude
        9
    """

    ops: int = 2
    magnitude: float = 9

    def __post_init__(self) -> None:
        if isinstance(self.ops, bool) or not isinstance(self.ops, int):
            raise RecipeError(f"views.randaugment.ops is {self.ops!r}, expected a whole number")
        in_range("randaugment.ops", self.ops, 1, 8)
        in_range("randaugment.magnitude", self.magnitude, 0, STRONGEST)

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The pictures ``[B, C, H, W]`` after the operations that ``draw`` gives for their channels."""
        for number in range(self.ops):
            kind = np.floor(draw(channels.RANDAUGMENT + 2 * number) * len(KINDS)).astype(np.int64)
            sign = np.where(draw(channels.RANDAUGMENT + 2 * number + 1) < 0.5, -1.0, 1.0)
            inputs = _applied(inputs, kind, sign * self.magnitude / STRONGEST)
        return inputs


def _applied(inputs: Tensor, kind: NDArray[np.int64], strength: Numbers) -> Tensor:
    found = torch.empty_like(inputs)
    for number in np.unique(kind):
        rows: Any = np.flatnonzero(kind == number)
        rows = slice(rows[0], rows[0] + 1) if len(rows) == 1 else rows  # no copy of a single large picture
        found[rows] = list(KINDS.values())[number](inputs[rows], strength[rows])
    return found


def shear_x(inputs: Tensor, strength: Numbers) -> Tensor:
    """Slanted to the side by up to 0.3 pixels for each pixel down, about the middle."""
    return warp(inputs, turned(np.zeros(len(inputs)), slant=0.3 * strength))


def shear_y(inputs: Tensor, strength: Numbers) -> Tensor:
    """Slanted down by up to 0.3 pixels for each pixel to the side, about the middle."""
    return warp(inputs, turned(np.zeros(len(inputs)), slant=0.3 * strength).transpose(1, 2))


def translate_x(inputs: Tensor, strength: Numbers) -> Tensor:
    """Moved to the side by up to 150/331 of the width."""
    pixels = torch.from_numpy(strength) * (150 / 331 * inputs.shape[3])
    return warp(inputs, turned(np.zeros(len(inputs))), torch.stack([pixels, torch.zeros_like(pixels)], 1))


def translate_y(inputs: Tensor, strength: Numbers) -> Tensor:
    """Moved down or up by up to 150/331 of the height."""
    pixels = torch.from_numpy(strength) * (150 / 331 * inputs.shape[2])
    return warp(inputs, turned(np.zeros(len(inputs))), torch.stack([torch.zeros_like(pixels), pixels], 1))


def rotate(inputs: Tensor, strength: Numbers) -> Tensor:
    """Turned by up to 30° about the middle."""
    return warp(inputs, turned(math.radians(30) * strength))


def sharpness(inputs: Tensor, factor: Numbers) -> Tensor:
    """Away from a smoothed picture by a factor; the pixels at the border stay.

    The smoothing has weights 5/13 in the middle and 1/13 at each of the eight neighbors.
    """
    height, width = inputs.shape[2:]
    if min(height, width) < 3:
        return inputs
    rows = inputs[:, :, :-2] + inputs[:, :, 1:-1] + inputs[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = inputs.clone()
    smooth[:, :, 1:-1, 1:-1] = (around + 4 * inputs[:, :, 1:-1, 1:-1]) / 13
    return color.blend(inputs, smooth, factor)


def posterize(inputs: Tensor, bits: Numbers) -> Tensor:
    """Fewer levels: ``2 ** bits`` of them, each rounded down."""
    levels = color.column(2.0**bits)
    return (inputs * levels).floor_().clamp_(min=0).minimum(levels - 1) / levels


def solarize(inputs: Tensor, threshold: Numbers) -> Tensor:
    """Values at and above a threshold inverted."""
    return torch.where(inputs >= color.column(threshold), 1 - inputs, inputs)


def autocontrast(inputs: Tensor) -> Tensor:
    """Each channel stretched to [0, 1], unless it is of one value."""
    least, most = inputs.amin((2, 3), keepdim=True), inputs.amax((2, 3), keepdim=True)
    flat = least == most
    least, wide = torch.where(flat, 0.0, least), torch.where(flat, 1.0, most - least)
    return ((inputs - least) / wide).clamp_(0, 1)


def equalize(inputs: Tensor) -> Tensor:
    """Each channel's 256 levels spread so that all become about equally frequent, as Pillow does it."""
    batch, depth, height, width = inputs.shape
    levels = (inputs * 255).round_().long().reshape(batch * depth, height * width)
    offset = torch.arange(batch * depth)[:, None] * 256
    counts = torch.bincount((levels + offset).flatten(), minlength=batch * depth * 256).reshape(-1, 256)
    last = torch.where(counts > 0, torch.arange(256), -1).amax(1, keepdim=True)
    step = (height * width - counts.gather(1, last)) // 255
    below = functional.pad(counts.cumsum(1), (1, 0))[:, :-1]
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256))
    return table.gather(1, levels).reshape(inputs.shape) / 255


KINDS: dict[str, Callable[[Tensor, Numbers], Tensor]] = {
    "identity": lambda inputs, strength: inputs,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": lambda inputs, strength: color.brightness(inputs, 1 + 0.9 * strength),
    "color": lambda inputs, strength: color.saturation(inputs, 1 + 0.9 * strength),
    "contrast": lambda inputs, strength: color.contrast(inputs, 1 + 0.9 * strength),
    "sharpness": lambda inputs, strength: sharpness(inputs, 1 + 0.9 * strength),
    "posterize": lambda inputs, strength: posterize(inputs, 8 - np.rint(4 * np.abs(strength))),
    "solarize": lambda inputs, strength: solarize(inputs, 1 - np.abs(strength)),
    "autocontrast": lambda inputs, strength: autocontrast(inputs),
    "equalize": lambda inputs, strength: equalize(inputs),
}
