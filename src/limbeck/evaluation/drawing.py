"""Small pictures of samples for the report, and maps laid over them."""

from __future__ import annotations

import io

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.data.split import Split

LARGEST = 160  # pixels of the longer side; a larger picture is shrunk
SMALLEST = 96  # a smaller one is enlarged by a whole factor, its pixels kept square
_PHOTO = 64  # samples larger than this are stored as JPEG, small ones losslessly
# From dark to light and from violet to yellow: it reads in gray and for the color-blind.
_HEAT = torch.tensor([[0.34, 0.06, 0.43], [0.74, 0.22, 0.33], [0.98, 0.56, 0.04], [0.99, 0.99, 0.64]])


def drawable(split: Split) -> bool:
    """Whether the samples are pictures ``[C, H, W]`` (gray, RGB or RGBA) that can be fetched one by one."""
    return len(split.shape) == 3 and split.shape[0] in {1, 3, 4} and split.addressed


def shown(image: Tensor) -> Tensor:
    """A sample as the page shows it: at least 96 and at most 160 pixels on its longer side.

    Args:
        image: ``[C, H, W]`` of 1, 3 or 4 channels; of 4 the first three are shown. Values in [0, 1]; inputs that came
            prepared are shown over their own range.

    Returns:
        Float ``[1 or 3, h, w]`` in [0, 1].

    Example:
        >>> shown(torch.rand(1, 8, 8)).shape, shown(torch.rand(3, 320, 200)).shape
        (torch.Size([1, 96, 96]), torch.Size([3, 160, 100]))
    """
    image = image[:3].float()
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        image = (image - low) / max(high - low, 1e-9)
    longest = max(image.shape[1:])
    if longest > LARGEST:
        size = [max(1, round(side * LARGEST / longest)) for side in image.shape[1:]]
        return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    factor = max(1, -(-SMALLEST // longest))
    return image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def overlaid(picture: Tensor, heat: Tensor) -> Tensor:
    """A map over a picture: the picture in gray, and the map in color where it is high.

    Args:
        picture: ``[1 or 3, h, w]`` in [0, 1].
        heat: ``[H, W]``, not negative, of any size: stretched over the picture and to its own largest value.

    Returns:
        ``[3, h, w]`` in [0, 1]; a map that is zero everywhere leaves the gray picture.
    """
    gray = 0.15 + 0.6 * picture.mean(dim=0).expand(3, -1, -1)
    heat = functional.interpolate(heat[None, None].float(), picture.shape[1:], mode="bilinear")[0, 0]
    heat = heat / heat.max().clamp(min=1e-12)
    place = heat * (len(_HEAT) - 1)
    below = place.floor().clamp(max=len(_HEAT) - 2)
    color = torch.lerp(_HEAT[below.long()], _HEAT[below.long() + 1], (place - below)[..., None]).permute(2, 0, 1)
    return torch.lerp(gray, color, 0.8 * heat)


def encoded(picture: Tensor, sample: tuple[int, ...]) -> tuple[bytes, str]:
    """A picture as the bytes of a file, and its suffix.

    Args:
        picture: ``[1 or 3, h, w]`` in [0, 1].
        sample: shape of the sample that it shows: a photograph is kept as JPEG, a small one as PNG.
    """
    from PIL import Image

    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    drawn, buffer = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), io.BytesIO()
    if max(sample[1:]) > _PHOTO:
        drawn.save(buffer, "JPEG", quality=88)
        return buffer.getvalue(), ".jpg"
    drawn.save(buffer, "PNG")
    return buffer.getvalue(), ".png"
