"""Splits: the samples of one part of the data, fetched by address."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.batch import Batch
from limbeck.data.convert import UNLABELED, as_inputs, as_label, as_sample, as_targets, labels_only, scaled
from limbeck.data.order import reseeded
from limbeck.errors import DataError


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
        self.inputs = as_inputs(inputs, name)
        size = len(self.inputs)
        self.targets = torch.full((size,), UNLABELED) if targets is None else as_targets(targets, name)
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
        targets = labels_only(self.targets, keep)
        return Split(self.inputs, targets, self.classes, self.name)

    def joined(self, other: Split) -> Split:
        """These samples and then the other's."""
        if type(other) is not Split:
            return JoinedSplit([self, other])
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


class _Addressed(Split):
    """Samples that are fetched from somewhere else by row; a selection or relabeling only changes rows and targets."""

    _rows: Tensor
    _shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def subset(self, index: Any, name: str | None = None) -> Split:
        index = torch.as_tensor(index, dtype=torch.int64)
        other = copy.copy(self)
        other._rows, other.targets, other.name = self._rows[index], self.targets[index], name or self.name
        _check(other, len(index))
        return other

    def without_labels(self, keep: Any) -> Split:
        other = copy.copy(self)
        other.targets = labels_only(self.targets, keep)
        return other

    def joined(self, other: Split) -> Split:
        return JoinedSplit([self, other])


