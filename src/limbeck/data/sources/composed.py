"""Pictures composed of scikit-learn's digits, with exact masks: a set of segmentation that needs no files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.data import stratified
from limbeck.data.order import uniform
from limbeck.data.scenes import Region, Scene, SceneSplit

CLASSES = ("background", "closed", "straight", "open")
SIDE = 64
INK = 0.4  # from this on a pixel is of the digit
PICTURES = {"train": 300, "validation": 60, "test": 120}
HELD_OUT = {"test": 540, "validation": 252}  # of scikit-learn's digits, as the source digits holds them out
_GROUPS = (1, 2, 3, 3, 2, 3, 1, 2, 1, 1)  # by digit its class: 0, 6, 8, 9 have a hole; 1, 4, 7 are straight
_CELLS = ((0, 0), (0, 32), (32, 0), (32, 32))  # corners of the parts that hold at most one digit each
_CELL = 32
_LEAST, _MOST = 16, 28  # side of a digit
_SHARE = 0.85  # of the parts, that hold one
Floats = NDArray[np.float64]


def compose(seed: int = 0) -> dict[str, Any]:
    """The parts of :class:`limbeck.data.data.Data`: splits by name, classes, and ``notes``.

    Pictures of 64×64 pixels in color, each with up to four digits of drawn place, size and color before a drawn
    texture. A mask is exact: a pixel is of a digit where its ink, enlarged bilinearly, is at least 0.4 of the most. No
    digit of scikit-learn is in two splits. A digit's class is its shape: closed (0, 6, 8, 9 have a hole), straight
    (1, 4, 7) or open (2, 3, 5).

    Args:
        seed: of the draws, and of which digits are held out.
    """
    images, labels, rows = _digits(seed)
    parts: dict[str, Any] = {}
    for number, (name, count) in enumerate(PICTURES.items()):
        regions = []
        for at in range(count):
            picture, mask = composed(images, labels, rows[name], (seed, number, at))
            drawn = torch.from_numpy(picture), torch.from_numpy(mask)
            regions.append(Region.whole(Scene.of(f"{name}-{at:03d}", *drawn, len(CLASSES))))
        parts[name] = SceneSplit(regions, CLASSES, name, patch=(SIDE, SIDE))
    used = ", ".join(f"{len(rows[name]):,} for {name}" for name in PICTURES)
    notes = [
        f"composed of scikit-learn's digits, none of them in two splits: {used}",
        "divided by image: whole pictures are held out",
    ]
    return {**parts, "classes": CLASSES, "notes": notes}


def composed(
    images: Floats, labels: NDArray[np.int64], rows: NDArray[np.int64], address: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture, uint8 ``[3, 64, 64]``, and its mask, uint8 ``[64, 64]``.

    Args:
        images: digits, ``[N, 8, 8]`` in [0, 1].
        labels: their digits, ``[N]``.
        rows: those that may be in this picture.
        address: seed, number of the split, number of the picture: all that it depends on.

    Example:
        >>> picture, mask = composed(np.ones((1, 8, 8)), np.array([7]), np.array([0]), (0, 0, 0))
        >>> picture.shape, mask.shape, sorted(set(mask.ravel().tolist()))
        ((3, 64, 64), (64, 64), [0, 2])
    """
    picture, mask = _texture(address), np.zeros((SIDE, SIDE), dtype=np.uint8)
    for cell, corner in enumerate(_CELLS):
        there, which, size, down, right, *color = uniform(*address, 1, cell, np.arange(8)).tolist()
        if there >= _SHARE:
            continue
        row = rows[int(which * len(rows))]
        side = _LEAST + int(size * (_MOST - _LEAST + 1))
        top, left = (start + int(part * (_CELL - side + 1)) for start, part in zip(corner, (down, right), strict=True))
        ink = enlarged(images[row], side)
        inside = ink >= INK
        part = picture[:, top : top + side, left : left + side]  # a view: the picture is written through it
        # Lighter than most of the background in every channel; where ink is faint the background shines through.
        paint = 0.45 + 0.55 * np.array(color)[:, None, None]
        part[:] = np.where(inside, paint * ink + part * (1 - ink), part)
        mask[top : top + side, left : left + side][inside] = _GROUPS[labels[row]]
    noise = uniform(*address, 2, np.arange(3 * SIDE * SIDE)).reshape(3, SIDE, SIDE)
    picture = picture + 0.12 * (noise - 0.5)
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8), mask


def enlarged(image: Floats, side: int) -> Floats:
    """A square picture ``[h, h]`` sampled bilinearly to ``[side, side]``, pixels as areas.

    Example:
        >>> enlarged(np.array([[0.0, 1.0], [0.0, 1.0]]), 4)[0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    length = len(image)
    place = ((np.arange(side) + 0.5) * length / side - 0.5).clip(0, length - 1)
    low = np.minimum(place.astype(np.int64), length - 2)
    part = place - low
    across = image[:, low] * (1 - part) + image[:, low + 1] * part
    down = part[:, None]
    found: Floats = across[low] * (1 - down) + across[low + 1] * down
    return found


def _texture(address: tuple[int, int, int]) -> Floats:
    """A background of coarse and finer spots, float64 ``[3, 64, 64]``, mostly below 0.5."""
    found = []
    for channel in range(3):
        coarse, fine = (
            enlarged(uniform(*address, 0, channel, size, np.arange(size * size)).reshape(size, size), SIDE)
            for size in (4, 16)
        )
        found.append(0.35 * coarse + 0.3 * fine)
    return np.stack(found)


def _digits(seed: int) -> tuple[Floats, NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """scikit-learn's digits and their labels, and which of them each split has."""
    from sklearn.datasets import load_digits

    found = load_digits()
    labels = found.target.astype(np.int64)
    rest, rows = torch.arange(len(labels)), {}
    for name, count in HELD_OUT.items():
        kept, taken = stratified(torch.from_numpy(labels)[rest], count, seed=seed)
        rows[name], rest = rest[taken].numpy(), rest[kept]
    return found.images / 16.0, labels, {**rows, "train": rest.numpy()}


__all__ = ["CLASSES", "compose", "composed", "enlarged"]
