"""One model, trained alike by all processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.training.distributed import world

_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_BUFFERS = (
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"
)  # as torch < 2.15 has it


class Replica:
    """A module that all processes train alike: gradients are summed over them, by torch's DistributedDataParallel.

    DDP overlaps the exchange with the backward pass. It would average; a hook makes it sum, since an objective that
    knows the counts of the whole batch gives parts that add up to it. The module itself is left as it is: DDP wraps a
    frame around it, which lasts until parameters are frozen or released, or the training ends.

    Args:
        module: is the same in all processes, or becomes the first one's.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> replica = Replica(net)
        >>> loss, _ = replica.forward(lambda: (net(torch.ones(1, 2)).sum(), "and what else"), last=True)
        >>> replica.backward(loss)
        >>> net.weight.grad
        tensor([[1., 1.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._wrapped: DistributedDataParallel | None = None
        self._trained: list[bool] = []

    def forward(self, compute: Callable[[], tuple[Any, ...]], *, last: bool) -> tuple[Any, ...]:
        """What ``compute`` gives, which calls the module: a loss, and more.

        Gradients are exchanged in the backward pass of the ``last`` loss of a step.
        """
        if not world().several:
            return compute()
        trained = [one.requires_grad for one in self._module.parameters()]
        if self._wrapped is None or trained != self._trained:
            self._wrapped, self._trained = self._wrap(), trained
        more: list[Any] = []

        def loss() -> Tensor:  # alone: DDP takes every parameter that its output depends on for one with a gradient
            value, *rest = compute()
            more.extend(rest)
            return value

        with nullcontext() if last else self._wrapped.no_sync():
            return self._wrapped(loss), *more

    def backward(self, loss: Tensor) -> None:
        """The gradient of a loss; of the last one: summed over the processes."""
        with world().heard():
            loss.backward()

    def release(self) -> None:
        """Leave nothing on the module."""
        self._wrapped = None

    def _wrap(self) -> DistributedDataParallel:
        self._wrapped = None
        cuda = next(self._module.parameters()).is_cuda
        options: dict[str, Any] = {_BUFFERS: False}  # they are copied after the step: all evaluate the same model
        wrapped = DistributedDataParallel(
            _Frame(self._module),
            process_group=None if cuda else world().group,
            find_unused_parameters=True,
            **options,
        )
        wrapped.register_comm_hook(None if cuda else world().group, lambda group, bucket: _sum(group, bucket))
        return wrapped


class _Frame(nn.Module):
    """What DDP wraps: the module, called as its user likes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        # A model may have parameters that its logits do not depend on. With one that is never used torch looks for them
        # without warning where there are none.
        self.unused = nn.Parameter(torch.zeros(1, device=next(module.parameters()).device))

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def _sum(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])
