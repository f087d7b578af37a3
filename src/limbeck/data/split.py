"""Splits: the samples of one part of the data, fetched by address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.batch import Batch
from limbeck.errors import DataError

UNLABELED = -1


class Split:
    """Samples of one split, in memory.

    Args:
        inputs: ``[N, …]``; uint8 is kept as bytes and scaled to [0, 1] when fetched, floats are taken as they are.
        targets: int64 ``[N]``, -1 for no label; None: no labels at all.
        classes: class names, in the order of the labels.
        name: ``train``, ``validation``, ``test``, …

    Raises:
        DataError: if it is empty, sizes differ, a label is out of range, or an input is not finite.

    Example:
        >>> split = Split(torch.tensor([[0], [255]], dtype=torch.uint8), [0, 1], ("dark", "light"), "train")
        >>> split.fetch(torch.tensor([1]))
        (tensor([[1.]]), tensor([1]))
    """

    replayable = True

    def __init__(self, inputs: Any, targets: Any, classes: Sequence[str], name: str) -> None:
        self.inputs = _as_inputs(inputs, name)
        size = len(self.inputs)
        self.targets = torch.full((size,), UNLABELED) if targets is None else _as_targets(targets, name)
        self.classes, self.name = tuple(str(one) for one in classes), name
        _check(self, size)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    @property
    def labeled(self) -> int:
        """How many samples have a label."""
        return int((self.targets >= 0).sum())

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (float32) and targets of the samples at ``index``, int64 ``[B]``."""
        return scaled(self.inputs[index]), self.targets[index]

    def subset(self, index: Any, name: str | None = None) -> Split:
        """The samples at ``index``, in that order."""
        index = torch.as_tensor(index, dtype=torch.int64)
        return Split(self.inputs[index], self.targets[index], self.classes, name or self.name)

    def without_labels(self, keep: Any) -> Split:
        """The same samples, with labels only at the addresses ``keep``."""
        targets = torch.full_like(self.targets, UNLABELED)
        targets[torch.as_tensor(keep)] = self.targets[torch.as_tensor(keep)]
        return Split(self.inputs, targets, self.classes, self.name)

    def joined(self, other: Split) -> Split:
        """These samples and then the other's."""
        if self.inputs.dtype != other.inputs.dtype or self.shape != other.shape:
            raise DataError(
                f"split '{other.name}' holds {other.inputs.dtype} inputs of shape {other.shape}, "
                f"split '{self.name}' {self.inputs.dtype} of shape {self.shape}",
                cure="prepare both in the same way",
            )
        inputs, targets = torch.cat([self.inputs, other.inputs]), torch.cat([self.targets, other.targets])
        return Split(inputs, targets, self.classes, self.name)

    def fingerprint(self) -> str:
        """sha256 over contents, shapes, labels and class names."""
        digest = hashlib.sha256(repr((self.inputs.dtype, tuple(self.inputs.shape), self.classes)).encode())
        digest.update(self.inputs.contiguous().numpy().data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()


class DatasetSplit(Split):
    """A map-style torch Dataset as a split; items are ``(input, label)`` or an input alone.

    Its labels are read once. Whether it can be replayed is measured: a few samples are fetched twice, and a dataset
    whose own transforms are random gives something else the second time.

    Args:
        dataset: the dataset; images may be PIL images, bytes or floats.
        classes: class names; read from the dataset's ``classes`` if None.
        name: of the split.
    """

    def __init__(self, dataset: Dataset[Any], classes: Sequence[str] | None, name: str) -> None:
        self.dataset, self.name = dataset, name
        size = len(dataset)  # type: ignore[arg-type]
        if size == 0:
            raise DataError(f"split '{name}' is empty")
        self._labeled = isinstance(dataset[0], tuple | list)
        self._shape = tuple(self._item(0)[0].shape)
        probe = range(0, size, max(size // 4, 1))
        self.replayable = all(torch.equal(self._item(at)[0], self._item(at)[0]) for at in probe)
        self.targets = self._all_targets(size)
        found = classes or getattr(dataset, "classes", None)
        self.classes = tuple(map(str, found)) if found else tuple(map(str, range(int(self.targets.max()) + 1)))
        _check(self, size)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        items = [self._item(int(at)) for at in index]
        for at, (one, _) in zip(index.tolist(), items, strict=True):
            if tuple(one.shape) != self._shape:
                raise DataError(
                    f"sample {at} of split '{self.name}' has shape {tuple(one.shape)}, the first one {self._shape}",
                    cure="give the dataset a transform that resizes to one size",
                )
            if not bool(torch.isfinite(one).all()):
                raise DataError(f"sample {at} of split '{self.name}' holds NaN or Inf")
        return torch.stack([one for one, _ in items]), self.targets[index]

    def subset(self, index: Any, name: str | None = None) -> Split:
        rows = torch.as_tensor(index).tolist()
        return DatasetSplit(torch.utils.data.Subset(self.dataset, rows), self.classes, name or self.name)

    def without_labels(self, keep: Any) -> Split:
        other = object.__new__(DatasetSplit)
        other.__dict__.update(self.__dict__)
        other.targets = torch.full_like(self.targets, UNLABELED)
        other.targets[torch.as_tensor(keep)] = self.targets[torch.as_tensor(keep)]
        return other

    def joined(self, other: Split) -> Split:
        raise DataError("a Dataset can not be joined with other samples", cure="join them in the Dataset itself")

    def fingerprint(self) -> str:
        """sha256 over size, labels, class names and 32 samples spread over the dataset."""
        digest = hashlib.sha256(repr((len(self), self._shape, self.classes)).encode())
        digest.update(self.targets.numpy().data)
        for at in range(0, len(self), max(len(self) // 32, 1)):
            digest.update(self._item(at)[0].contiguous().numpy().data)
        return digest.hexdigest()

    def _item(self, at: int) -> tuple[Tensor, int]:
        item = self.dataset[at]
        value, label = (item[0], int(item[1])) if self._labeled else (item, UNLABELED)
        if not isinstance(value, Tensor):
            array = np.array(value)
            array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0) if array.ndim == 3 else array
            value = torch.from_numpy(np.ascontiguousarray(array))
        return scaled(value), label

    def _all_targets(self, size: int) -> Tensor:
        if not self._labeled:
            return torch.full((size,), UNLABELED)
        known = getattr(self.dataset, "targets", None)
        if known is not None and len(known) == size:
            return torch.as_tensor(known, dtype=torch.int64)
        return torch.tensor([self._item(at)[1] for at in range(size)])


class LoaderSplit(Split):
    """A user's DataLoader as a split: its own order, its own augmentation, so nothing of it can be replayed.

    One pass is made to read labels and sizes.
    """

    replayable = False

    def __init__(self, loader: DataLoader[Any], classes: Sequence[str] | None, name: str) -> None:
        self.loader, self.name = loader, name
        parts = [_pair(item) for item in loader]
        if not parts:
            raise DataError(f"split '{name}' is empty")
        self._shape = tuple(parts[0][0].shape[1:])
        self.targets = torch.cat([target for _, target in parts])
        self.classes = tuple(map(str, classes or range(int(self.targets.max()) + 1)))
        _check(self, len(self.targets))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def stream(self) -> Iterator[Batch]:
        """One pass over the loader."""
        for item in self.loader:
            inputs, target = _pair(item)
            yield Batch(torch.full((len(inputs),), -1), scaled(inputs), target)

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise DataError(f"split '{self.name}' is a DataLoader: its samples have no addresses", cure="give the Dataset")

    def subset(self, index: Any, name: str | None = None) -> Split:
        raise DataError(
            f"split '{self.name}' is a DataLoader and can not be divided", cure="give every split, or arrays"
        )

    def fingerprint(self) -> str:
        """sha256 over size, class names and the sorted labels: all that does not change with the loader's order."""
        digest = hashlib.sha256(repr((len(self), self._shape, self.classes)).encode())
        digest.update(self.targets.sort().values.numpy().data)
        return digest.hexdigest()


def scaled(inputs: Tensor) -> Tensor:
    """float32 inputs; bytes are scaled from 0…255 to [0, 1].

    Example:
        >>> scaled(torch.tensor([255], dtype=torch.uint8))
        tensor([1.])
    """
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs.float()


def _pair(item: Any) -> tuple[Tensor, Tensor]:
    if isinstance(item, Tensor):
        return item, torch.full((len(item),), UNLABELED)
    return item[0], torch.as_tensor(item[1], dtype=torch.int64)


def _as_inputs(inputs: Any, name: str) -> Tensor:
    value = inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.ascontiguousarray(inputs))
    if value.dtype == torch.uint8:
        return value
    if not (value.is_floating_point() or value.dtype in {torch.int16, torch.int32, torch.int64}):
        raise DataError(f"inputs of split '{name}' are {value.dtype}, expected bytes or floats")
    return value.float()


def _as_targets(targets: Any, name: str) -> Tensor:
    value = torch.as_tensor(np.asarray(targets) if not isinstance(targets, Tensor) else targets)
    if value.is_floating_point() and not torch.equal(value, value.round()):
        raise DataError(f"labels of split '{name}' are not whole numbers", cure="number the classes from 0")
    return value.to(torch.int64).reshape(-1)


def _check(split: Split, size: int) -> None:
    name, targets = split.name, split.targets
    if size == 0:
        raise DataError(f"split '{name}' is empty")
    if len(targets) != size:
        raise DataError(f"split '{name}' has {size} inputs and {len(targets)} labels", cure="give one label an input")
    wrong = ((targets < UNLABELED) | (targets >= len(split.classes))).nonzero().flatten()
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"sample {at} of split '{name}' has label {int(targets[at])}, expected 0 to {len(split.classes) - 1} "
            f"for {len(split.classes)} classes ({len(wrong)} such samples)",
            cure="number the classes from 0, or name them all in classes",
        )
    if type(split) is Split and split.inputs.is_floating_point():
        bad = (~torch.isfinite(split.inputs.reshape(size, -1)).all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise DataError(f"{len(bad)} samples of split '{name}' hold NaN or Inf, the first: {bad[:5]}")
