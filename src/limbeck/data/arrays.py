"""The ``.npz`` layout: arrays by name, read without pickle."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from limbeck.errors import DataError, nearest

_KEYS = ("x", "y", "x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test", "unlabeled", "classes")


# What numpy and zipfile raise for a file that is cut off, damaged, pickled or of another kind.
_DAMAGED = (
    OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, NotImplementedError, MemoryError, SyntaxError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_arrays(path: str | Path) -> dict[str, Any]:
    """Read an ``.npz`` file: ``x_train``, ``y_train`` (or ``x``, ``y``), and if they are there ``x_validation``,
    ``y_validation``, ``x_test``, ``y_test``, ``unlabeled``, ``classes`` (names).

    Images may be ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``, see :func:`as_images`.

    Returns:
        ``train``, ``validation``, ``test``: pairs or None; ``unlabeled``: inputs or None; ``classes``: names or None.

    Raises:
        DataError: naming file and key.
    """
    path = Path(path)
    try:
        # Opened here: of a damaged file that it opened itself, numpy leaves the handle open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise DataError(f"{path} is missing", cure="check data.path") from None
    except _DAMAGED as error:
        raise DataError(f"{path} is not a whole .npz file of plain arrays ({error})", cure="write it again") from None
    for key in arrays:
        if key not in _KEYS:
            raise DataError(
                f"{path} has an unknown array '{key}'{nearest(key, _KEYS)}", cure=f"known: {', '.join(_KEYS)}"
            )
    for short, long in (("x", "x_train"), ("y", "y_train")):
        if short in arrays and long in arrays:
            raise DataError(f"{path} has both '{short}' and '{long}'", cure="keep one of them")
    if "x" in arrays or "y" in arrays:
        arrays = {{"x": "x_train", "y": "y_train"}.get(key, key): value for key, value in arrays.items()}
    if "x_train" not in arrays:
        raise DataError(f"{path} has no array 'x_train' (or 'x')", cure=f"known: {', '.join(_KEYS)}")
    pairs = {split: _pair(arrays, split, path) for split in ("train", "validation", "test")}
    unlabeled = as_images(arrays["unlabeled"]) if "unlabeled" in arrays else None
    classes = [str(one) for one in arrays["classes"]] if "classes" in arrays else None
    return {**pairs, "unlabeled": unlabeled, "classes": classes}


def as_images(array: Any) -> Any:
    """Images with channels second, from ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``; others as they are.

    Four axes are channels-last if the last one is 1, 3 or 4 and the second is not.

    Example:
        >>> as_images(np.zeros((5, 8, 8, 3))).shape, as_images(np.zeros((5, 8, 8))).shape
        ((5, 3, 8, 8), (5, 1, 8, 8))
    """
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in {1, 3, 4} and array.shape[1] not in {1, 3, 4}:
        return array.permute(0, 3, 1, 2).contiguous() if isinstance(array, Tensor) else np.moveaxis(array, 3, 1).copy()
    return array


def _pair(arrays: dict[str, Any], split: str, path: Path) -> tuple[Any, Any] | None:
    inputs, targets = arrays.get(f"x_{split}"), arrays.get(f"y_{split}")
    if inputs is None and targets is None:
        return None
    if inputs is None or targets is None:
        raise DataError(f"{path} has only one of 'x_{split}' and 'y_{split}'", cure="give both")
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise DataError(f"{path}: 'y_{split}' is {targets.dtype} of shape {targets.shape}, expected whole numbers [N]")
    return as_images(inputs), targets
