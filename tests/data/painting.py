"""Small picture files for the tests of folders and tables."""

from __future__ import annotations

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
