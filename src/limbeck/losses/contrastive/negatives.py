"""Samples of other classes, drawn by address: the same for a sample and step in any batch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

BITS = 0xFFFFFFFF


class Negatives(nn.Module):
    """Draws K of the samples of other classes for each sample.

    They are put into K equal parts, by class, and one is drawn from each part: all are drawn equally often, and all
    once where K is their number.

    Args:
        targets: int64 ``[n]``, labels; a sample of label -1 is a class of its own.
        count: K; it is lowered to the number of samples outside of the largest class.

    Raises:
        DataError: if all samples have one class.

    Example:
        >>> negatives = Negatives(torch.tensor([0, 1, 0, 1, 2]), 99)
        >>> negatives.count, negatives(torch.tensor([0, 3]), torch.tensor(7)).sort().values.tolist()
        (3, [[1, 3, 4], [0, 2, 4]])
    """

    order: Tensor
    first: Tensor
    same: Tensor
    seed: Tensor

    def __init__(self, targets: Tensor, count: int) -> None:
        super().__init__()
        known = targets.detach().cpu()
        alone = known.max().clamp(min=-1) + 1 + torch.arange(len(known), device="cpu") if len(known) else known
        classes = torch.where(known < 0, alone, known)
        ordered, order = classes.sort(stable=True)
        first = torch.searchsorted(ordered, classes)
        same = torch.searchsorted(ordered, classes, right=True) - first
        others = len(known) - int(same.max()) if len(known) else 0
        if others < 1:
            raise DataError(
                f"loss 'crd' tells a sample from those of other classes; all {len(known)} training samples have one",
                cure="train on several classes",
            )
        self.count = min(count, others)
        # The range of products below: K · n · 2^resolution < 2^63.
        self._resolution = max(0, min(20, 62 - self.count.bit_length() - len(known).bit_length()))
        for name, value in (("order", order), ("first", first), ("same", same)):
            self.register_buffer(name, value, persistent=False)  # the labels say them again
        self.register_buffer("seed", torch.randint(BITS, ()))

    def forward(self, index: Tensor, step: Tensor) -> Tensor:
        """Their numbers, int64 ``[B, K]``.

        Args:
            index: int64 ``[B]``, numbers of the samples.
            step: int64 scalar; another one gives another draw.
        """
        key = _mix(_mix(_mix(self.seed) ^ step) ^ index).unsqueeze(1)
        part = torch.arange(self.count, device=index.device)
        chance = _mix(key ^ _mix(part)) >> (32 - self._resolution)  # a place inside the part
        first, same = self.first[index].unsqueeze(1), self.same[index].unsqueeze(1)
        place = ((part << self._resolution) + chance) * (len(self.order) - same) // (self.count << self._resolution)
        return self.order[place + torch.where(place < first, 0, same)]  # past its own class


def _mix(value: Tensor) -> Tensor:
    """A hash of 32 bits; both factors are below 2^31, so that no product leaves int64."""
    value = (value & BITS) + 0x3C6EF372 & BITS
    value = (value ^ (value >> 16)) * 0x21F0AAAD & BITS
    value = (value ^ (value >> 15)) * 0x735A2D97 & BITS
    return value ^ (value >> 15)
