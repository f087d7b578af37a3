"""What is counted of a model's answers about pixels: enough for every metric, and no more as pictures grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data.scenes import IGNORED

BINS = 512  # of a class's scores; an edge lies at probability 1/2
_REACH = 16.0  # log-odds beyond it are counted at the ends
_LEAST = 1e-12


@dataclass
class Tally:
    """Counts over the labeled pixels of some regions.

    Args:
        confusion: int64 ``[R, C, C]`` for each region: truth in rows, prediction in columns.
        inside, outside: int64 ``[C, BINS]``: how many pixels of a class, and of all others, gave the class a score in
            each bin of log-odds; see :func:`thresholds`.
        loss: sum of the cross-entropy.
    """

    confusion: Tensor
    inside: Tensor
    outside: Tensor
    loss: float = 0.0

    @classmethod
    def empty(cls, regions: int, classes: int) -> Tally:
        """Nothing counted yet."""
        bins = [torch.zeros(classes, BINS, dtype=torch.int64) for _ in range(2)]
        return cls(torch.zeros(regions, classes, classes, dtype=torch.int64), *bins)

    def add(self, region: int, probabilities: Tensor, mask: Tensor) -> Tensor:
        """Count one region, and give its labels as the model sees them.

        Args:
            region: its number.
            probabilities: ``[C, H, W]``.
            mask: uint8 ``[H, W]``, the truth; 255: not counted.

        Returns:
            uint8 ``[H, W]``: the most probable class.

        Example:
            >>> tally = Tally.empty(1, 2)
            >>> tally.add(0, torch.tensor([[[0.9, 0.2]], [[0.1, 0.8]]]), torch.tensor([[0, 0]]).byte())
            tensor([[0, 1]], dtype=torch.uint8)
            >>> tally.confusion[0].tolist()
            [[1, 1], [0, 0]]
        """
        classes, guess = len(probabilities), probabilities.argmax(0)
        kept = mask != IGNORED
        truth, shares = mask[kept].long(), probabilities[:, kept]
        cells = torch.bincount(truth * classes + guess[kept], minlength=classes**2)
        self.confusion[region] += cells.reshape(classes, classes)
        bins = binned(shares) + BINS * torch.arange(classes)[:, None]
        every = torch.bincount(bins.flatten(), minlength=classes * BINS).reshape(classes, BINS)
        own = bins.gather(0, truth[None])[0] if len(truth) else bins.new_zeros(0)
        hits = torch.bincount(own, minlength=classes * BINS).reshape(classes, BINS)
        self.inside += hits
        self.outside += every - hits
        own_share = shares.gather(0, truth[None])[0] if len(truth) else shares.new_zeros(0)
        self.loss -= float(own_share.double().clamp(min=_LEAST).log().sum())
        return guess.to(torch.uint8)

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.confusion.sum())

    @property
    def total(self) -> Tensor:
        """The confusion matrix of all regions, float64 ``[C, C]``."""
        return self.confusion.sum(0).double()

    def tensors(self) -> dict[str, Tensor]:
        """As a file holds it."""
        loss = torch.tensor(self.loss, dtype=torch.float64)
        return {"confusion": self.confusion, "inside": self.inside, "outside": self.outside, "loss": loss}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Tally:
        """From what :meth:`tensors` gave."""
        return cls(tensors["confusion"], tensors["inside"], tensors["outside"], float(tensors["loss"]))


def binned(probabilities: Tensor) -> Tensor:
    """The bin of each probability, by its log-odds: int64 of the same shape, from 0 to BINS - 1.

    Example:
        >>> binned(torch.tensor([0.0, 0.4999, 0.5, 1.0])).tolist() == [0, BINS // 2 - 1, BINS // 2, BINS - 1]
        True
    """
    odds = torch.logit(probabilities.float(), eps=1e-7)
    return ((odds + _REACH) * (BINS / (2 * _REACH))).floor().long().clamp(0, BINS - 1)


def thresholds() -> list[float]:
    """The probability at the lower edge of each bin."""
    return [0.0] + [1 / (1 + math.exp(_REACH - 2 * _REACH * at / BINS)) for at in range(1, BINS)]


__all__ = ["BINS", "Tally", "binned", "thresholds"]
