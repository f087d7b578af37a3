"""Sampling: an epoch of every sample, or of classes equally often, as a function of seed and epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from limbeck.data.batches import batches
from limbeck.data.datasets import LoaderSplit
from limbeck.data.order import permutation, uniform
from limbeck.data.sampling import Sampler, repeats
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import RecipeError

IMBALANCED = torch.tensor([0] * 900 + [1] * 80 + [2] * 20)


def test_without_sampling_an_epoch_is_the_permutation() -> None:
    assert torch.equal(Sampler(IMBALANCED).order(3, 4), permutation(3, 4, 1000))


def test_balanced_classes_are_equally_likely_and_so_are_the_samples_of_one() -> None:
    sampler, classes, members = Sampler(IMBALANCED, "balanced"), np.zeros(3), np.zeros(1000)
    for epoch in range(30):
        order = sampler.order(5, epoch)
        assert len(order) == 1000
        classes += np.bincount(IMBALANCED[order], minlength=3)
        members += np.bincount(order, minlength=1000)
    assert ((classes - 10_000) ** 2 / 10_000).sum() < 13.8  # 2 degrees of freedom, once in a thousand
    rare = members[980:]
    assert ((rare - 500) ** 2 / 500).sum() < 43.8  # 19 degrees of freedom, nearly: the sum is not quite fixed


def test_an_order_is_a_function_of_seed_epoch_and_place() -> None:
    targets = torch.tensor([2, 0, 2, 2, 0])
    order = Sampler(targets, "balanced").order(7, 3)
    by_hand = []
    for place in range(5):
        kind, member = (float(uniform(7, 3, place, 0, channel)) for channel in (0, 1))
        run = [[1, 4], [0, 2, 3]][int(kind * 2)]  # class 1 has no sample
        by_hand.append(run[int(member * len(run))])
    assert order.tolist() == by_hand
    assert not torch.equal(order, Sampler(targets, "balanced").order(7, 4))


def test_samples_without_a_label_keep_their_part() -> None:
    targets = torch.tensor([-1] * 600 + [0] * 390 + [1] * 10)
    sampler = Sampler(targets, "balanced")
    counts = sum(np.bincount(targets[sampler.order(0, epoch)] + 1, minlength=3) for epoch in range(20))
    expected = np.array([12_000, 4_000, 4_000])
    assert ((counts - expected) ** 2 / expected).sum() < 13.8
    nothing = Sampler(torch.full((10,), -1), "balanced").order(0, 0)
    assert len(nothing) == 10


def test_a_wrong_name_is_answered() -> None:
    with pytest.raises(RecipeError, match="did you mean 'balanced'"):
        Sampler(IMBALANCED, "balance")


@given(st.lists(st.integers(0, 6), max_size=40))
def test_repeats_are_counted(order: list[int]) -> None:
    assert repeats(torch.tensor(order, dtype=torch.int64)).tolist() == [
        order[:place].count(one) for place, one in enumerate(order)
    ]


def split(size: int = 40) -> Split:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.arange(size) % 10 == 0).long()
    return Split(torch.rand(size, 1, 5, 5, generator=generator), targets, ("common", "rare"), "train")


@pytest.mark.parametrize("views", [Views(shift=2), Views(shift=2, mixup=0.5)], ids=["shift", "mixup"])
def test_workers_batch_size_and_resuming_change_nothing(views: Views) -> None:
    arguments: dict[str, Any] = {"seed": 2, "epoch": 6, "views": views, "sampling": "balanced"}
    whole = torch.cat([one.inputs for one in batches(split(), batch_size=7, **arguments)])
    for more in ({"batch_size": 40}, {"batch_size": 7, "workers": 2}):
        found = torch.cat([one.inputs for one in batches(split(), **more, **arguments)])
        assert torch.equal(found, whole)
    rest = torch.cat([one.inputs for one in batches(split(), batch_size=7, start=3, **arguments)])
    assert torch.equal(rest, whole[21:])


def test_a_sample_that_is_drawn_again_is_seen_in_another_view() -> None:
    found = next(batches(split(), batch_size=40, sampling="balanced", views=Views(shift=4, rotate=30), seed=1))
    again = [address for address, count in enumerate(found.index.bincount()) if count > 2]
    assert again
    for address in again:
        pictures = found.inputs[found.index == address].flatten(1)
        assert len(pictures.unique(dim=0)) > 1
    first = found.inputs[repeats(found.index) == 0]
    alone = next(batches(split(), batch_size=40, shuffle=False, views=Views(shift=4, rotate=30), seed=1)).inputs
    assert torch.equal(first, alone[found.index[repeats(found.index) == 0]])


def test_a_loader_has_its_own_order() -> None:
    data = TensorDataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)
    loader = LoaderSplit(DataLoader(data, batch_size=4), ("a", "b"), "train")
    with pytest.raises(RecipeError, match="no order of them drawn"):
        next(batches(loader, batch_size=4, sampling="balanced"))
