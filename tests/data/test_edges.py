"""Edges where data of users differ from what is usual: single samples, missing labels, odd arrays, mixed sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data import Data, LoaderSplit, Normalization, Split, batches, steps_per_epoch
from limbeck.errors import DataError, RecipeError


def some(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count * 4.0).reshape(count, 1, 2, 2) / (count * 4), torch.arange(count) % 2


class Images(Dataset[Any]):
    """Inputs alone, map-style."""

    def __init__(self, inputs: torch.Tensor) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, at: int) -> torch.Tensor:
        return self.inputs[at]


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [(9, 4, [4, 5]), (8, 4, [4, 4]), (5, 1, [1] * 5), (1, 4, [1]), (2, 1, [1, 1]), (10, 4, [4, 4, 2])],
)
def test_loader_batches_stay_as_they_are_but_for_a_last_single_one(
    count: int, batch_size: int, expected: list[int]
) -> None:
    x, y = some(count)
    split = LoaderSplit(DataLoader(TensorDataset(x, y), batch_size), ["a", "b"], "train")
    found = list(batches(split, batch_size=99))
    assert [len(batch) for batch in found] == expected
    assert steps_per_epoch(split, 99) == len(expected)
    assert torch.equal(torch.cat([batch.inputs for batch in found]), x)
    assert torch.equal(torch.cat([batch.target for batch in found]), y)
    assert all(bool((batch.index == -1).all()) for batch in found)


def test_single_samples_in_the_middle_of_a_loader() -> None:
    x, y = some(6)
    sizes = [(0, 2), (2, 3), (3, 5), (5, 6)]
    split = LoaderSplit([(x[a:b], y[a:b]) for a, b in sizes], ["a", "b"], "train")  # type: ignore[arg-type]
    found = list(batches(split, batch_size=1))
    assert [len(batch) for batch in found] == [2, 1, 3]
    assert steps_per_epoch(split, 1) == 3
    assert torch.equal(torch.cat([batch.inputs for batch in found]), x)
    assert [len(batch) for batch in batches(split, batch_size=1, start=2)] == [3]


def test_a_loader_that_can_be_read_only_once() -> None:
    split = LoaderSplit(iter([some()]), ["a", "b"], "train")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="second time"):
        list(batches(split, batch_size=1))


def test_what_is_set_aside_has_labels() -> None:
    x, y = some()
    y = torch.where(torch.arange(40) < 20, y, -1)
    data = Data((x, y))
    # A fifth of 20 labels, then a tenth of 16; nothing is in two splits and nothing is lost.
    assert {name: (len(split), split.labeled) for name, split in data.splits.items()} == {
        "train": (34, 14),
        "validation": (2, 2),
        "test": (4, 4),
    }
    values = torch.cat([split.fetch(torch.arange(len(split)))[0][:, 0, 0, 0] for split in data.splits.values()])
    assert torch.equal(values.sort().values, x[:, 0, 0, 0])


def test_bytes_with_unlabeled_images_from_a_dataset_are_measured() -> None:
    inputs = torch.zeros(40, 1, 2, 2, dtype=torch.uint8)
    inputs[:, :, 0] = 255
    data = Data((inputs, some()[1]), unlabeled=Images(torch.full((3, 1, 2, 2), 0.5)))
    assert (len(data.train), data.train.labeled) == (32, 29)
    assert data.normalization.mean == (0.5,)
    # 29 images half black, half white, 3 gray: the deviation is 0.5 * sqrt(29 / 32).
    assert data.normalization.std[0] == pytest.approx(0.5 * (29 / 32) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<f2"])
def test_arrays_of_any_byte_order(dtype: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    found, _ = Split(values, [0, 1, 0], ["a", "b"], "train").fetch(torch.arange(3))
    assert found.tolist() == np.arange(12.0).reshape(3, 4).tolist()


@pytest.mark.parametrize("share", [float("nan"), float("inf"), True, 0, -3, 1.0, 40, np.int64(0)])
def test_impossible_shares(share: Any) -> None:
    with pytest.raises(DataError, match="not possible"):
        Data(some(), share)


def test_shares_may_be_numpy_numbers() -> None:
    data = Data(some(), np.int64(4), np.float32(0.25))  # type: ignore[arg-type]
    assert (len(data.train), len(data.validation), len(data.test)) == (26, 4, 10)


def test_labels_that_are_not_numbers() -> None:
    x, _ = some()
    with pytest.raises(DataError, match="labels"):
        Data((x, torch.full((40,), float("nan"))))


def test_class_names_are_unique() -> None:
    with pytest.raises(DataError, match="twice"):
        Split(*some(), ["a", "a"], "train")


def test_normalization_from_lists() -> None:
    made = Normalization([1, 2], [4, 5])  # type: ignore[arg-type]
    assert made == Normalization((1.0, 2.0), (4.0, 5.0))
    assert made(torch.tensor([[5.0, 12.0]])).tolist() == [[1.0, 2.0]]
    assert Normalization.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.5, 0.2), (("a",), (1.0,)), ((float("nan"),), (1.0,)), ((0.0,), (0.0,)), ((), ()), ((0,), (1, 1))],
)
def test_normalization_out_of_range(mean: Any, std: Any) -> None:
    with pytest.raises(RecipeError, match="normalization"):
        Normalization(mean, std)


@pytest.mark.parametrize("value", [{}, {"mean": [1]}, {"mean": [1], "std": [1], "sdt": [1]}])
def test_normalization_from_a_damaged_record(value: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="normalization"):
        Normalization.from_dict(value)
