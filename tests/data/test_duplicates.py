"""The same pixels twice: found, and dropped or refused as asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.painting import folders
from torch.utils.data import TensorDataset

from limbeck.data import Data, Split
from limbeck.data.duplicates import common, within
from limbeck.data.sources.named import load
from limbeck.errors import DataError, RecipeError


def planted(dtype: torch.dtype, seed: int = 0) -> tuple[dict[str, Split], dict[tuple[str, str], set[tuple[int, int]]]]:
    """Three splits with copies at random places, and by a slow second way all pairs that are equal."""
    rng = np.random.default_rng(seed)
    inputs = [torch.from_numpy(rng.integers(0, 256, (size, 3, 4, 4))).to(dtype) for size in (60, 20, 30)]
    for _ in range(8):
        one, two = rng.choice(3, 2, replace=False)
        inputs[two][rng.integers(len(inputs[two]))] = inputs[one][rng.integers(len(inputs[one]))]
    names = ("train", "validation", "test")
    splits = {name: Split(x, torch.arange(len(x)) % 2, ("a", "b"), name) for name, x in zip(names, inputs, strict=True)}
    truth = {
        (names[a], names[b]): {
            (i, j)
            for i in range(len(inputs[a]))
            for j in range(len(inputs[b]))
            if torch.equal(inputs[a][i], inputs[b][j])
        }
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    return splits, truth


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("seed", range(5))
def test_copies_are_found_where_a_slow_comparison_finds_them(dtype: torch.dtype, seed: int) -> None:
    splits, truth = planted(dtype, seed)
    for key, pairs in common(splits).items():
        assert set(pairs) <= truth[key]
        assert {two for _, two in pairs} == {two for _, two in truth[key]}
    data = Data(**splits, duplicates="drop")
    assert not any(data.duplicates().values())
    gone = {one for key in (("train", "validation"), ("train", "test")) for one, _ in truth[key]}
    assert len(data.train) == 60 - len(gone)
    assert len(data.test) == 30
    assert sum("left out" in note for note in data.notes) == sum(
        len(data.splits[name]) < len(splits[name]) for name in splits
    )
    with pytest.raises(DataError, match="pixel by pixel: sample"):
        Data(**splits, duplicates="refuse")
    assert len(Data(**splits).train) == 60


def test_copies_within_a_split_and_those_under_another_label() -> None:
    inputs = torch.tensor([[1.0], [2.0], [1.0], [1.0], [2.0], [3.0]])
    assert within(Split(inputs, [0, 1, 0, 1, 1, 0], ("a", "b"), "train")) == (3, 1)


def test_a_selection_is_compared_by_what_it_holds() -> None:
    splits, _ = planted(torch.float32)
    joined = splits["train"].joined(Split(splits["train"].inputs, None, ("a", "b"), "more"))
    both = {"train": joined.subset([60, 61]), "test": splits["train"].subset([1, 5, 0])}
    assert common(both) == {("train", "test"): [(1, 0), (0, 2)]}


def test_a_users_own_dataset_is_left_out() -> None:
    pairs = TensorDataset(torch.rand(12, 2), torch.arange(12.0) % 2)
    data = Data(pairs, pairs, pairs, classes=("a", "b"))
    assert data.duplicates() == {}
    assert len(Data(pairs, pairs, pairs, classes=("a", "b"), duplicates="drop").train) == 12


def test_a_policy_that_is_none_and_a_split_that_is_another(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.duplicates is 'kep'"):
        Data((torch.rand(40, 2), [0, 1] * 20), duplicates="kep")
    split = Split(torch.rand(8, 2), [0, 1] * 4, ("a", "b"), "train")
    with pytest.raises(DataError, match="every sample of split 'train'"):
        Data(split, split.subset(range(8), "validation"), split.subset(range(8), "test"), duplicates="drop")


@pytest.mark.parametrize("how", ["report", "drop", "refuse"])
def test_a_copied_picture_in_a_folder(tmp_path: Path, how: str) -> None:
    folders(tmp_path, train=8, val=3, test=3)
    shutil.copy(tmp_path / "test" / "cat" / "0.png", tmp_path / "train" / "dog" / "copy.png")
    shutil.copy(tmp_path / "test" / "cat" / "0.png", tmp_path / "test" / "cat" / "again.png")

    def read() -> Any:
        return load("image_folder", root=tmp_path, size=6, duplicates=how)

    if how == "refuse":
        with pytest.raises(DataError, match=r"2 samples of split 'test' .*train/dog/copy\.png and test/cat/0\.png"):
            read()
        return
    data = read()
    assert "split 'test' holds copies of its own samples, pixel by pixel: 1" in data.notes
    assert ("train/dog/copy.png" in data.train.names) == (how == "report")
    assert len(data.duplicates()["train", "test"]) == (2 if how == "report" else 0)
