"""Splits: the samples of one part of the data, fetched by address."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.about import About, one_after_another
from limbeck.data.convert import UNLABELED, as_inputs, as_targets, labels_only, scaled
from limbeck.errors import DataError


class Split:
    """Samples of one split, in memory.

    Args:
        inputs: ``[N, …]``; uint8 is kept as bytes and scaled to [0, 1] when fetched, floats are taken as they are.
        targets: int64 ``[N]``, -1 for no label; None: no labels at all.
        classes: class names, in the order of the labels.
        name: ``train``, ``validation``, ``test``, …
        about: file, group and slices of each sample.

    Raises:
        DataError: if it is empty, sizes differ, a label is out of range, or an input is not finite.

    Example:
        >>> split = Split(torch.tensor([[0], [255]], dtype=torch.uint8), [0, 1], ("dark", "light"), "train")
        >>> split.fetch(torch.tensor([1]))
        (tensor([[1.]]), tensor([1]))
    """

    replayable = True
    addressed = True
    dense = False  # whether pixels have labels, and not samples
    about = About()

    def __init__(
        self, inputs: Any, targets: Any, classes: Sequence[str], name: str, about: About | None = None
    ) -> None:
        self.inputs = as_inputs(inputs, name)
        size = len(self.inputs)
        self.targets = torch.full((size,), UNLABELED) if targets is None else as_targets(targets, name)
        self.classes, self.name, self.about = tuple(str(one) for one in classes), name, about or About()
        check(self, size)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    @property
    def names(self) -> tuple[str, ...] | None:
        """The file of each sample, where it is known."""
        return self.about.names

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each sample, where there are groups."""
        return self.about.groups

    @property
    def slices(self) -> Mapping[str, tuple[str, ...]]:
        """By column, each sample's value: metrics are also told apart by it."""
        return self.about.slices

    @property
    def input_range(self) -> str:
        """``bytes`` (scaled to [0, 1] when fetched), ``unit`` (floats within [0, 1]) or ``raw`` (any other floats)."""
        if self.inputs.dtype == torch.uint8:
            return "bytes"
        return "unit" if float(self.inputs.min()) >= 0 and float(self.inputs.max()) <= 1 else "raw"

    @property
    def labeled(self) -> int:
        """How many samples have a label."""
        return int((self.targets >= 0).sum())

    def class_counts(self) -> Tensor:
        """How many labels of each class there are, int64 ``[C]``."""
        return torch.bincount(self.targets[self.targets >= 0], minlength=len(self.classes))

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (float32) and targets of the samples at ``index``, int64 ``[B]``."""
        return scaled(self.inputs[index]), self.targets[index]

    def subset(self, index: Any, name: str | None = None) -> Split:
        """The samples at ``index``, in that order."""
        index = torch.as_tensor(index, dtype=torch.int64)
        return Split(self.inputs[index], self.targets[index], self.classes, name or self.name, self.about.at(index))

    def without_labels(self, keep: Any) -> Split:
        """The same samples, with labels only at the addresses ``keep``."""
        targets = labels_only(self.targets, keep)
        return Split(self.inputs, targets, self.classes, self.name, self.about)

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
        about = one_after_another([(len(self), self.about), (len(other), other.about)])
        return Split(inputs, targets, self.classes, self.name, about)

    def digests(self) -> list[bytes] | None:
        """A hash of each sample's contents: equal for equal samples, also of another split. None: not to be had."""
        rows = self.inputs.contiguous().flatten(1).numpy()
        return [hashlib.sha256(row.data).digest() for row in rows]

    def fingerprint(self) -> str:
        """sha256 over contents, shapes, labels and class names."""
        digest = hashlib.sha256(repr((self.inputs.dtype, tuple(self.inputs.shape), self.classes)).encode())
        digest.update(self.inputs.contiguous().numpy().data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()


class Addressed(Split):
    """Samples that are fetched from somewhere else by row; a selection or relabeling only changes rows and targets."""

    _rows: Tensor
    _shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def input_range(self) -> str:
        probe = self.fetch(torch.arange(0, len(self), max(len(self) // 32, 1)))[0]
        return "unit" if float(probe.min()) >= 0 and float(probe.max()) <= 1 else "raw"

    def digests(self) -> list[bytes] | None:
        return None

    def subset(self, index: Any, name: str | None = None) -> Split:
        index = torch.as_tensor(index, dtype=torch.int64)
        other = copy.copy(self)
        other._rows, other.targets, other.name = self._rows[index], self.targets[index], name or self.name
        other.about = self.about.at(index)
        check(other, len(index))
        return other

    def without_labels(self, keep: Any) -> Split:
        other = copy.copy(self)
        other.targets = labels_only(self.targets, keep)
        return other

    def joined(self, other: Split) -> Split:
        return JoinedSplit([self, other])


class JoinedSplit(Addressed):
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
            if not part.addressed:
                raise DataError(f"split '{part.name}' is a DataLoader and can not be joined", cure="give the Dataset")
            if (part.shape, part.classes) != (first.shape, first.classes):
                raise DataError(
                    f"split '{part.name}' has inputs of shape {part.shape} and {len(part.classes)} classes, "
                    f"split '{first.name}' {first.shape} and {len(first.classes)}",
                    cure="prepare both in the same way",
                )
        self.parts, self.classes, self.name, self._shape = list(parts), first.classes, first.name, first.shape
        self.replayable = all(part.replayable for part in parts)
        self.about = one_after_another([(len(part), part.about) for part in parts])
        self.targets = torch.cat([part.targets for part in parts])
        self._starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        self._rows = torch.arange(len(self.targets))

    @property
    def input_range(self) -> str:
        ranges = {part.input_range for part in self.parts}
        return next((one for one in ("raw", "unit") if one in ranges), "bytes")

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._rows[index]
        inputs = torch.empty(len(rows), *self._shape)
        for part, start, stop in zip(self.parts, self._starts, self._starts[1:], strict=False):
            here = ((rows >= start) & (rows < stop)).nonzero().flatten()
            if len(here):
                inputs[here] = part.fetch(rows[here] - start)[0]
        return inputs, self.targets[index]

    def digests(self) -> list[bytes] | None:
        known = [part.digests() or [] for part in self.parts]
        if [len(one) for one in known] != [len(part) for part in self.parts]:
            return None
        every = [digest for one in known for digest in one]
        return [every[at] for at in self._rows.tolist()]

    def fingerprint(self) -> str:
        """sha256 over the fingerprints of the parts, the selection and the labels."""
        digest = hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode())
        digest.update(self._rows.numpy().data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()


def check(split: Split, size: int) -> None:
    """See that a split has samples, as many labels, and only labels of its classes."""
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
