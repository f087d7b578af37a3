"""Files, groups and slices stay with their samples through every selection."""

from __future__ import annotations

import pytest
import torch

from limbeck.data import Data, Split
from limbeck.data.about import About
from limbeck.data.data import few_labels


def split(size: int = 40, start: int = 0) -> Split:
    """The number of each sample is in its input, name, group and slice."""
    numbers = range(start, start + size)
    about = About(
        tuple(f"{at}.png" for at in numbers),
        tuple(f"tile {at}" for at in numbers),
        {"site": tuple(f"site {at}" for at in numbers)},
    )
    return Split(torch.arange(start, start + size).float()[:, None], torch.arange(size) % 2, ("a", "b"), "train", about)


def holds(found: Split) -> bool:
    numbers = [int(one) for one in found.fetch(torch.arange(len(found)))[0][:, 0]]
    return (
        found.names == tuple(f"{at}.png" for at in numbers)
        and found.groups == tuple(f"tile {at}" for at in numbers)
        and found.slices == {"site": tuple(f"site {at}" for at in numbers)}
    )


def test_what_is_known_of_a_sample_goes_where_it_goes() -> None:
    whole = split()
    assert holds(whole)
    assert holds(whole.subset([5, 3, 3, 39]))
    assert holds(whole.without_labels([1, 2]))
    assert holds(few_labels(whole, 10, seed=0))
    assert holds(whole.joined(split(7, start=100)))
    assert holds(whole.joined(split(7, start=100)).subset([46, 0, 41]))
    data = Data(whole)
    assert all(holds(one) for one in data.splits.values())


def test_samples_of_which_nothing_is_known_have_empty_text() -> None:
    plain = Split(torch.zeros(2, 1), None, ("a", "b"), "more")
    assert plain.names is None
    assert plain.groups is None
    assert plain.slices == {}
    joined = split(3).joined(plain)
    assert joined.names == ("0.png", "1.png", "2.png", "", "")
    assert joined.slices == {"site": ("site 0", "site 1", "site 2", "", "")}
    assert plain.joined(plain).names is None


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (torch.zeros(40, 2, dtype=torch.uint8), "bytes"),
        (torch.rand(40, 2), "unit"),
        (torch.rand(40, 2) * 2 - 1, "raw"),
        (torch.rand(40, 2) * 255, "raw"),
    ],
)
def test_the_range_of_the_inputs_is_told(inputs: torch.Tensor, expected: str) -> None:
    data = Data((inputs, [0, 1] * 20))
    assert data.input_range == data.train.input_range == expected
    mixed = data.train.joined(data.test.subset([0, 1]))
    assert mixed.input_range == expected
