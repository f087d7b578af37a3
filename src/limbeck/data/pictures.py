"""Pictures in files: finding them, reading one, fitting it to a size, and saying what is odd or wrong with it."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

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
        "16 bits a color: the upper 8 were taken": not gray and deep(raw_mode(image)),
        "several frames: the first was taken": getattr(image, "n_frames", 1) > 1,
        "a turned or mirrored camera (EXIF): taken as stored": image.getexif().get(_ORIENTATION, 1) not in {0, 1},
        "CMYK: turned to RGB": image.mode == "CMYK",
    }
    return tuple(change for change, there in found.items() if there)


def raw_mode(image: Any) -> str:
    """How an opened picture that is not decoded yet lies in its file, in Pillow's words, such as ``RGB;16B``."""
    tiles = getattr(image, "tile", None) or [(None, None, None, "")]
    found = tiles[0][3]
    return str(found[0] if isinstance(found, tuple) and found else found)


def deep(raw: str) -> bool:
    """Whether a raw mode has more than 8 bits a value."""
    return ";16" in raw or ";32" in raw or raw in {"I", "F"}


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        wide = np.asarray(image).astype(np.int64)  # Pillow's own conversion would clip at 255
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: its numbers have no known range")
    return image


def pictures_under(folder: Path) -> tuple[list[Path], list[Path]]:
    """All pictures under a folder, sorted, and what else lies there. Hidden files and folders are left aside.

    Links to files are followed, links to folders within it are not: they could lead in circles.

    Raises:
        DataError: if a folder can not be read, or a name is not UTF-8.
    """
    found: list[Path] = []
    other: list[Path] = []
    for where, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(where)
        other += [here / name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (here / name for name in files if not name.startswith(".")):
            check_name(path)
            (found if path.suffix.lower() in KINDS and path.is_file() else other).append(path)
    return sorted(found), sorted(other)


def folders_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files directly in a folder, sorted; hidden ones are left aside."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        _unreadable(error)
    for path in inside:
        check_name(path)
    return [path for path in inside if path.is_dir()], [path for path in inside if not path.is_dir()]


def check_name(path: Path) -> None:
    """See that a name can be written into reports."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {str(path)!r} is not UTF-8", cure="rename the file") from None


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} can not be read ({error.strerror})", cure="check its permissions") from None
