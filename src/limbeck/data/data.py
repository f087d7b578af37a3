"""Data: train, validation and test together, with their classes and normalization."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data.arrays import as_images
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.duplicates import common, dropped, refuse, without_later
from limbeck.data.grouped import grouped
from limbeck.data.masked import check_unlabeled, drawn, has_masks, masked_split
from limbeck.data.normalization import Normalization
from limbeck.data.pictures import pictures_under, read_picture
from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.errors import DataError, RecipeError, nearest

Share = float | int


class Data:
    """The splits of an experiment.

    Each split may be a Split, a pair of arrays ``(inputs, labels)``, inputs alone (no labels), a torch Dataset or
    DataLoader. ``train`` may also be the path of an ``.npz`` file that holds everything. Pictures whose pixels have
    labels come as ``(pictures, masks)``, or as a Dataset of such pairs, see
    :func:`limbeck.data.masked.masked_split`; what is set aside of them are whole pictures.

    Args:
        train: training samples.
        validation: samples that choices are made on; None: a stratified tenth of the training samples.
        test: samples that nothing depends on; None: a stratified fifth of the training samples.
        unlabeled: further training inputs without labels: arrays, or a folder of images of one size.
        classes: class names.
        normalization: ``measured`` (on the training split), ``none``, a Normalization, or ``auto``: measured for
            arrays of bytes and none for floats, Datasets and DataLoaders, which are taken as prepared.
        name: for reports.
        seed: of the splits that are made here.
        duplicates: samples that are in two splits, pixel by pixel: ``report`` (the doctor does), ``drop`` (from the
            earlier of train, validation and test), ``refuse``.
        patch: of pictures with masks, the size of the samples; None: whole pictures.
        overlap: of their training patches, pixels that neighbors share.

    Raises:
        DataError: if a split is empty, lacks a class, or does not fit the others.

    Example:
        >>> data = Data(train=(torch.rand(40, 1, 8, 8), [0, 1] * 20), classes=["even", "odd"])
        >>> {name: len(split) for name, split in data.splits.items()}
        {'train': 29, 'validation': 3, 'test': 8}
    """

    def __init__(
        self,
        train: Any,
        validation: Any = None,
        test: Any = None,
        unlabeled: Any = None,
        *,
        classes: Sequence[str] | None = None,
        normalization: str | Normalization = "auto",
        name: str = "data",
        seed: int = 0,
        duplicates: str = "report",
        patch: int | Sequence[int] | None = None,
        overlap: int = 0,
    ) -> None:
        if isinstance(train, str | Path):
            from limbeck.data.arrays import read_arrays

            found = read_arrays(train)
            train, classes = found["train"], classes or found["classes"]
            validation = found["validation"] if validation is None else validation
            test = found["test"] if test is None else test
            unlabeled = found["unlabeled"] if unlabeled is None else unlabeled
        self.name, self.seed = name, seed
        self.notes: list[str] = []
        self.train = as_split(train, classes, "train", patch=patch, overlap=overlap)
        if not self.dense and (patch is not None or overlap):
            raise RecipeError("patch and overlap are for pictures with masks", cure="leave them out")
        bytes_given = type(self.train) is Split and not self.train.inputs.is_floating_point()
        prepared = not self.dense and (isinstance(train, Dataset | DataLoader) or not bytes_given)
        self.classes = self.train.classes
        self.test = self._given_or_made(test, "test", 0.2)
        self.validation = self._given_or_made(validation, "validation", 0.1)
        if unlabeled is not None:
            check_unlabeled(self.train)
            self.train = self.train.joined(_as_unlabeled(unlabeled, self.train))
        self._resolve(duplicates)
        self.notes += _check(self)
        self.normalization = self._choose(normalization, prepared)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def dense(self) -> bool:
        """Whether pixels have labels, and not samples."""
        return self.train.dense

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.train.shape

    @property
    def input_range(self) -> str:
        """``bytes``, ``unit`` or ``raw``, see :attr:`Split.input_range`."""
        return self.train.input_range

    def fingerprint(self) -> str:
        """sha256 over the fingerprints of all splits."""
        return hashlib.sha256("".join(split.fingerprint() for split in self.splits.values()).encode()).hexdigest()

    def duplicates(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """Samples in two splits, see :func:`limbeck.data.duplicates.common`."""
        return common(self.splits)

    def describe(self) -> dict[str, Any]:
        """What ``summary.json`` says of the data."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "splits": {name: len(split) for name, split in self.splits.items()},
            "fingerprint": self.fingerprint(),
        }

    def _given_or_made(self, value: Any, name: str, share: Any) -> Split:
        if value is not None and not isinstance(value, Real):
            return as_split(value, self.classes, name, patch=self.shape[1:] if self.dense else None)
        if isinstance(self.train, LoaderSplit):
            raise DataError(f"there is no {name} split, and a DataLoader can not be divided", cure=f"give {name}=…")
        share = share if value is None else value
        if isinstance(self.train, SceneSplit):
            self.train, apart = drawn(self.train, share, name, seed=self.seed)
            told = f"{len(apart.regions)} whole training pictures were set aside"
            self.notes += [f"no {name} split was given: {told}"] if value is None else []
            return apart
        # Where some labels are missing, only samples that have one are of use for measuring.
        having = (self.train.targets >= 0).nonzero().flatten()
        having = having if len(having) else torch.arange(len(self.train))
        groups = self.train.groups
        if groups is not None:
            rest, taken = grouped(self.train.targets, groups, share, seed=self.seed)
        else:
            taken = having[stratified(self.train.targets[having], share, seed=self.seed)[1]]
            rest = torch.ones(len(self.train), dtype=torch.bool).index_fill(0, taken, False).nonzero().flatten()
        made = self.train.subset(taken, name)
        self.train = self.train.subset(rest, "train")
        if value is None or groups is not None:
            how = "stratified" if groups is None else f"{len(set(made.groups or ()))} whole groups"
            self.notes.append(f"no {name} split was given: {len(made)} training samples were set aside, {how}")
        return made

    def _resolve(self, duplicates: str) -> None:
        if duplicates not in ("report", "drop", "refuse"):
            raise RecipeError(f"data.duplicates is '{duplicates}', expected report, drop or refuse")
        if duplicates == "refuse":
            refuse(self.splits)
        if duplicates == "drop":
            before, after = self.splits, without_later(self.splits)
            self.train, self.validation = after["train"], after["validation"]
            self.notes += dropped(before, after)

    def _choose(self, normalization: str | Normalization, prepared: bool) -> Normalization:
        channels = self.shape[0] if len(self.shape) == 3 else 1
        if isinstance(normalization, Normalization):
            if len(normalization.mean) not in {1, channels}:
                raise RecipeError(f"normalization has {len(normalization.mean)} channels, the data {channels}")
            return normalization
        if normalization not in ("auto", "measured", "none"):
            raise RecipeError(f"normalization is '{normalization}', expected auto, measured, none, or mean and std")
        if normalization == "auto":
            normalization = "none" if prepared else "measured"
        return Normalization.none(channels) if normalization == "none" else Normalization.measure(self.train)


