"""MNIST and Fashion-MNIST: four files of the idx format, as they are or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DataError

_FILES = [f"{stem}-{kind}" for stem in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
CLASSES = {
    "MNIST": [str(digit) for digit in range(10)],
    "FashionMNIST": [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ],
}  # fmt: skip


def read_mnist(root: Path, name: str, *, download: bool) -> dict[str, Any]:
    """``train`` and ``test`` as pairs of arrays, and ``classes``, of ``root/NAME/raw`` (torchvision's layout).

    Args:
        root: folder of the data sets.
        name: ``MNIST`` or ``FashionMNIST``.
        download: let torchvision fetch the files, if one is not there.

    Raises:
        DataError: if a file is missing, damaged, or does not fit its labels.
    """
    folder = root / name / "raw"
    if download and not all(_present(folder / file) for file in _FILES):
        from torchvision import datasets

        try:
            getattr(datasets, name)(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{name} could not be downloaded to {root} ({error})") from None
    parts: dict[str, Any] = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{stem}-images-idx3-ubyte", axes=3)
        labels = read_idx(folder / f"{stem}-labels-idx1-ubyte", axes=1)
        if len(images) != len(labels):
            raise DataError(
                f"{folder} has {len(images)} {split} images and {len(labels)} labels",
                cure="fetch all four files again, or set download: true",
            )
        parts[split] = (images[:, None], labels.astype(np.int64))
    return {**parts, "classes": CLASSES[name]}


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
    cure = "put the four files of the set there, or set download: true"
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
