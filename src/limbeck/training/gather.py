"""The parts of a batch that several processes have, joined for losses that compare samples with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.training.distributed import world


@dataclass(frozen=True)
class Joined:
    """Joins parts of a batch; the gradient of what is joined flows to the own part alone.

    Args:
        samples: of all parts together.
        counted: False: this process has no part of its own, see :class:`limbeck.data.batch.Batch`.

    Example:
        >>> Joined(2, True)(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """

    samples: int
    counted: bool

    def __call__(self, part: Tensor) -> Tensor:
        """The parts of all processes, in the order of their ranks, on the device of the own one."""
        own = part if self.counted else part[:0]
        if own.dtype == torch.bool:
            return world().gathered(own.to("cpu", torch.uint8)).to(own.device, torch.bool)
        return _Joining.apply(own) if own.is_floating_point() else world().gathered(own.cpu()).to(own.device)


def joined(batch: Batch) -> Joined:
    """What joins this batch, or piece of one, with those of the other processes, which must all come here."""
    samples = int(world().summed([len(batch) * float(batch.counted)])[0])
    return Joined(samples, batch.counted)


class _Joining(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        context.length = len(part)
        context.before = int(sum(world().gathered(torch.tensor([len(part)]))[: world().rank]))
        return world().gathered(part.detach().cpu()).to(part.device)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient[context.before : context.before + context.length]
