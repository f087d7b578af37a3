"""The same samples, or the same groups, on both sides of a division."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data import Data, load
from limbeck.data.about import About
from limbeck.data.duplicates import common
from limbeck.data.split import Split
from limbeck.doctor.splits import groups, overlap


def splits(train: int = 200, test: int = 60, *, shared: int = 0, kind: torch.dtype = torch.uint8) -> dict[str, Split]:
    """Random images; the first ``shared`` of the test split are training images from the 100th on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (train + test, 1, 6, 6), generator=generator)
    images = images.to(kind) if kind == torch.uint8 else images.float() / 255
    images[train : train + shared] = images[100 : 100 + shared]
    targets = torch.arange(train + test) % 2
    parts = {"train": slice(0, train), "test": slice(train, None)}
    return {name: Split(images[at], targets[at], ["a", "b"], name) for name, at in parts.items()}


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_shared_samples_are_counted_with_examples(kind: torch.dtype) -> None:
    found = overlap(splits(shared=7, kind=kind))
    assert [(one.code, one.severity) for one in found] == [("overlap", "warning")]
    assert found[0].evidence["samples"] == 7
    assert found[0].evidence["examples"] == [[100, 0], [101, 1], [102, 2], [103, 3], [104, 4]]
    assert found[0].evidence["share"] == pytest.approx(7 / 60, abs=1e-4)


def test_the_pairs_are_those_of_a_comparison_of_everything_with_everything() -> None:
    made = splits(shared=9)
    equal = (made["train"].inputs[:, None] == made["test"].inputs[None]).flatten(2).all(dim=2)
    assert common(made)["train", "test"] == [tuple(pair) for pair in np.argwhere(equal.numpy()).tolist()]


def test_a_few_in_a_large_split_are_an_info() -> None:
    assert [one.severity for one in overlap(splits(train=300, test=500, shared=1))] == ["info"]


def test_splits_that_share_nothing_are_left_alone() -> None:
    assert overlap(splits()) == []
    data = load("digits")
    assert overlap(data.splits) == []
    assert groups(data.splits) == []


def test_a_sample_that_is_there_twice_within_one_split_is_not_an_overlap() -> None:
    made = splits()
    made["train"] = made["train"].joined(made["train"])
    assert overlap(made) == []


def grouped(*groups_of: tuple[str, ...]) -> dict[str, Split]:
    return {
        name: Split(torch.rand(len(rows), 2), [0] * len(rows), ["a"], name, About(groups=rows))
        for name, rows in zip(("train", "test"), groups_of, strict=True)
    }


def test_groups_on_both_sides_are_told() -> None:
    found = groups(grouped(("p1", "p1", "p2", "p2", "p3", ""), ("p3", "p3", "p4", "")))
    assert [(one.code, one.severity) for one in found] == [("group_overlap", "warning")]
    assert found[0].evidence == {"splits": ["train", "test"], "groups": 1, "samples": 2, "examples": ["p3"]}
    assert groups(grouped(("p1", "p1", "p2", ""), ("p5", "p4", ""))) == []


def test_files_are_named_where_they_are_known() -> None:
    train = Split(torch.eye(3), [0, 0, 0], ["a"], "train", About(names=("a.png", "b.png", "c.png")))
    test = Split(torch.eye(3)[1:2], [0], ["a"], "test", About(names=("copy.png",)))
    assert overlap({"train": train, "test": test})[0].evidence["examples"] == [["b.png", "copy.png"]]


def test_data_divided_here_share_no_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    data = Data((torch.rand(120, 1, 5, 5, generator=generator), torch.arange(120) % 2))
    assert overlap(data.splits) == []