def as_split(
    value: Any,
    classes: Sequence[str] | None,
    name: str,
    *,
    patch: int | Sequence[int] | None = None,
    overlap: int = 0,
) -> Split:
    """Make a split of arrays, a Dataset or a DataLoader; see :class:`Data`, where the arguments are.

    Arrays of images may have their channels last or lack them, see :func:`limbeck.data.arrays.as_images`. Labels may
    be names: those in ``classes``, else the sorted names that occur.
    """
    if isinstance(value, Split):
        return value
    if isinstance(value, DataLoader):
        return LoaderSplit(value, classes, name)
    if has_masks(value):
        return masked_split(value, classes, name, patch=patch, overlap=overlap)
    if isinstance(value, Dataset):
        if type(value) is not TensorDataset or not _in_memory(value):
            return DatasetSplit(value, classes, name)
        value = value.tensors if len(value.tensors) == 2 else value.tensors[0]
    inputs, targets = value if isinstance(value, tuple | list) and len(value) == 2 else (value, None)
    if not isinstance(inputs, Tensor | np.ndarray):
        raise DataError(
            f"split '{name}' is {type(value).__name__}",
            cure="give (inputs, labels) arrays, inputs alone, a torch Dataset or a DataLoader",
        )
    if classes is None:
        if targets is None:
            raise DataError(f"split '{name}' has no labels, and classes= does not say how many classes there are")
        classes = _names(targets, name)
    if targets is not None and np.asarray(targets).dtype.kind in "US":
        targets = _numbers(targets, classes, name)
    return Split(as_images(inputs), targets, classes, name)


def _in_memory(dataset: TensorDataset) -> bool:
    kinds = [(tensor.ndim, tensor.is_floating_point()) for tensor in dataset.tensors]
    return len(kinds) == 1 or (len(kinds) == 2 and kinds[1] == (1, False))


def _names(targets: Any, name: str) -> list[str]:
    values = np.asarray(targets)
    if values.dtype.kind in "US":
        return sorted({str(one) for one in values.tolist()})
    if not values.size or values.dtype.kind not in "iufb" or not np.isfinite(values).all():
        raise DataError(
            f"split '{name}' has {values.size} labels of type {values.dtype}",
            cure="give class numbers from 0, or names",
        )
    return [str(one) for one in range(int(values.max()) + 1)]


def _numbers(targets: Any, classes: Sequence[str], name: str) -> Tensor:
    place = {str(one): number for number, one in enumerate(classes)}
    names = [str(one) for one in np.asarray(targets).tolist()]
    for at, one in enumerate(names):
        if one not in place:
            raise DataError(
                f"sample {at} of split '{name}' has the label '{one}', which is no class{nearest(one, place)}",
                cure=f"the classes are {', '.join(list(place)[:10])}",
            )
    return torch.tensor([place[one] for one in names])


