"""Sources that a recipe names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.arrays import read_arrays
from limbeck.data.convert import UNLABELED
from limbeck.data.data import Data, Share
from limbeck.data.duplicates import notes as copies
from limbeck.data.normalization import Normalization
from limbeck.data.sources.cifar import read_cifar
from limbeck.data.sources.composed import compose
from limbeck.data.sources.idx import read_mnist
from limbeck.data.sources.masks import Masked, load_masked
from limbeck.data.sources.pictures import Images, load_images
from limbeck.errors import RecipeError, nearest


def load(
    source: str,
    *,
    root: str | Path | None = None,
    path: str | Path | None = None,
    validation: Share | None = None,
    test: Share | None = None,
    seed: int = 0,
    download: bool = False,
    normalization: str | Normalization = "auto",
    duplicates: str = "report",
    **images: Any,
) -> Data:
    """Load a data set by the name that a recipe uses.

    Args:
        source: ``digits`` (scikit-learn's, 8×8), ``mnist``, ``fashion_mnist``, ``cifar10``, ``cifar100`` (torchvision's
            folders in ``root``), ``arrays`` (``.npz``), ``image_folder`` (pictures under ``root``),
            ``image_csv`` (and a table), ``segmentation_folder`` (pictures and masks under ``root``),
            ``segmentation_digits`` (pictures composed of scikit-learn's digits, with masks).
        root: folder of the data sets, or of the pictures.
        path: the file of ``arrays``.
        validation: fraction or count of training samples to set aside; a default for each source.
        test: likewise, for sources without a test split of their own.
        seed: of the splits.
        download: fetch the data set if it is not under ``root``.
        normalization: see :class:`Data`.
        duplicates: see :class:`Data`; of copies within a split, a note is made.
        images: of the sources of pictures, see :class:`limbeck.data.sources.pictures.Images` and
            :class:`limbeck.data.sources.masks.Masked`.

    Raises:
        RecipeError: if the source is unknown or an option is missing.
        DataError: if files are missing or damaged, each named.

    Example:
        >>> {name: len(split) for name, split in load("digits").splits.items()}
        {'train': 1005, 'validation': 252, 'test': 540}
    """
    home, shares = Path(root or "data"), {"validation": validation, "test": test}
    sources: dict[str, Callable[[], dict[str, Any]]] = {
        "digits": _digits,
        "mnist": lambda: {"validation": 5000, **read_mnist(home, "MNIST", download=download)},
        "fashion_mnist": lambda: {"validation": 5000, **read_mnist(home, "FashionMNIST", download=download)},
        "cifar10": lambda: {"validation": 5000, **read_cifar(home, "CIFAR10", download=download)},
        "cifar100": lambda: {"validation": 5000, **read_cifar(home, "CIFAR100", download=download)},
        "arrays": lambda: _arrays(path),
        "image_folder": lambda: load_images(Images(root, **_keys(Images, images))),
        "image_csv": lambda: load_images(Images(root, **_keys(Images, images)), table=True),
        "segmentation_folder": lambda: _masked(root, seed, shares, images),
        "segmentation_digits": lambda: compose(seed),
    }
    if source not in sources:
        raise RecipeError(f"data.source is '{source}'{nearest(source, sources)}", cure=f"known: {', '.join(sources)}")
    parts = sources[source]()
    notes = parts.pop("notes", [])
    for name, share in shares.items():
        if share is not None and parts.get(name) is not None and not isinstance(parts[name], float | int):
            raise RecipeError(f"data.{name} is {share}, but '{source}' has a {name} split of its own")
        parts[name] = parts.get(name) if share is None else share
    # A named source's floats are raw, unlike a user's own, so that auto means measured for them.
    normalization = "measured" if isinstance(normalization, str) and normalization == "auto" else normalization
    data = Data(**parts, normalization=normalization, name=source, seed=seed, duplicates=duplicates)
    data.notes[:] = [*notes, *data.notes, *copies(data.splits)]
    return data


def _masked(root: Any, seed: int, shares: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """The splits of a source of masks, which draws its shares itself."""
    keys = {**keys, "held_out": keys.get("held_out") or {}}
    taken = {name: shares.pop(name) for name in tuple(shares)}
    return load_masked(Masked(root, seed=seed, **taken, **_keys(Masked, keys)))


def _keys(kind: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of a source's own; those of others are at their defaults, as the recipe's check sees to."""
    return {key: value for key, value in keys.items() if key in kind.__dataclass_fields__}


def _digits() -> dict[str, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16.0).astype(np.float32)[:, None]
    return {
        "train": (images, found.target.astype(np.int64)),
        "test": 540,
        "validation": 252,
        "classes": [str(digit) for digit in range(10)],
    }


def _arrays(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        raise RecipeError("data.source 'arrays' needs data.path", cure="path: FILE.npz")
    parts = read_arrays(path)
    none = {name: int((parts[name][1] == UNLABELED).sum()) for name in ("train", "validation", "test") if parts[name]}
    notes = [
        f"{count} samples of split '{name}' have the label {UNLABELED}, so they count as unlabeled"
        for name, count in none.items()
        if count
    ]
    return {**parts, "notes": notes}
