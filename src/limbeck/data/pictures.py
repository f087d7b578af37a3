"""Reading one picture, and saying what is wrong with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_picture(path: str | Path, channels: int) -> Any:
    """A picture as Pillow holds it, turned to gray (1 channel), color (3) or color with alpha (4), 8 bits each.

    16-bit gray is scaled, not clipped. Of several frames the first is read, and a note on orientation (EXIF) is left
    aside, as data sets do.

    Raises:
        DataError: if it can not be read, naming it.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # on tags and palettes; a picture that can not be decoded is an error
            return _eight_bits(image).convert(MODES[channels])
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except Exception as error:  # of damaged files Pillow's readers raise nearly anything
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is not a readable picture ({line[:200]})", cure="restore it, or convert it to an 8-bit PNG"
        ) from None


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        wide = np.asarray(image).astype(np.int64)  # Pillow's own conversion would clip at 255
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: its numbers have no known range")
    return image
