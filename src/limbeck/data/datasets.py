"""Splits over a user's own torch Dataset or DataLoader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.batch import Batch
from limbeck.data.convert import UNLABELED, as_label, as_sample, as_targets, scaled
from limbeck.data.order import reseeded
from limbeck.data.split import Addressed, JoinedSplit, Split, check
from limbeck.errors import DataError


class DatasetSplit(Addressed):
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
        check(self, size)

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


class LoaderSplit(Split):
    """A user's DataLoader as a split: its own order, its own augmentation, so nothing of it can be replayed.

    One pass is made to read labels and sizes. Its batches are passed on as they come, but a last one of a single
    sample is joined to the one before: BatchNorm can not train on one.
    """

    replayable = False
    addressed = False

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
        check(self, len(self.targets))

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

    @property
    def input_range(self) -> str:
        inputs = self._pair(next(iter(self.loader)))[0]
        return "unit" if float(inputs.min()) >= 0 and float(inputs.max()) <= 1 else "raw"

    def digests(self) -> list[bytes] | None:
        return None

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
        if len(parts) == 2 and isinstance(parts[1], Tensor) and parts[1].ndim > 2:
            raise DataError(
                f"split '{self.name}' is a DataLoader of masks: its pictures have no addresses",
                cure="give the Dataset, whose items are (picture, mask)",
            )
        inputs = scaled(parts[0])
        target = as_targets(parts[1], self.name) if len(parts) == 2 else torch.full((len(inputs),), UNLABELED)
        if len(target) != len(inputs):
            raise DataError(f"a batch of split '{self.name}' has {len(inputs)} inputs and {len(target)} labels")
        return inputs, target


def _unaddressed(pair: tuple[Tensor, Tensor]) -> Batch:
    return Batch(torch.full((len(pair[0]),), -1), *pair)