class DatasetSplit(_Addressed):
    """A map-style torch Dataset as a split; items are ``(input, label)`` or an input alone.

    Its labels are read once. Whether it can be replayed is measured, if it is not declared: 32 samples are fetched
    under two seeds, and a dataset whose own transforms are random gives something else the second time.

    Args:
        dataset: the dataset; images may be PIL images, arrays ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``, or tensors,
            in bytes or floats, all of one size.
        classes: class names; read from the dataset's ``classes`` if None.
        name: of the split.
        replayable: whether a sample is the same each time that it is fetched; None: measured.

    Raises:
        DataError: if it is empty or has no length, or an item is something else; naming the sample.
    """

    def __init__(
        self, dataset: Dataset[Any], classes: Sequence[str] | None, name: str, *, replayable: bool | None = None
    ) -> None:
        self.dataset, self.name = dataset, name
        try:
            size = len(dataset)  # type: ignore[arg-type]
        except TypeError:
            cure = "give a DataLoader over it"
            raise DataError(f"the Dataset of split '{name}' has no length, so no addresses", cure=cure) from None
        if size == 0:
            raise DataError(f"split '{name}' is empty")
        self._rows = torch.arange(size)
        self._shape = tuple(self._item(0)[0].shape)
        self.replayable = self._repeats(size) if replayable is None else replayable
        self.targets = self._all_targets(size)
        found = classes or getattr(dataset, "classes", None)
        self.classes = tuple(map(str, found)) if found else tuple(map(str, range(int(self.targets.max()) + 1)))
        _check(self, size)

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        inputs = []
        for at in index.tolist():
            one = self._item(at)[0]
            if tuple(one.shape) != self._shape:
                raise DataError(
                    f"sample {at} of split '{self.name}' has shape {tuple(one.shape)}, the first one {self._shape}",
                    cure="give the dataset a transform that resizes to one size",
                )
            if not bool(torch.isfinite(one).all()):
                raise DataError(f"sample {at} of split '{self.name}' holds NaN or Inf")
            inputs.append(one)
        return torch.stack(inputs), self.targets[index]

    def fingerprint(self) -> str:
        """sha256 over size, labels, class names and 32 samples spread over the dataset."""
        digest = hashlib.sha256(repr((len(self), self._shape, self.classes)).encode())
        digest.update(self.targets.numpy().data)
        for at in range(0, len(self), max(len(self) // 32, 1)):
            with reseeded(at):
                digest.update(self._item(at)[0].contiguous().numpy().data)
        return digest.hexdigest()

    def _item(self, at: int) -> tuple[Tensor, int]:
        item = self.dataset[int(self._rows[at])]
        parts = item if isinstance(item, tuple | list) else (item,)
        where = f"sample {at} of split '{self.name}'"
        if not 1 <= len(parts) <= 2:
            raise DataError(f"{where} has {len(parts)} parts", cure="let the Dataset give (input, label)")
        return as_sample(parts[0], where), UNLABELED if len(parts) == 1 else as_label(parts[1], where)

    def _repeats(self, size: int) -> bool:
        probe = range(0, size, max(size // 32, 1))
        seen = []
        for seed in (1, 2):
            with reseeded(seed):
                seen.append([self._item(at)[0] for at in probe])
        # Shapes are looked at first: random crops may even differ in size.
        return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*seen, strict=True))

    def _all_targets(self, size: int) -> Tensor:
        # The usual attribute, where it is what the items say: a target_transform may stand between.
        known = getattr(self.dataset, "targets", None)
        if isinstance(known, list | tuple | np.ndarray | Tensor) and len(known) == size:
            try:
                found = as_targets(known, self.name)
            except (DataError, TypeError, ValueError):
                found = torch.empty(0)
            probe = range(0, size, max(size // 32, 1))
            plain = getattr(self.dataset, "target_transform", None) is None and len(found) == size
            if plain and all(int(found[at]) == self._item(at)[1] for at in probe):
                return found
        return torch.tensor([self._item(at)[1] for at in range(size)])


class JoinedSplit(_Addressed):
    """Samples of several splits, one after another.

    Raises:
        DataError: if shapes or classes differ, or one is a DataLoader.

    Example:
        >>> labeled = Split(torch.zeros(2, 1), [0, 1], ("a", "b"), "train")
        >>> len(JoinedSplit([labeled, Split(torch.ones(3, 1), None, ("a", "b"), "unlabeled")]))
        5
    """

    def __init__(self, parts: Sequence[Split]) -> None:
        first = parts[0]
        for part in parts:
            if isinstance(part, LoaderSplit):
                raise DataError(f"split '{part.name}' is a DataLoader and can not be joined", cure="give the Dataset")
            if (part.shape, part.classes) != (first.shape, first.classes):
                raise DataError(
                    f"split '{part.name}' has inputs of shape {part.shape} and {len(part.classes)} classes, "
                    f"split '{first.name}' {first.shape} and {len(first.classes)}",
                    cure="prepare both in the same way",
                )
        self.parts, self.classes, self.name, self._shape = list(parts), first.classes, first.name, first.shape
        self.replayable = all(part.replayable for part in parts)
        self.targets = torch.cat([part.targets for part in parts])
        self._starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        self._rows = torch.arange(len(self.targets))

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._rows[index]
        inputs = torch.empty(len(rows), *self._shape)
        for part, start, stop in zip(self.parts, self._starts, self._starts[1:], strict=False):
            here = ((rows >= start) & (rows < stop)).nonzero().flatten()
            if len(here):
                inputs[here] = part.fetch(rows[here] - start)[0]
        return inputs, self.targets[index]

    def fingerprint(self) -> str:
        """sha256 over the fingerprints of the parts, the selection and the labels."""
        digest = hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode())
        digest.update(self._rows.numpy().data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()


class LoaderSplit(Split):
    """A user's DataLoader as a split: its own order, its own augmentation, so nothing of it can be replayed.

    One pass is made to read labels and sizes. Its batches are passed on as they come, but a last one of a single
    sample is joined to the one before: BatchNorm can not train on one.
    """

    replayable = False

    def __init__(self, loader: DataLoader[Any], classes: Sequence[str] | None, name: str) -> None:
        self.loader, self.name = loader, name
        with reseeded(0):
            parts = [(inputs.shape, target) for inputs, target in map(self._pair, loader)]
        if not parts:
            raise DataError(f"split '{name}' is empty")
        self._shape = tuple(parts[0][0][1:])
        self.targets = torch.cat([target for _, target in parts])
        self.steps = len(parts) - (len(parts) > 1 and parts[-1][0][0] == 1 and parts[-2][0][0] > 1)
        self.classes = tuple(map(str, classes or range(int(self.targets.max()) + 1)))
        _check(self, len(self.targets))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def stream(self) -> Iterator[Batch]:
        """One pass over the loader."""
        held: tuple[Tensor, Tensor] | None = None
        single: tuple[Tensor, Tensor] | None = None
        for item in self.loader:
            inputs, target = self._pair(item)
            if tuple(inputs.shape[1:]) != self._shape:
                raise DataError(f"split '{self.name}' gave inputs {tuple(inputs.shape[1:])}, at first {self._shape}")
            if not bool(torch.isfinite(inputs).all()):
                raise DataError(f"a batch of split '{self.name}' holds NaN or Inf")
            if single is not None and held is not None:  # it was not the last batch: as it came
                yield _unaddressed(held)
                held, single = single, None
            if held is not None and len(inputs) == 1 < len(held[0]):
                single = inputs, target
                continue
            if held is not None:
                yield _unaddressed(held)
            held = inputs, target
        if single is not None and held is not None:
            held = torch.cat([held[0], single[0]]), torch.cat([held[1], single[1]])
        if held is None:
            raise DataError(f"the loader of split '{self.name}' gave nothing the second time", cure="give a DataLoader")
        yield _unaddressed(held)

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise DataError(f"split '{self.name}' is a DataLoader: its samples have no addresses", cure="give the Dataset")

    def subset(self, index: Any, name: str | None = None) -> Split:
        raise DataError(
            f"split '{self.name}' is a DataLoader and can not be divided", cure="give every split, or arrays"
        )

    def without_labels(self, keep: Any) -> Split:
        raise DataError(
            f"split '{self.name}' is a DataLoader: no labels can be left out of it", cure="give the Dataset, or arrays"
        )

    def joined(self, other: Split) -> Split:
        return JoinedSplit([self, other])

    def fingerprint(self) -> str:
        """sha256 over size, class names and the sorted labels: all that does not change with the loader's order."""
        digest = hashlib.sha256(repr((len(self), self._shape, self.classes)).encode())
        digest.update(self.targets.sort().values.numpy().data)
        return digest.hexdigest()

    def _pair(self, item: Any) -> tuple[Tensor, Tensor]:
        parts = item if isinstance(item, tuple | list) else (item,)
        if not 1 <= len(parts) <= 2 or not isinstance(parts[0], Tensor):
            raise DataError(
                f"a batch of split '{self.name}' is {type(item).__name__}",
                cure="let the DataLoader give (inputs, labels)",
            )
        inputs = scaled(parts[0])
        target = as_targets(parts[1], self.name) if len(parts) == 2 else torch.full((len(inputs),), UNLABELED)
        if len(target) != len(inputs):
            raise DataError(f"a batch of split '{self.name}' has {len(inputs)} inputs and {len(target)} labels")
        return inputs, target


def _unaddressed(pair: tuple[Tensor, Tensor]) -> Batch:
    return Batch(torch.full((len(pair[0]),), -1), *pair)


def _check(split: Split, size: int) -> None:
    name, targets = split.name, split.targets
    if size == 0:
        raise DataError(f"split '{name}' is empty")
    if len(targets) != size:
        raise DataError(f"split '{name}' has {size} inputs and {len(targets)} labels", cure="give one label an input")
    if len(set(split.classes)) < len(split.classes):
        twice = f"split '{name}' has a class name twice: {', '.join(split.classes)}"
        raise DataError(twice, cure="name each class once")
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
