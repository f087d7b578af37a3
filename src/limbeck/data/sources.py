"""Sources that a recipe names."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.arrays import read_arrays
from limbeck.data.data import Data, Share
from limbeck.data.duplicates import notes as copies
from limbeck.data.image_sources import Images, load_images
from limbeck.data.normalization import Normalization
from limbeck.errors import DataError, RecipeError, nearest

_MNIST = [f"{stem}-{kind}" for stem in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
_DIGITS = [str(digit) for digit in range(10)]


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
        source: ``digits`` (scikit-learn's, 8×8), ``mnist`` (torchvision's folders in ``root``), ``arrays`` (``.npz``),
            ``image_folder`` (pictures under ``root``), ``image_csv`` (and a table).
        root: folder of the data sets, or of the pictures.
        path: the file of ``arrays``.
        validation: fraction or count of training samples to set aside; a default for each source.
        test: likewise, for sources without a test split of their own.
        seed: of the splits.
        download: fetch the data set if it is not under ``root``.
        normalization: see :class:`Data`.
        duplicates: see :class:`Data`; of copies within a split, a note is made.
        images: of the sources of pictures, see :class:`limbeck.data.image_sources.Images`.

    Raises:
        RecipeError: if the source is unknown or an option is missing.
        DataError: if files are missing or damaged, each named.

    Example:
        >>> {name: len(split) for name, split in load("digits").splits.items()}
        {'train': 1005, 'validation': 252, 'test': 540}
    """
    sources: dict[str, Callable[[], dict[str, Any]]] = {
        "digits": _digits,
        "mnist": lambda: _mnist(Path(root or "data"), download),
        "arrays": lambda: _arrays(path),
        "image_folder": lambda: load_images(Images(root, **images)),
        "image_csv": lambda: load_images(Images(root, **images), table=True),
    }
    if source not in sources:
        raise RecipeError(f"data.source is '{source}'{nearest(source, sources)}", cure=f"known: {', '.join(sources)}")
    parts = sources[source]()
    notes = parts.pop("notes", [])
    given = {"validation": validation, "test": test}
    for name, share in given.items():
        if share is not None and parts.get(name) is not None and not isinstance(parts[name], float | int):
            raise RecipeError(f"data.{name} is {share}, but '{source}' has a {name} split of its own")
        parts[name] = parts.get(name) if share is None else share
    # A named source's floats are raw, unlike a user's own, so that auto means measured for them.
    normalization = "measured" if isinstance(normalization, str) and normalization == "auto" else normalization
    data = Data(**parts, normalization=normalization, name=source, seed=seed, duplicates=duplicates)
    data.notes[:] = [*notes, *data.notes, *copies(data.splits)]
    return data


def _digits() -> dict[str, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16.0).astype(np.float32)[:, None]
    return {"train": (images, found.target.astype(np.int64)), "test": 540, "validation": 252, "classes": _DIGITS}


def _arrays(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        raise RecipeError("data.source 'arrays' needs data.path", cure="path: FILE.npz")
    return read_arrays(path)


def _mnist(root: Path, download: bool) -> dict[str, Any]:
    folder = root / "MNIST" / "raw"
    if download and not all(_present(folder / name) for name in _MNIST):
        from torchvision.datasets import MNIST

        try:
            MNIST(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(f"MNIST could not be downloaded to {root} ({error})") from None
    parts = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{stem}-images-idx3-ubyte", axes=3)
        labels = read_idx(folder / f"{stem}-labels-idx1-ubyte", axes=1)
        if len(images) != len(labels):
            raise DataError(
                f"{folder} has {len(images)} {split} images and {len(labels)} labels",
                cure="fetch all four files again, or set download: true",
            )
        parts[split] = (images[:, None], labels.astype(np.int64))
    return {**parts, "validation": 5000, "classes": _DIGITS}


def _present(path: Path) -> bool:
    return path.is_file() or Path(f"{path}.gz").is_file()


def read_idx(path: str | Path, *, axes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read a file of the idx format, as it is or gzipped (``.gz``).

    Args:
        path: without ``.gz``; the plain file is taken if both are there.
        axes: number of axes that the file must have.

    Raises:
        DataError: if it is missing, cut off, or of another kind.
    """
    plain, packed = Path(path), Path(f"{path}.gz")
    found = plain if plain.is_file() else packed
    again = "fetch it again: remove it and set download: true"
    cure = "put MNIST's four files there, or set download: true"
    try:
        data = found.read_bytes() if found is plain else gzip.decompress(found.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{packed} is missing, and so is {plain.name}", cure=cure) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{found} is damaged ({error})", cure=again) from None
    if len(data) < 4 + 4 * axes or data[:4] != bytes([0, 0, 8, axes]):
        raise DataError(f"{found} is no idx file of bytes with {axes} axes", cure=again)
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise DataError(
            f"{found} says {shape}, {math.prod(shape)} bytes, and holds {values.size}: it is damaged", cure=again
        )
    return values.reshape(shape).copy()
