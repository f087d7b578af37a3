"""Division by group: nothing of a group on both sides, whatever the groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.about import About
from limbeck.data.data import Data
from limbeck.data.grouped import grouped
from limbeck.data.split import Split
from limbeck.errors import DataError


@given(
    sizes=st.lists(st.lists(st.integers(1, 8), min_size=4, max_size=30), min_size=2, max_size=5),
    share=st.floats(0.1, 0.6),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=200, deadline=None)
def test_groups_stay_whole_and_classes_keep_their_share_as_far_as_groups_allow(
    sizes: list[list[int]], share: float, seed: int
) -> None:
    # Groups of one class each: what is taken of a class misses its share by less than one group.
    targets = [label for label, row in enumerate(sizes) for size in row for _ in range(size)]
    groups = [f"{label} {at}" for label, row in enumerate(sizes) for at, size in enumerate(row) for _ in range(size)]
    mixed = np.random.default_rng(seed).permutation(len(targets))
    labels, names = torch.tensor(targets)[mixed], [groups[at] for at in mixed]
    rest, taken = grouped(labels, names, share, seed=seed)
    assert sorted([*rest.tolist(), *taken.tolist()]) == list(range(len(targets)))
    assert not {names[at] for at in rest.tolist()} & {names[at] for at in taken.tolist()}
    for label, row in enumerate(sizes):
        got = int((labels[taken] == label).sum())
        assert 0 < got < sum(row)
        assert abs(got - share * sum(row)) <= max(row)


def test_it_is_a_function_of_the_seed_and_of_nothing_else() -> None:
    targets, groups = torch.arange(200) % 4, [f"g{at // 5}" for at in range(200)]
    once, again = grouped(targets, groups, 0.25, seed=3), grouped(targets, groups, 0.25, seed=3)
    assert torch.equal(once[1], again[1])
    assert not torch.equal(once[1], grouped(targets, groups, 0.25, seed=4)[1])
    assert len(once[1]) == 50
    assert torch.equal(grouped(targets, groups, 50, seed=3)[1], once[1])


def test_groups_of_several_classes_and_many_sizes() -> None:
    rng = np.random.default_rng(0)
    member = rng.integers(0, 60, 3000)
    labels = (rng.random(3000) < 0.05 + 0.4 * (member % 7 == 0)).astype(np.int64)
    for seed in range(20):
        rest, taken = grouped(torch.from_numpy(labels), [f"patient {one}" for one in member], 0.2, seed=seed)
        assert not set(member[rest.numpy()]) & set(member[taken.numpy()])
        assert abs(len(taken) / 3000 - 0.2) < 0.02
        assert abs(labels[taken.numpy()].mean() - labels.mean()) < 0.02


def test_a_class_of_one_group_can_not_be_on_both_sides() -> None:
    targets, groups = torch.tensor([0, 0, 0, 0, 1, 1]), ["a", "b", "c", "d", "e", "e"]
    with pytest.raises(DataError, match="class 1 lies in 1 groups"):
        grouped(targets, groups, 0.5, seed=0)
    for share in (0, 6, 7, 1.0, float("nan"), True):
        with pytest.raises(DataError, match="not possible"):
            grouped(targets, groups, share, seed=0)


def test_data_divide_by_group_and_an_unlabeled_sample_goes_with_its_group() -> None:
    targets = torch.arange(120) % 2
    targets[::10] = -1
    about = About(groups=tuple(f"tile {at // 4}" for at in range(120)))
    data = Data(Split(torch.rand(120, 3), targets, ("a", "b"), "train", about), test=0.25, validation=0.2)
    homes = [set(split.groups or ()) for split in data.splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes))
    assert data.test.labeled == len(data.test)
    assert sum("whole groups" in note for note in data.notes) == 2
