"""Normalization against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.errors import RecipeError


def test_what_is_measured_is_what_numpy_gives_for_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (5000, 3, 4, 2)).astype(np.uint8)
    pixels[:, 1] //= 2
    found = Normalization.measure(Split(torch.from_numpy(pixels), None, ("a",), "train"))
    scaled = pixels / 255
    assert found.mean == pytest.approx(scaled.mean((0, 2, 3)), abs=1e-6)
    assert found.std == pytest.approx(scaled.std((0, 2, 3)), abs=1e-6)
    # Four standard errors of a mean of 40,000 numbers.
    normal = found(torch.from_numpy(scaled).float())
    assert normal.mean((0, 2, 3)).abs().max() < 1e-4
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_vectors_have_one_mean_and_a_constant_channel_is_only_centered() -> None:
    table = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert Normalization.measure(Split(table, None, ("a",), "t")) == Normalization((4.0,), (round(5**0.5, 6),))
    constant = Split(torch.full((4, 1, 2, 2), 0.5), None, ("a",), "t")
    assert Normalization.measure(constant) == Normalization((0.5,), (1.0,))


def test_each_channel_is_normalized_by_its_own() -> None:
    both = Normalization((1.0, 2.0), (2.0, 4.0))
    image = torch.tensor([[[[3.0]], [[10.0]]]])
    assert both(image).flatten().tolist() == [1.0, 2.0]
    assert both(torch.tensor([[3.0, 10.0]])).tolist() == [[1.0, 2.0]]
    assert torch.equal(Normalization.none(2)(image), image)
    assert Normalization.none(2).identity
    assert not both.identity


def test_json_and_back() -> None:
    both = Normalization((0.1, 0.2), (0.3, 0.4))
    assert Normalization.from_dict(both.to_dict()) == both


@pytest.mark.parametrize(
    ("mean", "std"),
    [((), ()), ((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((0.0,), (math.nan,)), ((0.0,), (math.inf,)),
     ((math.nan,), (1.0,)), ((math.inf,), (1.0,))],
)  # fmt: skip
def test_a_normalization_that_divides_by_nothing_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="normalization"):
        Normalization(mean, std)
