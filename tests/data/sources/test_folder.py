"""Folders of pictures: what is where, and every fault named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.painting import folders, paint
from torchvision.datasets import ImageFolder

from limbeck.data.sources.folder import read_folder
from limbeck.data.sources.named import load
from limbeck.errors import DataError, RecipeError


def sizes(root: Path, **options: Any) -> dict[str, int]:
    return {name: len(split) for name, split in load("image_folder", root=root, size=8, **options).splits.items()}


def test_split_folders_are_the_splits_and_labels_are_torchvisions(tmp_path: Path) -> None:
    folders(tmp_path, ("zebra", "Ant", "cat"), train=6, val=3, test=2)
    data = load("image_folder", root=tmp_path, size=[9, 12])
    assert data.classes == ("Ant", "cat", "zebra")
    for name, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        split, truth = data.splits[name], ImageFolder(str(tmp_path / folder))
        assert data.classes == tuple(truth.classes)
        assert [str(tmp_path / file) for file in split.names or ()] == [path for path, _ in truth.samples]
        assert split.targets.tolist() == truth.targets
        inputs, _ = split.fetch(torch.arange(len(split)))
        for got, (picture, _) in zip(inputs, truth, strict=True):
            assert np.array_equal((got * 255).round().byte().numpy(), np.moveaxis(np.array(picture), -1, 0))
    assert "3 classes, in this order: Ant, cat, zebra" in data.notes


def test_class_folders_alone_are_divided_and_said_to_be(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"))
    data = load("image_folder", root=tmp_path, size=8)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 14, "validation": 2, "test": 4}
    assert data.test.targets.bincount().tolist() == [2, 2]
    assert sum("set aside" in note for note in data.notes) == 2
    parts = [set(split.names or ()) for split in data.splits.values()]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20


def test_val_alone_is_validation_unless_the_recipe_says_test(tmp_path: Path) -> None:
    folders(tmp_path, train=10, val=4)
    data = load("image_folder", root=tmp_path, size=8)
    assert [len(split) for split in data.splits.values()] == [16, 8, 4]
    assert any("splits: {test: val}" in note for note in data.notes)
    told = load("image_folder", root=tmp_path, size=8, splits={"test": "val", "train": None}, validation=0.2)
    assert [len(split) for split in told.splits.values()] == [16, 4, 8]
    assert all("val/" in name for name in told.test.names or ())
    assert sizes(tmp_path, splits={"validation": "val"}) == {"train": 16, "validation": 8, "test": 4}
    with pytest.raises(RecipeError, match="validation split of its own"):
        sizes(tmp_path, validation=0.2)


def test_what_is_not_used_is_reported(tmp_path: Path) -> None:
    folders(tmp_path, train=10, test=2)
    (tmp_path / "readme.txt").touch()
    (tmp_path / "extra").mkdir()
    paint(tmp_path / "train" / "stray.png")
    (tmp_path / "train" / "cat" / "labels.csv").touch()
    (tmp_path / "train" / "cat" / ".hidden.png").touch()
    paint(tmp_path / "train" / "dog" / ".thumbs" / "0.png")
    paint(tmp_path / "train" / "dog" / "deeper" / "0.png", seed=77)
    os.mkfifo(tmp_path / "train" / "cat" / "pipe.png")
    (tmp_path / "train" / "cat" / "circle").symlink_to(tmp_path / "train")
    data = load("image_folder", root=tmp_path, size=8, validation=4)
    assert [len(split) for split in data.splits.values()] == [17, 4, 4]
    for note in (
        "used for nothing: folders of no split; 1 in all, the first: extra",
        "used for nothing: files beside the folders; 1 in all, the first: readme.txt",
        "used for nothing: files beside the class folders; 1 in all, the first: train/stray.png",
        "used for nothing: files in train/cat that are no pictures; 3 in all, the first: train/cat/circle",
    ):
        assert note in data.notes


def test_the_order_in_which_the_disk_lists_files_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(tmp_path, ("a", "b", "c"), train=5, test=3)
    before = load("image_folder", root=tmp_path, size=8, validation=3)
    walk, listed = os.walk, Path.iterdir

    def shuffled(top: Any, **options: Any) -> Any:
        for where, inner, files in walk(top, **options):
            np.random.default_rng(1).shuffle(files)
            yield where, inner[::-1], files

    monkeypatch.setattr(os, "walk", shuffled)
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    after = load("image_folder", root=tmp_path, size=8, validation=3)
    assert after.fingerprint() == before.fingerprint()
    assert after.train.names == before.train.names
    for at, name in enumerate(after.test.names or ()):
        assert name.split("/")[1] == after.classes[int(after.test.targets[at])]


def gone(root: Path) -> None:
    for path in (root / "test" / "dog").iterdir():
        path.unlink()


FAULTS = {
    "empty class": (gone, "class folder .*test/dog holds no pictures"),
    "class missing": (lambda root: (gone(root), (root / "test" / "dog").rmdir()), "test has no folder of class 'dog'"),
    "class too many": (lambda root: paint(root / "test" / "cow" / "0.png"), "class 'cow' that train has not"),
    "no train": (lambda root: (root / "train").rename(root / "training"), "has test, but no folder 'train'"),
    "two validations": (lambda root: ((root / "val").mkdir(), (root / "valid").mkdir()), "two folders for validation"),
    "no classes": (lambda root: (root / "val").mkdir(), "val holds no class folders"),
    "case": (lambda root: paint(root / "train" / "Cat" / "0.png"), "differ only in case"),
    "not UTF-8": (lambda root: paint(root / "train" / "cat" / "0.png").rename(
        os.fsdecode(os.fsencode(root) + b"/train/cat/\xff.png")), "not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_folders_is_named(tmp_path: Path, fault: str) -> None:
    folders(tmp_path, train=4, test=2)
    change, message = FAULTS[fault]
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        load("image_folder", root=tmp_path, size=8)


def test_a_root_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no class folders"):
        read_folder(tmp_path)
    folders(tmp_path, ("only",), train=2)
    with pytest.raises(DataError, match="fewer than two classes: only"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=r"check data\.splits: test"):
        read_folder(tmp_path, {"test": "tset"})
    with pytest.raises(RecipeError, match=r"data\.root"):
        load("image_folder", size=8)
    with pytest.raises(RecipeError, match=r"data\.size"):
        load("image_folder", root=tmp_path)


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, train=2)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="dog can not be read"):
        read_folder(tmp_path)


def test_one_picture_in_two_formats_is_the_same_picture(tmp_path: Path) -> None:
    folders(tmp_path, train=6, test=4)
    Image.open(tmp_path / "test" / "cat" / "0.png").save(tmp_path / "train" / "cat" / "copy.bmp")
    data = load("image_folder", root=tmp_path, size=8, validation=2)
    found = [
        (data.splits[first].names[one], data.splits[second].names[two])
        for (first, second), pairs in data.duplicates().items()
        for one, two in pairs
    ]
    assert found == [("train/cat/copy.bmp", "test/cat/0.png")]