def stratified(targets: Tensor, share: Share, *, seed: int) -> tuple[Tensor, Tensor]:
    """Divide samples so that every class keeps its share: addresses of the rest and of those taken, both sorted.

    Args:
        targets: int64 ``[N]``.
        share: a fraction below 1, or a count.
        seed: of the choice.

    Raises:
        DataError: if a class has too few samples to be on both sides.

    Example:
        >>> rest, taken = stratified(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, seed=0)
        >>> len(rest), sorted(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[taken].tolist())
        (4, [0, 0, 1, 1])
    """
    from sklearn.model_selection import train_test_split

    if isinstance(share, bool) or not math.isfinite(share):
        raise DataError(f"a split of {share} is not possible", cure="give a fraction below 1, or a count")
    count = int(share) if isinstance(share, Integral) else round(len(targets) * share)
    if not 0 < count < len(targets):
        raise DataError(f"a split of {share} of {len(targets)} samples is not possible")
    numbers = np.arange(len(targets))
    strata = targets.numpy() if int(targets.max()) >= 0 else None
    try:
        rest, taken = train_test_split(numbers, test_size=count, stratify=strata, random_state=seed)
    except ValueError as error:
        raise DataError(f"{len(targets)} samples can not be divided by class: {error}") from None
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(taken))


def few_labels(split: Split, labels: int, *, seed: int) -> Split:
    """The same samples with labels for only ``labels`` of them, stratified.

    Raises:
        RecipeError: if there are not so many labels.

    Example:
        >>> split = Split(torch.zeros(8, 1), [0, 1] * 4, ["a", "b"], "train")
        >>> few_labels(split, 4, seed=0).labeled
        4
    """
    if split.dense:
        raise RecipeError("student.labels is about samples with one label, and these have masks", cure="leave it out")
    having = (split.targets >= 0).nonzero().flatten()
    if labels >= len(having):
        if labels == len(having):
            return split
        raise RecipeError(f"student.labels is {labels}; the training split has {len(having)}")
    _, taken = stratified(split.targets[having], labels, seed=seed)
    return split.without_labels(having[taken])


def _as_unlabeled(value: Any, train: Split) -> Split:
    if isinstance(value, str | Path):
        value = _image_folder(Path(value), train)
    return as_split(value, train.classes, "unlabeled")


def _image_folder(folder: Path, train: Split) -> Tensor:
    files = pictures_under(folder)[0] if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder} holds no images", cure="give a folder of .png or .jpg files")
    if isinstance(train, DatasetSplit) or len(train.shape) != 3:
        raise DataError(
            f"a folder of images does not fit the split 'train', whose inputs have shape {train.shape}"
            + (" and a Dataset's own transforms" if isinstance(train, DatasetSplit) else ""),
            cure="give a Dataset over the folder, with the transforms of the training samples",
        )
    channels, height, width = train.shape
    pictures = []
    for path in files:
        picture = np.array(read_picture(path, channels))
        if picture.shape[:2] != (height, width):
            raise DataError(f"{path} is {picture.shape[0]}×{picture.shape[1]}, the training images {height}×{width}")
        pictures.append(picture[None] if channels == 1 else np.moveaxis(picture, -1, 0))
    stacked = torch.from_numpy(np.stack(pictures))
    return stacked if train.input_range == "bytes" else stacked.float() / 255


def _check(data: Data) -> list[str]:
    """See that splits fit each other; notes on what is missing of their masks."""
    notes: list[str] = []
    for name, split in data.splits.items():
        if split.dense != data.dense:
            raise DataError(f"split '{name}' has {_kind(split)}, 'train' {_kind(data.train)}", cure="give both alike")
        if split.shape != data.shape:
            raise DataError(f"inputs of split '{name}' have shape {split.shape}, those of 'train' {data.shape}")
        if split.classes != data.classes:
            raise DataError(
                f"split '{name}' has {len(split.classes)} classes, 'train' {len(data.classes)}, or other names",
                cure="name the classes in the same order for every split",
            )
        counts = split.class_counts().tolist()
        missing = [one for one, count in zip(data.classes, counts, strict=True) if not count]
        unit = "pixel" if data.dense else "sample"
        told = f"split '{name}' has no {unit} of class {', '.join(missing[:5])}"
        if any(counts) and missing and data.dense and name != "train":
            notes.append(f"{told}: its scores are of the other classes")
        elif any(counts) and missing:
            raise DataError(told, cure="divide by class, or leave the class out everywhere")
    for name, split in data.splits.items():
        if not split.labeled and (name != "train" or data.dense):
            raise DataError(f"split '{name}' has no labels: nothing could be measured on it")
    return notes


def _kind(split: Split) -> str:
    return "masks" if split.dense else "one label a sample"


__all__ = ["Data", "as_split", "few_labels", "stratified"]
