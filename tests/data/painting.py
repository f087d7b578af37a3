"""Small picture files for the tests of folders and tables."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (9, 12), mode: str = "RGB", **options: Any) -> Path:
    """A picture of random bytes; ``size`` is height and width."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(path, **options)
    return path


def folders(root: Path, classes: tuple[str, ...] = ("cat", "dog"), **splits: int) -> Path:
    """``root/SPLIT/CLASS/0.png`` …, so many of each class; no two alike. Without splits: ``root/CLASS/…``, 10 each."""
    for number, (split, count) in enumerate((splits or {"": 10}).items()):
        for label, name in enumerate(classes):
            for at in range(count):
                paint(root / split / name / f"{at}.png", seed=number * 10_000 + label * 1000 + at)
    return root


COLORS = {"land": "#8429F6", "water": "#E2A929", "road": "#6EC1E4"}
CODES = np.array([[0x84, 0x29, 0xF6], [0xE2, 0xA9, 0x29], [0x6E, 0xC1, 0xE4], [0x9B, 0x9B, 0x9B]], dtype=np.uint8)


def drawn_mask(seed: int = 0, size: tuple[int, int] = (20, 24), classes: int = 3) -> Any:
    """Class numbers ``[H, W]``, every class there."""
    found = np.random.default_rng(seed).integers(0, classes, size).astype(np.uint8)
    found[0, :classes] = np.arange(classes)
    return found


def paint_mask(path: Path, numbers: Any, kind: str = "rgb") -> Path:
    """A mask file: ``rgb`` and ``palette`` in the colors of :data:`COLORS` (3 is a fourth, gray one), ``gray``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(CODES[numbers] if kind == "rgb" else numbers.astype(np.uint8))
    if kind == "palette":
        image = Image.fromarray(numbers.astype(np.uint8), "P")
        image.putpalette(CODES.ravel().tolist())
    image.save(path)
    return path


def tiles(root: Path, pictures: int = 3, groups: tuple[str, ...] = ("Tile 1", "Tile 2"), **options: Any) -> Path:
    """``root/GROUP/images/part_0.png`` and ``root/GROUP/masks/part_0.png`` …, 20×24, no two alike."""
    for number, group in enumerate(groups):
        for at in range(pictures):
            seed = 100 * number + at
            paint(root / group / "images" / f"part_{at}.png", seed, (20, 24))
            paint_mask(root / group / "masks" / f"part_{at}.png", drawn_mask(seed), **options)
    return root


def png_by_hand(size: tuple[int, int], bits: int, color: int, rows: bytes) -> bytes:
    """A PNG that Pillow does not write: so many bits a value, color type 0 gray or 2 RGB, rows with their filters."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(size: tuple[int, int]) -> bytes:
    """A PNG of 16 bits a color: the bytes of each row count from 0."""
    return png_by_hand(size, 16, 2, (b"\0" + bytes(range(6 * size[1]))) * size[0])
