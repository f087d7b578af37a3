"""Addressed randomness against a re-implementation in Python's own integers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from limbeck.data.order import hashed, permutation, reseeded, uniform

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The output function of SplitMix64, in unbounded integers."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def chain(*address: int) -> int:
    state = 0
    for part in address:
        state = splitmix(state ^ (part & MASK))
    return state


def test_the_mixing_function_is_splitmix64() -> None:
    # The published first output of SplitMix64 for seed 0.
    assert int(hashed(0)) == 0xE220A8397B1DCDAF == splitmix(0)


@pytest.mark.parametrize("address", [(0,), (7, 3, 5), (-1, 2**62), (2**63 - 1, -(2**63), 0)])
def test_a_hash_is_what_python_integers_give(address: tuple[int, ...]) -> None:
    assert int(hashed(*address)) == chain(*address)


def test_vectors_broadcast_and_agree_with_scalars_for_arrays_tensors_and_lists() -> None:
    samples = [0, 5, -1, 2**40]
    expected = [[chain(3, sample, view) for view in (0, 9)] for sample in samples]
    for one in (np.array(samples), torch.tensor(samples)):
        assert hashed(3, one[:, None], np.array([0, 9])).tolist() == expected
    assert hashed(3, samples, 9).tolist() == [row[1] for row in expected]


def test_uniform_is_the_upper_53_bits() -> None:
    found = uniform(1, np.arange(5000), 2, 3)
    assert found[17] == (chain(1, 17, 2, 3) >> 11) / 2**53
    assert found.min() >= 0
    assert found.max() < 1
    assert abs(found.mean() - 0.5) < 4 * (1 / 12) ** 0.5 / 5000**0.5
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(found, uniform(1, np.arange(5000), 3, 3))[0, 1]) < 0.06


def test_an_order_is_the_sorted_hashes() -> None:
    expected = sorted(range(100), key=lambda i: chain(4, 2, i))
    assert permutation(4, 2, 100).tolist() == expected


def test_orders_are_permutations_and_differ_by_epoch_and_seed() -> None:
    orders = [permutation(seed, epoch, 50).tolist() for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert permutation(0, 0, 1).tolist() == [0]
    assert permutation(0, 0, 0).tolist() == []


def test_every_place_is_equally_likely() -> None:
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        counts[np.arange(6), permutation(11, epoch, 6).numpy()] += 1
    # 25 degrees of freedom: beyond 52.6 once in a thousand.
    assert ((counts - 500) ** 2 / 500).sum() < 52.6


def test_reseeding_repeats_and_leaves_the_generators_as_they_were() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    state = torch.get_rng_state()
    with reseeded(3, 4):
        inside = draw()
    with pytest.raises(ZeroDivisionError), reseeded(3, 4):
        _ = int(draw() != inside) / 0
    assert torch.equal(state, torch.get_rng_state())
    with reseeded(3, 4):
        assert draw() == inside
    with reseeded(3, 5):
        assert draw() != inside
