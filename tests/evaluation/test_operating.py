"""The operating point: chosen on validation by a rule that can be checked by trying every threshold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation.operating import at_threshold, choose_threshold, probability
from limbeck.evaluation.slices import slices

SHARES = st.integers(0, 10).map(lambda one: one / 10)


def specificity(shares: torch.Tensor, positive: torch.Tensor, threshold: float) -> float:
    return float((shares[~positive] < threshold).double().mean())


@given(st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=25), st.sampled_from([0.1, 0.5, 0.7, 0.9, 0.99]))
def test_no_smaller_threshold_would_do(samples: list[tuple[float, bool]], wanted: float) -> None:
    shares = torch.tensor([share for share, _ in samples], dtype=torch.float64)
    positive = torch.tensor([one for _, one in samples])
    found = choose_threshold(shares, positive, wanted)
    if bool(positive.all()):
        assert found is None
        return
    assert found is not None
    assert specificity(shares, positive, found) >= wanted - 1e-9
    below = shares[shares < found]
    if len(below):  # the next smaller decision: the largest share below would be called positive too
        assert specificity(shares, positive, float(below.max())) < wanted
    assert not bool((shares == found).any()) or found > 1


def test_by_hand_with_ties() -> None:
    shares = torch.tensor([0.1, 0.3, 0.3, 0.5, 0.4, 0.9], dtype=torch.float64)
    positive = torch.tensor([False, False, False, False, True, True])
    assert choose_threshold(shares, positive, 0.5) == pytest.approx(0.35)  # both at 0.3 stay below
    assert choose_threshold(shares, positive, 0.75) == pytest.approx(0.35)
    assert choose_threshold(shares, positive, 0.76) == pytest.approx(0.7)
    assert at_threshold(shares, positive, 0.35) == {"sensitivity": 1.0, "specificity": 0.75}
    assert at_threshold(shares, positive, 0.7) == {"sensitivity": 0.5, "specificity": 1.0}


def test_seven_of_ten_are_not_eight() -> None:
    shares = torch.arange(10, dtype=torch.float64) / 10
    found = choose_threshold(shares, torch.zeros(10, dtype=torch.bool), 0.7)  # 0.7 * 10 is 7.000000000000001
    assert found == pytest.approx(0.65)


def test_where_nothing_may_be_called_positive() -> None:
    shares = torch.ones(4, dtype=torch.float64)
    found = choose_threshold(shares, torch.tensor([False, False, True, True]), 0.9)
    assert found == math.nextafter(1.0, 2.0)
    assert at_threshold(shares, torch.tensor([False, False, True, True]), found)["sensitivity"] == 0.0
    assert at_threshold(shares[:2], torch.tensor([True, True]), 0.5) == {"sensitivity": 1.0, "specificity": None}


def test_probabilities_are_of_float32_logits() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    expected = torch.softmax(logits.float().double(), 1)[0, 2]
    assert probability(logits, 2).tolist() == [float(expected)]
    assert probability(logits, 2).dtype == torch.float64


def test_slices_by_hand() -> None:
    targets = torch.tensor([0, 0, 1, 1, 1, 0, -1])
    guess = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    logits = torch.nn.functional.one_hot(guess, 2).float()
    columns = {"site": ("x", "x", "x", "y", "y", "y", "y"), "camera": ("k",) * 7}
    found = slices(logits, targets, columns, positive=1, threshold=0.5)
    x, y = found["site"]
    assert (x["value"], x["samples"], x["few"]) == ("x", 3, True)
    assert x["accuracy"] == pytest.approx(2 / 3)
    assert x["majority_baseline"] == pytest.approx(2 / 3)
    assert (x["balanced_accuracy"], x["sensitivity"], x["specificity"]) == (0.75, 1.0, 0.5)
    assert y["samples"] == 3  # the one without a label does not count
    assert (y["sensitivity"], y["specificity"]) == (0.5, 1.0)
    assert y["operating_point"] == {"sensitivity": 0.5, "specificity": 1.0}
    assert [one["samples"] for one in found["camera"]] == [6]
    plain = slices(logits, targets, columns)["site"][0]
    assert "sensitivity" not in plain
    alone = slices(logits[:2], targets[:2], {"site": ("x", "x")}, positive=1)["site"][0]
    assert (alone["sensitivity"], alone["balanced_accuracy"]) == (None, 0.5)


def test_a_slice_of_twenty_is_not_few() -> None:
    targets = torch.arange(20) % 2
    assert slices(torch.zeros(20, 2), targets, {"c": ("v",) * 20})["c"][0]["few"] is False
