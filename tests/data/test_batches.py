"""Batches: the same at any worker count, from any start, and none of a single sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data.batch import Batch
from limbeck.data.batches import batches, steps_per_epoch
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.order import permutation
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import RecipeError

VIEWS = Views(shift=2, flip=True, rotate=10, scale=0.1, erase=0.5)


def numbered(size: int) -> Split:
    inputs = torch.arange(size * 64).reshape(size, 1, 8, 8).remainder(251).to(torch.uint8)
    return Split(inputs, torch.arange(size) % 3, ("a", "b", "c"), "train")


def same(one: Iterator[Batch], other: Iterator[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(
        torch.equal(a.index, b.index) and torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target)
        for a, b in pairs
    )


def test_an_epoch_is_every_sample_once_in_the_order_of_the_permutation() -> None:
    split = numbered(23)
    seen = list(batches(split, batch_size=5, seed=4, epoch=2))
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat([batch.index for batch in seen]), permutation(4, 2, 23))
    for batch in seen:
        assert torch.equal(batch.inputs, split.inputs[batch.index].float() / 255)
        assert torch.equal(batch.target, batch.index % 3)
    plain = list(batches(split, batch_size=5, shuffle=False))
    assert torch.cat([batch.index for batch in plain]).tolist() == list(range(23))


@pytest.mark.parametrize(
    ("size", "batch_size", "lengths"),
    [
        (9, 4, [4, 5]),
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (1, 4, [1]),
        (4, 4, [4]),
        (5, 4, [5]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_a_last_batch_of_one_is_joined_to_the_one_before(size: int, batch_size: int, lengths: list[int]) -> None:
    found = [len(batch) for batch in batches(numbered(size), batch_size=batch_size)]
    assert found == lengths
    assert steps_per_epoch(numbered(size), batch_size) == len(lengths)


@pytest.mark.parametrize("start", [0, 3])
def test_workers_change_nothing(start: int) -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    arguments: dict[str, Any] = {"batch_size": 6, "seed": 1, "epoch": 3, "views": VIEWS, "start": start}
    assert same(batches(numbered(43), **arguments), batches(numbered(43), **arguments, workers=2))
    assert torch.equal(before, torch.get_rng_state())


def test_a_resumed_epoch_is_the_end_of_the_whole_one() -> None:
    split = numbered(31)
    whole = list(batches(split, batch_size=4, epoch=5, views=VIEWS))
    for start in range(len(whole) + 1):
        assert [batch.index.tolist() for batch in batches(split, batch_size=4, epoch=5, views=VIEWS, start=start)] == [
            batch.index.tolist() for batch in whole[start:]
        ]
    resumed = next(iter(batches(split, batch_size=4, epoch=5, views=VIEWS, start=6)))
    assert torch.equal(resumed.inputs, whole[6].inputs)


def test_the_view_of_a_sample_does_not_depend_on_the_batch_size() -> None:
    def by_address(batch_size: int) -> torch.Tensor:
        seen = list(batches(numbered(29), batch_size=batch_size, seed=2, epoch=7, views=VIEWS))
        return torch.cat([batch.inputs for batch in seen])[torch.cat([batch.index for batch in seen]).argsort()]

    assert torch.equal(by_address(4), by_address(29))


def test_views_change_with_the_epoch_and_not_with_the_order() -> None:
    split = numbered(12)

    def seen(**arguments: Any) -> torch.Tensor:
        batch = next(iter(batches(split, batch_size=12, views=VIEWS, **arguments)))
        return batch.inputs[batch.index.argsort()]

    assert torch.equal(seen(epoch=1), seen(epoch=1, shuffle=False))
    assert not torch.equal(seen(epoch=1), seen(epoch=2))


class Noisy(Dataset[Any]):
    """Random in all three generators that transforms use."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, at: int) -> Any:
        return torch.tensor([at, float(torch.rand(())), np.random.rand(), random.random()]), at % 2


def test_random_transforms_of_a_dataset_are_addressed_too() -> None:
    split = DatasetSplit(Noisy(), ("a", "b"), "train")
    assert not split.replayable
    arguments: dict[str, Any] = {"batch_size": 4, "seed": 1}
    torch.rand(3)
    whole = list(batches(split, **arguments, epoch=1))
    random.random()
    assert same(iter(whole), batches(split, **arguments, epoch=1, workers=2))
    assert same(iter(whole[2:]), batches(split, **arguments, epoch=1, start=2))
    other = next(iter(batches(split, **arguments, epoch=2)))
    assert not torch.equal(other.inputs[:, 1:], whole[0].inputs[:, 1:])
    drawn = torch.cat([batch.inputs[:, 1] for batch in whole])
    assert len(drawn.unique()) == 20


def test_a_loader_gives_its_own_batches_and_no_views() -> None:
    loader = DataLoader(TensorDataset(torch.rand(9, 1, 4, 4), torch.arange(9) % 2), batch_size=4)
    split = LoaderSplit(loader, ("a", "b"), "train")
    assert [len(batch) for batch in batches(split, batch_size=100, views=Views())] == [4, 5]
    assert [len(batch) for batch in batches(split, batch_size=100, start=1)] == [5]
    assert steps_per_epoch(split, 100) == 2
    with pytest.raises(RecipeError, match="no address"):
        next(batches(split, batch_size=4, views=Views(shift=1)))


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="batch_size is 0"):
        steps_per_epoch(numbered(3), 0)
