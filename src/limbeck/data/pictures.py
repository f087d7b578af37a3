"""Reading one picture, fitting it to a size, and saying what is odd or wrong with it."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
KINDS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_ORIENTATION = 0x0112  # the EXIF tag

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """How pictures become inputs of one size: bytes ``[C, H, W]``, resized bilinear with antialiasing.

    Args:
        size: height and width.
        fit: ``crop``: the largest centered part of the wanted aspect; ``whole``: all of it, squeezed.
        channels: 1 gray, 3 color, 4 color with alpha.
    """

    size: tuple[int, int]
    fit: str = "crop"
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, *self.size)

    def __call__(self, picture: Any) -> Pixels:
        """A Pillow picture of this frame's mode, fitted.

        Example:
            >>> from PIL import Image
            >>> Frame((4, 4), channels=1)(Image.new("L", (9, 6), 7)).tolist() == [[[7] * 4] * 4]
            True
        """
        from PIL import Image

        (height, width), (wide, high) = self.size, picture.size
        if (wide, high) != (width, height):
            box = (0.0, 0.0, float(wide), float(high))
            if self.fit == "crop":
                scale = min(wide / width, high / height)
                left, top = (wide - width * scale) / 2, (high - height * scale) / 2
                box = (left, top, left + width * scale, top + height * scale)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
        array = np.asarray(picture)
        return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


@dataclass(frozen=True)
class Seen:
    """A picture that was decoded: itself, a hash of its size and all its pixels, and what was done to it."""

    picture: Any
    digest: bytes
    changes: tuple[str, ...]


def read_picture(path: str | Path, channels: int) -> Any:
    """A picture as Pillow holds it, turned to gray (1 channel), color (3) or color with alpha (4), 8 bits each.

    16-bit gray is scaled, not clipped. Of several frames the first is read, and a note on orientation (EXIF) is left
    aside, as data sets do.

    Raises:
        DataError: if it can not be read, naming it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on tags and palettes; a picture that can not be decoded is an error
        return decoded(path, channels)[0]


def see(path: str | Path, channels: int) -> Seen:
    """Read a picture as :func:`read_picture` does, and look at it. Warnings are the caller's: this runs in threads."""
    picture, changes = decoded(path, channels)
    digest = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    return Seen(picture, digest.digest(), changes)


def decoded(path: str | Path, channels: int) -> tuple[Any, tuple[str, ...]]:
    """A picture in the mode of so many channels, and what was done to it."""
    from PIL import Image, ImageFile

    try:
        if ImageFile.LOAD_TRUNCATED_IMAGES:  # set by somebody else: what is missing would be filled with gray
            raise DataError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set", cure="leave it at False")
        with Image.open(path) as image:
            changes = _changes(image, channels)
            return _eight_bits(image).convert(MODES[channels]), changes
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except DataError:
        raise
    except Exception as error:  # of damaged files Pillow's readers raise nearly anything
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is not a readable picture ({line[:200]})", cure="restore it, or convert it to an 8-bit PNG"
        ) from None


def _changes(image: Any, channels: int) -> tuple[str, ...]:
    gray = image.mode in {"1", "L", "LA", "La", "I", "F"} or image.mode.startswith("I;16")
    alpha = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    found = {
        "gray: repeated in every channel": gray and channels != 1,
        "color: turned to gray": not gray and channels == 1,
        "alpha: left out, not blended": alpha and channels != 4,
        "16 bits: scaled to 8": image.mode == "I" or image.mode.startswith("I;16"),
        "several frames: the first was taken": getattr(image, "n_frames", 1) > 1,
        "a turned or mirrored camera (EXIF): taken as stored": image.getexif().get(_ORIENTATION, 1) not in {0, 1},
        "CMYK: turned to RGB": image.mode == "CMYK",
    }
    return tuple(change for change, there in found.items() if there)


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        wide = np.asarray(image).astype(np.int64)  # Pillow's own conversion would clip at 255
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: its numbers have no known range")
    return image
