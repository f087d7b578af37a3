"""Data: whatever a user gives becomes three splits that fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data import Data, DatasetSplit, LoaderSplit, Normalization, Split
from limbeck.data.data import few_labels, stratified
from limbeck.errors import DataError, RecipeError


def given(size: int = 40, shape: tuple[int, ...] = (1, 4, 4), classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(size, *shape), torch.arange(size) % classes


class Pairs(Dataset[Any]):
    def __init__(self, size: int = 40) -> None:
        self.inputs, self.labels = given(size)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, at: int) -> Any:
        return self.inputs[at], int(self.labels[at])


def test_stratified_counts_by_hand() -> None:
    targets = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rest, taken = stratified(targets, 20, seed=0)
    assert targets[taken].bincount().tolist() == [12, 6, 2]
    assert sorted([*rest.tolist(), *taken.tolist()]) == list(range(100))
    assert taken.tolist() == sorted(taken.tolist())
    assert torch.equal(taken, stratified(targets, 0.2, seed=0)[1])
    assert not torch.equal(taken, stratified(targets, 20, seed=1)[1])


@pytest.mark.parametrize("share", [0, 100, 101, 0.0, 1.5, 0.001, 2])
def test_a_share_that_can_not_be_taken_is_refused(share: float) -> None:
    with pytest.raises(DataError):
        stratified(torch.arange(100) % 10, share, seed=0)


def test_few_labels_keep_all_samples() -> None:
    split = Split(*given(40), ("a", "b"), "train")
    few = few_labels(split, 10, seed=0)
    assert len(few) == 40
    assert few.targets[few.targets >= 0].bincount().tolist() == [5, 5]
    assert bool((few.targets[few.targets >= 0] == split.targets[few.targets >= 0]).all())
    assert few_labels(split, 40, seed=0) is split
    with pytest.raises(RecipeError, match="41"):
        few_labels(split, 41, seed=0)


@pytest.mark.parametrize(
    ("train", "kind"),
    [
        (given(), Split),
        (tuple(part.numpy() for part in given()), Split),
        (list(given()), Split),
        (TensorDataset(*given()), Split),
        (Pairs(), DatasetSplit),
        (Split(*given(), ("0", "1"), "mine"), Split),
    ],
    ids=["tensors", "arrays", "list", "TensorDataset", "Dataset", "Split"],
)
def test_missing_splits_are_made_by_class_and_do_not_overlap(train: Any, kind: type) -> None:
    data = Data(train=train)
    assert type(data.train) is kind
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 29, "validation": 3, "test": 8}
    assert data.test.targets.bincount().tolist() == [4, 4]
    assert len(data.notes) == 2
    rows = [
        tuple(row)
        for split in data.splits.values()
        for row in split.fetch(torch.arange(len(split)))[0].flatten(1).tolist()
    ]
    assert len(set(rows)) == 40
    assert [split.name for split in data.splits.values()] == ["train", "validation", "test"]
    assert data.classes == ("0", "1")


def test_given_splits_are_kept_and_shares_are_obeyed() -> None:
    data = Data(train=given(40), validation=given(6), test=given(4))
    assert [len(split) for split in data.splits.values()] == [40, 6, 4]
    assert data.notes == []
    data = Data(train=given(40), validation=0.25, test=10)
    assert [len(split) for split in data.splits.values()] == [22, 8, 10]
    assert data.notes == []


def test_loaders_need_every_split() -> None:
    def loader(size: int) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*given(size)), batch_size=4, shuffle=True)

    data = Data(train=loader(20), validation=loader(6), test=given(6), classes=["a", "b"])
    assert isinstance(data.train, LoaderSplit)
    assert not data.train.replayable
    assert data.normalization == Normalization.none(1)
    with pytest.raises(DataError, match="no test split") as caught:
        Data(train=loader(20), validation=loader(6))
    assert "test=" in str(caught.value)


def test_images_without_labels_follow_the_training_samples() -> None:
    inputs, _ = given(15)
    for unlabeled in (inputs, inputs.numpy(), TensorDataset(inputs)):
        data = Data(train=given(40), unlabeled=unlabeled)
        assert len(data.train) == 29 + 15
        assert data.train.labeled == 29
        assert torch.equal(data.train.inputs[29:], inputs)
    mixed = Data(train=Pairs(40), unlabeled=inputs)
    assert len(mixed.train) == 44
    assert torch.equal(mixed.train.fetch(torch.tensor([30]))[0], inputs[1:2])


def write(folder: Path, shape: tuple[int, ...], value: int, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(folder / name)


@pytest.mark.parametrize(("channels", "floats"), [(1, True), (3, True), (1, False), (3, False)])
def test_a_folder_of_images_without_labels(tmp_path: Path, channels: int, floats: bool) -> None:
    write(tmp_path, (4, 6), 255, "b/second.png")
    write(tmp_path, (4, 6, 3), 51, "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    train, labels = torch.randint(0, 256, (40, channels, 4, 6), dtype=torch.uint8), torch.arange(40) % 2
    data = Data(train=(train / 255 if floats else train, labels), unlabeled=tmp_path)
    found, targets = data.train.fetch(torch.tensor([29, 30]))
    torch.testing.assert_close(found[0], torch.full((channels, 4, 6), 0.2))
    torch.testing.assert_close(found[1], torch.ones(channels, 4, 6))
    assert targets.tolist() == [-1, -1]


def test_a_wrong_folder_of_images_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="holds no images"):
            Data(train=given(), unlabeled=folder)
    write(tmp_path, (4, 5), 0, "wide.png")
    with pytest.raises(DataError, match=r"wide\.png is 4×5, the training images 4×4"):
        Data(train=given(), unlabeled=tmp_path)
    (tmp_path / "wide.png").write_bytes((tmp_path / "wide.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"wide\.png is not a readable picture"):
        Data(train=given(), unlabeled=tmp_path)
    for train in (Pairs(), given(40, (7,))):
        with pytest.raises(DataError, match="does not fit") as caught:
            Data(train=train, unlabeled=tmp_path)
        assert "cure: give a Dataset" in str(caught.value)


def test_classes_may_be_named_by_the_labels() -> None:
    inputs, _ = given(40)
    names = np.array(["dog", "cat"] * 20)
    data = Data(train=(inputs, names))
    assert data.classes == ("cat", "dog")
    assert Data(train=(inputs, names), classes=["dog", "cat"]).classes == ("dog", "cat")
    with pytest.raises(DataError, match="sample 0 of split 'test' has the label 'dgo', which is no class; did"):
        Data(train=(inputs, names), test=(inputs[:2], np.array(["dgo", "cat"])))


def test_images_may_come_with_channels_last_or_without() -> None:
    labels = np.arange(40) % 2
    assert Data(train=(np.zeros((40, 6, 5, 3), dtype=np.uint8), labels)).shape == (3, 6, 5)
    assert Data(train=(np.zeros((40, 6, 5), dtype=np.uint8), labels)).shape == (1, 6, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))}, "'train' (is empty|has 0 labels)"),
        ({"train": torch.zeros(4, 2)}, "no labels, and classes="),
        ({"train": torch.zeros(40, 2), "classes": ["a", "b"]}, "no labels: nothing could be measured"),
        ({"train": given(40), "classes": ["a", "b", "c"]}, "no sample of class c"),
        ({"train": given(40, classes=3), "test": given(4, classes=2)}, "'test' has no sample of class 2"),
        ({"train": given(40), "test": given(6, classes=3)}, "label 2, expected 0 to 1"),
        ({"train": given(40), "validation": given(6, (1, 4, 5))}, "'validation' have shape"),
        ({"train": given(40), "test": Split(*given(4), ("x", "y"), "t")}, "other names"),
        ({"train": "nowhere.npz"}, "nowhere.npz is missing"),
        ({"train": {"x": 1}}, "is dict"),
        ({"train": (torch.zeros(3, 2), torch.tensor([0, 0, 1]))}, "by class"),
        ({"train": given(40), "unlabeled": torch.zeros(3, 2, 4, 4)}, "shape"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Data(**arguments)


def test_auto_measures_bytes_and_takes_a_users_floats_as_prepared() -> None:
    floats, labels = given(40)
    raw = (floats * 255).to(torch.uint8)
    assert Data(train=(floats, labels)).normalization.identity
    assert Data(train=(floats, labels), name="mine").normalization.identity
    assert Data(train=Pairs()).normalization.identity
    assert Data(train=TensorDataset(raw, labels)).normalization.identity
    assert Data(train=(raw, labels), normalization="none").normalization.identity
    data = Data(train=(raw, labels))
    pixels = data.train.inputs.numpy() / 255
    assert data.normalization.mean[0] == pytest.approx(pixels.mean(), abs=1e-6)
    assert data.normalization.std[0] == pytest.approx(pixels.std(), abs=1e-6)
    assert not Data(train=(floats, labels), normalization="measured").normalization.identity
    declared = Normalization((0.5,), (0.25,))
    assert Data(train=(raw, labels), normalization=declared).normalization is declared
    with pytest.raises(RecipeError, match="3 channels"):
        Data(train=(raw, labels), normalization=Normalization((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(RecipeError, match="autp"):
        Data(train=(raw, labels), normalization="autp")


def test_a_fingerprint_is_of_all_splits() -> None:
    train, test = given(40), given(10)
    data = Data(train=train, test=test)
    assert data.fingerprint() == Data(train=train, test=test).fingerprint()
    assert data.fingerprint() != Data(train=train, test=test, seed=1).fingerprint()
    changed = test[0].clone()
    changed[9, 0, 3, 3] += 1
    assert data.fingerprint() != Data(train=train, test=(changed, test[1])).fingerprint()
    assert data.describe()["splits"] == {"train": 36, "validation": 4, "test": 10}
