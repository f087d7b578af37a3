"""Views that change colors, for pictures in [0, 1] with one channel or three (red, green, blue).

Each takes a batch and one number for each sample. Only arithmetic that is rounded the same way in every batch is used:
sums over pixels are sums of whole numbers, which are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from limbeck.data.views import channels
from limbeck.data.views.geometry import Numbers
from limbeck.errors import RecipeError

Draw = Callable[[int], Numbers]


@dataclass(frozen=True)
class Color:
    """Changes of color, one after another in this order; 0 leaves a quality as it is.

    Args:
        brightness, contrast, saturation: 0 to 1: largest relative change; 0.4 draws a factor from 0.6 to 1.4.
        hue: 0 to 0.5: largest turn of the color circle, in turns.

    Raises:
        RecipeError: if a value is out of range.

    Example:
        >>> Color(brightness=0.4).hue
        0.0
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            in_range("color." + name, value, 0, 0.5 if name == "hue" else 1)

    def __call__(self, inputs: Tensor, draw: Draw) -> Tensor:
        """The pictures ``[B, C, H, W]`` changed by the numbers that ``draw`` gives for a channel."""
        if self.brightness:
            inputs = brightness(inputs, 1 + self.brightness * (2 * draw(channels.BRIGHTNESS) - 1))
        if self.contrast:
            inputs = contrast(inputs, 1 + self.contrast * (2 * draw(channels.CONTRAST) - 1))
        if self.saturation:
            inputs = saturation(inputs, 1 + self.saturation * (2 * draw(channels.SATURATION) - 1))
        if self.hue:
            inputs = hue(inputs, self.hue * (2 * draw(channels.HUE) - 1))
        return inputs


def in_range(name: str, value: object, least: float, most: float) -> None:
    """Refuse what is not a number of a range.

    Raises:
        RecipeError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RecipeError(f"views.{name} is {value!r}, expected {least} to {most}")


def check_pictures(inputs: Tensor, name: str) -> None:
    """See that a batch holds pictures whose colors can be changed.

    Raises:
        RecipeError: if they have neither one channel nor three, or values outside of [0, 1].
    """
    if inputs.shape[1] not in (1, 3):
        raise RecipeError(
            f"views.{name} is for gray or RGB pictures, found {inputs.shape[1]} channels",
            cure=f"leave {name} out, or set data.channels to 3",
        )
    least, most = (float(one) for one in torch.aminmax(inputs))
    if least < 0 or most > 1:
        raise RecipeError(
            f"views.{name} is for pictures in [0, 1], found values from {least:.3g} to {most:.3g}",
            cure="give bytes, or floats in [0, 1]; limbeck normalizes after the views",
        )


def brightness(inputs: Tensor, factor: Numbers) -> Tensor:
    """Every value times a factor; 0 is black.

    Example:
        >>> brightness(torch.full((1, 1, 1, 1), 0.5), torch.tensor([1.5]).numpy()).item()
        0.75
    """
    return (inputs * column(factor)).clamp_(0, 1)


def contrast(inputs: Tensor, factor: Numbers) -> Tensor:
    """Away from the mean gray of the picture by a factor; 0 is that gray."""
    whole = (gray(inputs) * 2**24).round_().sum(dim=(1, 2, 3), dtype=torch.float64)  # exact below 2**29 pixels
    mean = (whole / (2**24 * inputs.shape[2] * inputs.shape[3])).float().reshape(-1, 1, 1, 1)
    return blend(inputs, mean, factor)


def saturation(inputs: Tensor, factor: Numbers) -> Tensor:
    """Away from gray by a factor; 0 is gray."""
    return inputs if inputs.shape[1] == 1 else blend(inputs, gray(inputs), factor)


def hue(inputs: Tensor, turns: Numbers) -> Tensor:
    """The color circle turned, in turns: +1/3 makes red green, and green blue.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
        >>> hue(red, torch.tensor([1 / 3]).numpy()).flatten().round(decimals=4).abs().tolist()
        [0.0, 1.0, 0.0]
    """
    if inputs.shape[1] == 1:
        return inputs
    red, green, blue = inputs.unbind(1)
    light = inputs.amax(1)
    chroma = light - inputs.amin(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    # The angle in sixths of the circle: from red, from green or from blue, whichever is the largest.
    angle = torch.where(light == green, (blue - red).div_(safe).add_(2), (red - green).div_(safe).add_(4))
    angle = torch.where(light == red, (green - blue).div_(safe), angle).add_(6 * column(turns)[:, 0])

    def one(start: int) -> Tensor:
        at = angle + start
        at -= torch.floor(at / 6).mul_(6)
        return light - torch.minimum(at, 4 - at).clamp_(0, 1).mul_(chroma)

    return torch.stack([one(5), one(3), one(1)], dim=1).clamp_(0, 1)


def gray(inputs: Tensor) -> Tensor:
    """Brightness of each pixel ``[B, 1, H, W]``, by the weights of ITU-R BT.601."""
    if inputs.shape[1] == 1:
        return inputs
    red, green, blue = inputs.unbind(1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114)[:, None]


def blend(inputs: Tensor, other: Tensor, factor: Numbers) -> Tensor:
    """``factor · inputs + (1 - factor) · other``, kept in [0, 1]."""
    own = column(factor)
    return (inputs * own).add_(other * (1 - own)).clamp_(0, 1)


def column(values: Numbers) -> Tensor:
    """Numbers for each sample, as float32 ``[B, 1, 1, 1]``."""
    return torch.as_tensor(values).float().reshape(-1, 1, 1, 1)
