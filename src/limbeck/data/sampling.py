"""Which samples an epoch sees: each once, or classes equally often."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.order import permutation, uniform
from limbeck.errors import RecipeError, nearest

SAMPLINGS = ("none", "balanced")


class Sampler:
    """The addresses of an epoch, and single ones drawn by a number.

    ``none``: an epoch is every sample once. ``balanced``: as many addresses as the split has samples, drawn with
    replacement; classes that have samples are equally likely, and so are the samples of one class. Samples without a
    label stay the part of the whole that they are.

    Args:
        targets: int64 ``[N]``, -1 for no label.
        sampling: ``none`` or ``balanced``.

    Raises:
        RecipeError: if ``sampling`` is something else.

    Example:
        >>> Sampler(torch.tensor([0, 0, 0, 1]), "balanced").draw(np.array([0.1, 0.9]), np.array([0.5, 0.5])).tolist()
        [1, 3]
    """

    def __init__(self, targets: Tensor, sampling: str = "none") -> None:
        if sampling not in SAMPLINGS:
            raise RecipeError(
                f"sampling is {sampling!r}, expected {' or '.join(SAMPLINGS)}{nearest(str(sampling), SAMPLINGS)}"
            )
        self.balanced, self.size = sampling == "balanced", len(targets)
        # Groups that are drawn from: each a run of ``rows``.
        labels = targets.numpy() if self.balanced else np.zeros(self.size, dtype=np.int64)
        self.rows = np.argsort(labels, kind="stable")
        known, self.counts = np.unique(labels, return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts
        unlabeled = self.counts[known < 0].sum() / max(self.size, 1)
        part = np.where(known < 0, unlabeled, (1 - unlabeled) / max((known >= 0).sum(), 1))
        self.edges = np.cumsum(part)[:-1]

    def order(self, seed: int, epoch: int) -> Tensor:
        """The addresses of an epoch in order, int64 ``[N]``: a function of the arguments only."""
        if not self.balanced:
            return permutation(seed, epoch, self.size)
        place = np.arange(self.size)
        group, member = (uniform(seed, epoch, place, 0, channel) for channel in (0, 1))
        return torch.from_numpy(self.draw(group, member))

    def draw(self, group: NDArray[np.float64], member: NDArray[np.float64]) -> NDArray[np.int64]:
        """One address for each pair of numbers in [0, 1): the first chooses the class, the second the sample."""
        at = np.searchsorted(self.edges, group, side="right")
        found: Any = self.rows[self.starts[at] + np.floor(member * self.counts[at]).astype(np.int64)]
        return found


def repeats(order: Tensor) -> Tensor:
    """How often each address of an order came before, int64 ``[N]``.

    Example:
        >>> repeats(torch.tensor([5, 3, 5, 5])).tolist()
        [0, 0, 1, 2]
    """
    by_address = order.argsort(stable=True)
    inverse, counts = order.unique(return_inverse=True, return_counts=True)[1:]
    first = (counts.cumsum(0) - counts)[inverse[by_address]]
    found = torch.empty_like(order)
    found[by_address] = torch.arange(len(order)) - first
    return found
