"""What single weights are worth to the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from limbeck.errors import DataError, NumericsError

B = TypeVar("B")


def taylor(module: nn.Module, batches: Iterable[B], loss: Callable[[nn.Module, B], Tensor]) -> dict[str, Tensor]:
    """The first-order change of the loss if a weight were zero: ``|gradient · weight|``, mean over batches.

    The module is run as in training, with the batches' own statistics; its averages are put back.

    Args:
        module: trained; its gradients are emptied.
        batches: a few, of the training split.
        loss: of the module on a batch, a scalar with a graph.

    Returns:
        By the name of the parameter, in its shape, on the CPU.

    Raises:
        DataError: without a batch.
        NumericsError: naming the parameter, if a gradient is not finite.

    Source: Molchanov, Mallya, Tyree, Frosio, Kautz, CVPR 2019, arXiv:1906.10771.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[3.0, -2.0]]))
        >>> taylor(net, [torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 1.0]])], lambda net, x: net(x).sum())
        {'weight': tensor([[6., 1.]])}
    """
    mode, averages = module.training, {name: one.clone() for name, one in module.named_buffers()}
    found = {name: torch.zeros_like(one, device="cpu") for name, one in module.named_parameters()}
    count = 0
    try:
        module.train()
        for batch in batches:
            module.zero_grad()
            loss(module, batch).backward()
            count += 1
            for name, one in module.named_parameters():
                if one.grad is None:
                    continue
                if not torch.isfinite(one.grad).all():
                    raise NumericsError(f"the gradient of '{name}' is not finite, so it can not be judged")
                found[name] += (one.grad * one.detach()).abs().cpu()
    finally:
        module.zero_grad()
        module.train(mode)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(averages[name])
    if not count:
        raise DataError("no batch to judge the channels by")
    return {name: total / count for name, total in found.items()}


__all__ = ["taylor"]
