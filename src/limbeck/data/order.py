"""Addressed randomness: integer hashes of (seed, where), vectorized, the same on every platform and in every batch.

The mixing function is SplitMix64's finalizer (Steele, Lea, Flood, OOPSLA 2014).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def hashed(*address: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of an address; its parts are integers or integer arrays, broadcast together.

    Example:
        >>> hashed(0, [1, 2]).tolist() == [int(hashed(0, 1)), int(hashed(0, 2))]
        True
    """
    state = np.zeros((), dtype=np.uint64)
    for part in address:
        state = _mix(state ^ _unsigned(part))
    return state


def uniform(*address: Any) -> NDArray[np.float64]:
    """A number in [0, 1) for each address.

    Example:
        >>> bool((uniform(7, np.arange(1000)) < 1).all())
        True
    """
    return (hashed(*address) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, size: int) -> Tensor:
    """The order of ``size`` samples in an epoch: int64 ``[size]``, a function of its arguments only.

    Example:
        >>> sorted(permutation(0, 3, 5).tolist())
        [0, 1, 2, 3, 4]
    """
    return torch.from_numpy(np.argsort(hashed(seed, epoch, np.arange(size)), kind="stable"))


def stream_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of torch's generator for one training step, so that dropout depends on (seed, rank, step) only."""
    return int(hashed(seed, rank, step)) >> 1


@contextmanager
def reseeded(*address: int) -> Iterator[None]:
    """Seed the global generators of torch (CPU), numpy and Python from an address, and put them back afterwards.

    For other people's code that consumes randomness, such as the transforms of a Dataset.

    Example:
        >>> with reseeded(0, 1):
        ...     first = torch.rand(())
        >>> with reseeded(0, 1):
        ...     print(bool(torch.rand(()) == first))
        True
    """
    seed = int(hashed(*address)) >> 1
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _unsigned(part: Any) -> NDArray[np.uint64]:
    if isinstance(part, Tensor):
        part = part.numpy()
    if isinstance(part, int):
        return np.array(part & _MASK, dtype=np.uint64)
    return np.asarray(part, dtype=np.int64).astype(np.uint64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        value = state + np.uint64(_GAMMA)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(value ^ (value >> np.uint64(31)))
