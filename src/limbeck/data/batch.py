"""A batch: samples with their addresses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    """What the samples of a batch were mixed with, by MixUp or CutMix.

    Args:
        partner: int64 ``[B]``, labels of the samples that were mixed in; -1 means no label.
        share: float32 ``[B]`` in [0, 1], how much of a picture is the sample itself; the rest is the partner.

    Example:
        >>> Mixed(torch.tensor([2, 1]), torch.tensor([0.75, 1.0])).narrow(0, 1).share
        tensor([0.7500])
    """

    partner: Tensor
    share: Tensor

    def narrow(self, start: int, length: int) -> Mixed:
        """Those of the samples ``start`` to ``start + length``."""
        return Mixed(self.partner[start : start + length], self.share[start : start + length])

    def to(self, device: torch.device) -> Mixed:
        """The same on a device."""
        return Mixed(self.partner.to(device), self.share.to(device))


@dataclass(frozen=True)
class Batch:
    """Some samples of a split.

    Args:
        index: int64 ``[B]``, each sample's address in its split; -1 where it has none.
        inputs: float32 ``[B, …]`` after views, before normalization; bytes are scaled to [0, 1].
        target: int64 ``[B]``; -1 means no label.
        mixed: what the samples were mixed with; None: nothing.
        counted: False: a stand-in for a process that got no sample of a small batch; its samples are another's.
        view: int64 ``[B]``, the numbers of the views, where they are seen again; None: each is seen once.
        pixels: int64 ``[B]``, :func:`limbeck.data.replay.pixel_checksum` of the inputs; None: not asked for.

    Example:
        >>> len(Batch(torch.arange(4), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)).narrow(1, 2))
        2
    """

    index: Tensor
    inputs: Tensor
    target: Tensor
    mixed: Mixed | None = None
    counted: bool = True
    view: Tensor | None = None
    pixels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def narrow(self, start: int, length: int) -> Batch:
        """The samples ``start`` to ``start + length``."""
        stop = start + length
        mixed = self.mixed.narrow(start, length) if self.mixed else None
        view, pixels = (None if one is None else one[start:stop] for one in (self.view, self.pixels))
        inputs, target = self.inputs[start:stop], self.target[start:stop]
        return Batch(self.index[start:stop], inputs, target, mixed, self.counted, view, pixels)

    def address(self, samples: int) -> Tensor:
        """Where a store keeps what was said of each view: its number times the samples of the split, plus its own.

        Example:
            >>> x = torch.zeros(2, 1)
            >>> Batch(torch.tensor([0, 3]), x, x[:, 0].long(), view=torch.tensor([2, 0])).address(samples=10)
            tensor([20,  3])
        """
        return self.index if self.view is None else self.view * samples + self.index

    def right(self, guess: Tensor) -> tuple[float, float]:
        """How many guesses ``[B]`` are right, and of how many labels; a mixed sample's two count by their shares.

        Example:
            >>> mixed = Mixed(torch.tensor([1, -1]), torch.tensor([0.75, 0.5]))
            >>> Batch(torch.arange(2), torch.zeros(2, 1), torch.tensor([0, 0]), mixed).right(torch.tensor([1, 0]))
            (0.75, 1.5)
        """
        sides = [(self.target, torch.ones(len(self)))]
        if self.mixed:
            sides = [(self.target, self.mixed.share), (self.mixed.partner, 1 - self.mixed.share)]
        right = labeled = 0.0
        for target, share in sides:
            each = share.reshape(-1, *[1] * (target.ndim - 1))
            right += float(((target >= 0) & (target == guess)).mul(each).sum())
            labeled += float((target >= 0).mul(each).sum())
        return right, labeled
