"""Views that are seen again: made from their addresses alone, with a checksum that tells whether they are the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.batch import Mixed
from limbeck.data.order import hashed
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import RecipeError

_KEYS = 0x6C696D6265636B  # the seed of the checksum's keys: a part of the store's format
_ROWS = 2**16  # words that are summed at once: more do not stay in a core's cache


@dataclass(frozen=True)
class Replay:
    """So many views of every sample, over and over: a training with more epochs sees the same ones again.

    Args:
        seed: of the views; order and dropout have the training's own.
        views: how many of each sample, numbered from 0.

    Raises:
        RecipeError: if there is not at least one view.

    Example:
        >>> Replay(seed=0, views=4).number(epoch=5)
        1
    """

    seed: int
    views: int

    def __post_init__(self) -> None:
        if isinstance(self.views, bool) or not isinstance(self.views, int) or self.views < 1:
            raise RecipeError(f"views of a store are {self.views!r}, expected a whole number of at least 1")

    def number(self, epoch: Any) -> Any:
        """The view that an epoch shows; of a sample drawn for the k-th time in it, that of epoch + k."""
        return epoch % self.views


@dataclass(frozen=True)
class Seer:
    """Views by their address: a pure function of (seed, sample, view), the samples that are mixed in included.

    Args:
        split: samples.
        sampler: which samples may be mixed in, and how often.
        views: augmentation.
        seed: of the views.

    Example:
        >>> split = Split(torch.eye(4).reshape(2, 1, 2, 4), [0, 1], ["a", "b"], "train")
        >>> see = Seer(split, Sampler(split.targets), Views(shift=1), seed=0)
        >>> together, alone = see(torch.tensor([0, 1]), torch.tensor([2, 2]))[0], see(torch.tensor([1]), 2)[0]
        >>> bool((together[1] == alone[0]).all())
        True
    """

    split: Split
    sampler: Sampler
    views: Views
    seed: int

    def __call__(self, index: Tensor, view: Any) -> tuple[Tensor, Tensor, Mixed | None]:
        """Inputs, targets, and what they are mixed with, of the samples at ``index``, int64 ``[B]``.

        Args:
            index: addresses of the samples.
            view: number of the view, one or int64 ``[B]``.
        """
        inputs, target = self._plain(index, view)
        if not self.views.mixes:
            return inputs, target, None
        partner = self.views.partners(self.sampler, seed=self.seed, sample=index, view=view)
        partners, labels = self._plain(partner, view)
        inputs, share = self.views.mix(inputs, partners, seed=self.seed, sample=index, view=view)
        return inputs, target, Mixed(labels, share)

    def _plain(self, index: Tensor, view: Any) -> tuple[Tensor, Tensor]:
        inputs, target = self.split.fetch(index)
        if target.ndim > 1 and not self.views.identity:
            target = self.views.masks(target, seed=self.seed, sample=index, view=view)
        return self.views(inputs, seed=self.seed, sample=index, view=view), target


def pixel_checksum(inputs: Tensor) -> Tensor:
    """A 32-bit checksum of each sample's float32 values, int64 ``[B]``: any one changed bit changes it.

    The sum of 64-bit keys times the values' bits as 32-bit words, modulo 2^64, of which the upper half is taken: two
    different samples agree with a chance of 2^-32 (Lemire and Kaser, 2014, https://arxiv.org/abs/1202.4961).

    Args:
        inputs: float32 ``[B, …]`` on the CPU; bits are compared, so 0.0 and -0.0 differ.

    Example:
        >>> one, two = pixel_checksum(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
        >>> one == two, 0 <= one < 2**32
        (False, True)
    """
    words: Any = inputs.contiguous().reshape(len(inputs), -1).numpy().view(np.uint32)
    keys = _keys(words.shape[1])
    found = np.empty(len(words), dtype=np.uint64)
    rows = max(_ROWS // max(words.shape[1], 1), 1)
    with np.errstate(over="ignore"):
        for at in range(0, len(words), rows):
            part = words[at : at + rows].astype(np.uint64)
            found[at : at + rows] = np.einsum("ij,j->i", part, keys[1:]) + keys[0]
    return torch.from_numpy((found >> np.uint64(32)).astype(np.int64))


@lru_cache(maxsize=8)
def _keys(count: int) -> NDArray[np.uint64]:
    """The checksum's keys: one to begin with, and one for each word."""
    return hashed(_KEYS, np.arange(count + 1))
