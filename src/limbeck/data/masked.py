"""A user's own pictures and masks as a split: arrays, lists of arrays of several sizes, a torch Dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.data.convert import UNLABELED
from limbeck.data.held import Holding, Pair
from limbeck.data.order import permutation, reseeded
from limbeck.data.scenes import IGNORED, MOST_CLASSES, Region, Scene, SceneSplit, check_cut
from limbeck.data.windows import Size
from limbeck.errors import DataError, RecipeError

_KNOWN = "-1 and 255 are no label"
_PROBED = 8  # samples of a Dataset that are fetched twice


def has_masks(value: Any) -> bool:
    """Whether what a user gives for a split is pictures with masks: ``(pictures, masks)``, or a Dataset of such items.

    Masks have two axes each; labels of samples have none.

    Example:
        >>> has_masks((np.zeros((2, 3, 8, 8)), np.zeros((2, 8, 8)))), has_masks((np.zeros((2, 3, 8, 8)), [0, 1]))
        (True, False)
    """
    if isinstance(value, Dataset):
        item = _first(value)
        return isinstance(item, tuple | list) and len(item) == 2 and _axes(item[1]) >= 2
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    inputs, targets = value
    if isinstance(targets, list | tuple):
        return bool(targets) and all(_axes(one) == 2 for one in targets)
    images = isinstance(inputs, list | tuple) or _axes(inputs) in {3, 4}
    return _axes(targets) == 3 and images and targets.shape[1] * targets.shape[2] > 1


def masked_split(
    value: Any, classes: Sequence[str] | None, name: str, *, patch: int | Sequence[int] | None = None, overlap: int = 0
) -> SceneSplit:
    """Pictures with masks as a split.

    Args:
        value: ``(pictures, masks)`` or a Dataset whose items are such pairs. Pictures are bytes ``[C, H, W]``,
            ``[H, W, C]`` or ``[H, W]``, or Pillow's, stacked or in a list; masks whole numbers ``[H, W]``, the class
            of each pixel, -1 or 255 for no label.
        classes: names; None: the Dataset's ``classes``, or numbers up to the largest that occurs.
        name: of the split.
        patch: side of the samples, or (height, width); None: whole pictures, which must be of one size then.
        overlap: pixels that neighboring patches share.

    Raises:
        DataError: naming the picture.
        RecipeError: if patch or overlap are impossible.

    Example:
        >>> split = masked_split((np.zeros((2, 4, 6, 3), np.uint8), np.ones((2, 4, 6), int)), None, "train")
        >>> split.shape, split.classes, split.class_counts().tolist()
        ((3, 4, 6), ('0', '1'), [0, 48])
    """
    read, count = _reading(value, name)
    if not count:
        raise DataError(f"split '{name}' is empty")
    holding = Holding(read)
    pairs, sizes, largest = [], [], []
    for at in range(count):
        picture, mask = read(at)
        pairs.append(holding.keep(at, (picture, mask)))
        sizes.append((mask.shape[0], mask.shape[1]))
        labeled = mask[mask != IGNORED]
        largest.append(int(labeled.max()) if len(labeled) else UNLABELED)
    known = tuple(map(str, classes or getattr(value, "classes", None) or range(max(largest) + 1)))
    if not 2 <= len(known) <= MOST_CLASSES:
        raise DataError(f"split '{name}' has {len(known)} classes, expected 2 to {MOST_CLASSES}")
    for at, label in enumerate(largest):
        if label >= len(known):
            raise DataError(
                f"the mask of picture {at} of split '{name}' holds {label}, expected 0 to {len(known) - 1} for "
                f"{len(known)} classes; {_KNOWN}",
                cure="number the classes from 0, or name them all in classes",
            )
    scenes = [Scene.of(f"{name} {at}", *pair(), len(known), None, pair) for at, pair in enumerate(pairs)]
    size = _size(patch, sizes, name)
    step = (size[0] - overlap, size[1] - overlap)
    check_cut(size, step, "cover")
    return SceneSplit([Region.whole(scene) for scene in scenes], known, name, patch=size, step=step)


def drawn(split: SceneSplit, share: float | int, name: str, *, seed: int) -> tuple[SceneSplit, SceneSplit]:
    """The pictures that are left, and those that are set aside: whole ones.

    Args:
        split: to be divided.
        share: fraction or count of pictures.
        name: of what is set aside.
        seed: of the choice.

    Raises:
        DataError: if one of them would be empty.
    """
    total = len(split.regions)
    if isinstance(share, bool) or not share > 0:
        raise DataError(f"a split of {share} is not possible", cure="give a fraction below 1, or a count")
    count = share if isinstance(share, int) else max(round(share * total), 1)
    if not 0 < count < total:
        raise DataError(
            f"a split of {share} of {total} pictures is not possible", cure=f"give {name}=…, or more pictures"
        )
    order = permutation(seed, 0, total).tolist()
    taken, rest = sorted(order[:count]), sorted(order[count:])
    return split.parted(rest, split.name, step=split.step), split.parted(taken, name)


def check_unlabeled(split: Any) -> None:
    """See that pictures without masks are not put beside those with masks."""
    if getattr(split, "dense", False):
        raise RecipeError(
            "unlabeled is for data with one label a sample, and these have masks",
            cure="leave it out; give such pictures as training pictures whose masks are 255 throughout",
        )


def _reading(value: Any, name: str) -> tuple[Any, int]:
    """A picture and its mask by number, as bytes; and how many there are."""
    if isinstance(value, Dataset):
        return _of_dataset(value, name)
    pictures, masks = value
    if len(pictures) != len(masks):
        raise DataError(
            f"split '{name}' has {len(pictures)} pictures and {len(masks)} masks", cure="give every picture its mask"
        )

    def read(at: int) -> Pair:
        return _pair(pictures[at], masks[at], f"picture {at} of split '{name}'")

    return read, len(pictures)


def _of_dataset(dataset: Any, name: str) -> tuple[Any, int]:
    count = len(dataset)

    def read(at: int) -> Pair:
        item, where = dataset[at], f"picture {at} of split '{name}'"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{where} is {type(item).__name__}", cure="let the Dataset give (picture, mask)")
        picture, mask = item
        return _pair(picture, mask, where)

    for at in range(0, count, max(count // _PROBED, 1)):
        found = []
        for seed in (1, 2):
            with reseeded(seed):
                found.append(read(at))
        same = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*found, strict=True))
        if not same:
            raise DataError(
                f"picture {at} of split '{name}' is another one each time: the Dataset has random transforms, which "
                "masks can not be known to follow",
                cure="take them out of the Dataset, and give them as views",
            )
    return read, count


def _pair(picture: Any, mask: Any, where: str) -> Pair:
    pixels, labels = _array(picture), _array(mask)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{where} is {pixels.dtype}, expected bytes",
            cure="give uint8 from 0 to 255 without normalization: bytes are scaled and normalized here",
        )
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise DataError(
            f"the mask of {where} is {labels.dtype} of shape {labels.shape}, expected whole numbers [H, W]",
            cure="give the class number of each pixel",
        )
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or labels.shape not in (pixels.shape[1:], pixels.shape[:2]):
        raise DataError(
            f"{where} has shape {pixels.shape}, its mask {labels.shape}", cure="give every picture a mask of its size"
        )
    if labels.shape != pixels.shape[1:]:
        pixels = np.moveaxis(pixels, 2, 0)
    wrong = (labels < UNLABELED) | (labels > IGNORED)
    if wrong.any():
        raise DataError(
            f"the mask of {where} holds {int(labels[wrong][0])}, expected class numbers from 0; {_KNOWN}",
            cure="number the classes from 0",
        )
    found = np.where(labels == UNLABELED, IGNORED, labels).astype(np.uint8)
    return torch.from_numpy(np.array(pixels)), torch.from_numpy(found)


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _axes(value: Any) -> int:
    """Axes of an array or a picture; 0 of anything else."""
    if isinstance(value, Tensor | np.ndarray):
        return int(value.ndim)
    return np.asarray(value).ndim if hasattr(value, "convert") and hasattr(value, "mode") else 0


def _first(dataset: Any) -> Any:
    try:
        with reseeded(0):
            return dataset[0] if len(dataset) else None
    except Exception:  # whatever is wrong with it is said where it is read
        return None


def _size(patch: int | Sequence[int] | None, sizes: Iterable[Size], name: str) -> Size:
    if patch is not None:
        sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
        if len(sides) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) for one in sides):
            raise RecipeError(f"patch is {patch!r}, expected a side or (height, width)")
        return sides[0], sides[1]
    found = sorted(set(sizes))
    if len(found) > 1:
        raise DataError(
            f"pictures of split '{name}' have {len(found)} sizes, from {found[0][0]}×{found[0][1]} to "
            f"{found[-1][0]}×{found[-1][1]}",
            cure="give patch=, the size of the samples that are cut from them",
        )
    return found[0]


__all__ = ["check_unlabeled", "drawn", "has_masks", "masked_split"]
