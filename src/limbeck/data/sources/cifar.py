"""CIFAR-10 and CIFAR-100: the binary version read here, the Python version through torchvision.

The Python version is made of pickles, and a pickle can run code when it is read. limbeck reads none: torchvision's
classes do, after they have compared every file's MD5 with the published one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DataError

# Of the binary version: folder, training files, test file, names of classes; then bytes before the pixels.
_BINARY = {
    "CIFAR10": (
        "cifar-10-batches-bin",
        [f"data_batch_{number}.bin" for number in range(1, 6)],
        "test_batch.bin",
        "batches.meta.txt",
        1,
    ),
    "CIFAR100": ("cifar-100-binary", ["train.bin"], "test.bin", "fine_label_names.txt", 2),
}
_PIXELS = 3 * 32 * 32


def read_cifar(root: Path, name: str, *, download: bool) -> dict[str, Any]:
    """``train`` and ``test`` as pairs of arrays (uint8 ``[N, 3, 32, 32]``, fine labels), and ``classes``.

    Args:
        root: the folder that holds ``cifar-10-batches-bin`` or ``cifar-10-batches-py`` (CIFAR-100: ``cifar-100-binary``
            or ``cifar-100-python``); the binary version is taken if both are there.
        name: ``CIFAR10`` or ``CIFAR100``.
        download: let torchvision fetch the Python version, if neither is there.

    Raises:
        DataError: if files are missing, cut off, or not the published ones.
    """
    folder, train, test, names, skipped = _BINARY[name]
    if not (root / folder).is_dir():
        return _through_torchvision(root, name, download)
    home = root / folder
    try:
        classes = [line.strip() for line in (home / names).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{home / names} can not be read ({error})", cure=_cure(home)) from None
    parts = {
        split: [_read_binary(home / file, skipped) for file in files]
        for split, files in (("train", train), ("test", [test]))
    }
    joined = {split: tuple(map(np.concatenate, zip(*found, strict=True))) for split, found in parts.items()}
    return {**joined, "classes": classes}


def _read_binary(path: Path, skipped: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError:
        raise DataError(f"{path} is missing", cure=_cure(path.parent)) from None
    if data.size == 0 or data.size % (skipped + _PIXELS):
        raise DataError(
            f"{path} holds {data.size} bytes, which is no multiple of {skipped + _PIXELS}: it is damaged",
            cure=_cure(path.parent),
        )
    rows = data.reshape(-1, skipped + _PIXELS)
    return rows[:, skipped:].reshape(-1, 3, 32, 32), rows[:, skipped - 1].astype(np.int64)


def _through_torchvision(root: Path, name: str, download: bool) -> dict[str, Any]:
    from torchvision import datasets

    made = getattr(datasets, name)
    try:
        train, test = made(str(root), train=True, download=download), made(str(root), train=False)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{root / made.base_folder} is missing, or not what was published ({error})",
            cure=f"put {made.base_folder} or {_BINARY[name][0]} there, or set download: true",
        ) from None
    parts = {
        split: (np.ascontiguousarray(found.data.transpose(0, 3, 1, 2)), np.asarray(found.targets, dtype=np.int64))
        for split, found in (("train", train), ("test", test))
    }
    return {**parts, "classes": list(train.classes)}


def _cure(folder: Path) -> str:
    return f"unpack the published archive of {folder.name} again"
