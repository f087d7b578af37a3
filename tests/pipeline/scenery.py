"""A small set of pictures with masks, and recipes of segmentation that train on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limbeck.recipe.recipe import Recipe

CLASSES = ("land", "water", "roof")
COLORS = {"land": 0, "water": 1, "roof": 2}


def scenery(root: Path, count: int = 6, size: tuple[int, int] = (32, 32)) -> Path:
    """``root/images`` and ``root/masks``: rectangles of water and roofs on land, each class with a color of its own."""
    shades = np.array([[60, 140, 60], [40, 60, 180], [190, 70, 50]])
    for at in range(count):
        draw = np.random.default_rng(at)
        mask = np.zeros(size, dtype=np.uint8)
        for number in (1, 2):
            top, left = draw.integers(0, size[0] // 2), draw.integers(0, size[1] // 2)
            mask[top : top + size[0] // 3, left : left + size[1] // 2] = number
        noise = draw.integers(-30, 30, (*size, 3))
        for name, pixels in (("images", (shades[mask] + noise).clip(0, 255).astype(np.uint8)), ("masks", mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{at}.png")
    return root


def segmenting(root: Path, **changes: Any) -> Recipe:
    """A recipe over :func:`scenery`: widths 3 and 2, patches of 16 pixels, one seed, two epochs."""
    model = {"model": "limbeck/unet", "epochs": 2, "batch_size": 8}
    return Recipe.parse(
        {
            "name": "scenery",
            "task": "segmentation",
            "data": {
                "source": "segmentation_folder", "root": str(root), "colors": COLORS, "patch": 16,
                "validation": 1, "test": 1,
            },
            "teacher": {**model, "options": {"width": 3}},
            "student": {**model, "options": {"width": 2}, "views": {"flip": True}},
            "objective": {"supervised": 0.5, "pixel_kl": {"weight": 0.5, "temperature": 2}},
            "seeds": 1,
            "threads": 1,
            "precision": "fp32",
            "export": [],
        }
    ).changed(changes)  # fmt: skip
