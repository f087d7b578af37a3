"""Reading what a user gives, an image, an array, a label, into tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import DataError

UNLABELED = -1


def scaled(inputs: Tensor) -> Tensor:
    """float32 inputs; bytes are scaled from 0…255 to [0, 1].

    Example:
        >>> scaled(torch.tensor([255], dtype=torch.uint8))
        tensor([1.])
    """
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs.float()


def as_sample(value: Any, where: str) -> Tensor:
    """One input of a Dataset: float32, channels first; an image's bytes are scaled. ``where`` is for the message."""
    if not isinstance(value, Tensor):
        picture = hasattr(value, "convert") and hasattr(value, "mode")  # PIL's, without importing it
        if picture and value.mode in {"P", "1"}:
            value = value.convert("RGB" if value.mode == "P" else "L")
        array = np.array(value)
        if array.dtype.kind not in "uif" or array.ndim == 0:
            raise DataError(
                f"{where} is {type(value).__name__}, expected an image, an array or a tensor",
                cure="let the Dataset give (input, label), and no dictionaries",
            )
        if array.ndim == 3 and (picture or (array.shape[2] in {1, 3, 4} and array.shape[0] not in {1, 3, 4})):
            array = np.moveaxis(array, -1, 0)
        array = array[None] if array.ndim == 2 else array
        value = torch.from_numpy(np.ascontiguousarray(array))
    return scaled(value.detach())


def as_label(value: Any, where: str) -> int:
    """One label of a Dataset: a class number; None is no label."""
    if value is None:
        return UNLABELED
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise DataError(f"{where} has the label {value!r:.80}, expected a class number", cure="number the classes from 0")


def as_inputs(inputs: Any, name: str) -> Tensor:
    """All inputs of a split: bytes as they are, numbers as float32, on the CPU."""
    if isinstance(inputs, Tensor):
        value = inputs.detach().cpu()
    else:
        array = np.ascontiguousarray(inputs)
        if array.dtype.kind not in "uif":
            raise DataError(f"inputs of split '{name}' are {array.dtype}, expected bytes or floats")
        # torch shares memory with an array, and warns if it may not write there.
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        value = torch.from_numpy(array if array.flags.writeable else array.copy())
    if value.ndim < 2:
        raise DataError(f"inputs of split '{name}' have shape {tuple(value.shape)}, expected [N, D] or [N, C, H, W]")
    if value.dtype == torch.uint8:
        return value
    if not (value.is_floating_point() or value.dtype in {torch.int16, torch.int32, torch.int64}):
        raise DataError(f"inputs of split '{name}' are {value.dtype}, expected bytes or floats")
    return value.float()


def as_targets(targets: Any, name: str) -> Tensor:
    """All labels of a split: int64 ``[N]``."""
    cure = "give one class number a sample, from 0"
    if isinstance(targets, Tensor):
        value = targets.detach().cpu()
    else:
        array = np.array(targets)
        if array.dtype.kind not in "uifb":
            raise DataError(f"labels of split '{name}' are {array.dtype}, expected whole numbers", cure=cure)
        value = torch.from_numpy(array)
    if value.ndim > 1 and value.shape[1:].numel() != 1:
        raise DataError(f"labels of split '{name}' have shape {tuple(value.shape)}, expected [N]", cure=cure)
    if value.is_floating_point() and not torch.equal(value, value.round()):
        raise DataError(f"labels of split '{name}' are not whole numbers", cure=cure)
    return value.to(torch.int64).reshape(-1)


def labels_only(targets: Tensor, keep: Any) -> Tensor:
    """The labels at the addresses ``keep``, or where the mask ``keep`` is true, and none elsewhere.

    Example:
        >>> labels_only(torch.tensor([3, 4, 5]), [0, 2])
        tensor([ 3, -1,  5])
    """
    kept = torch.as_tensor(keep)
    kept = kept if kept.dtype == torch.bool else kept.to(torch.int64)
    out = torch.full_like(targets, UNLABELED)
    out[kept] = targets[kept]
    return out
