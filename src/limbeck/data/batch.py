"""A batch: samples with their addresses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some samples of a split.

    Args:
        index: int64 ``[B]``, each sample's address in its split; -1 where it has none.
        inputs: float32 ``[B, …]`` after views, before normalization; bytes are scaled to [0, 1].
        target: int64 ``[B]``; -1 means no label.

    Example:
        >>> import torch
        >>> len(Batch(torch.arange(4), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)).narrow(1, 2))
        2
    """

    index: Tensor
    inputs: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def narrow(self, start: int, length: int) -> Batch:
        """The samples ``start`` to ``start + length``."""
        stop = start + length
        return Batch(self.index[start:stop], self.inputs[start:stop], self.target[start:stop])
