"""What a model says about every sample of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.batch import Batch
from limbeck.data.batches import batches, steps_per_epoch
from limbeck.data.split import Split
from limbeck.errors import NumericsError
from limbeck.outputs import Outputs
from limbeck.teachers import Teacher, evaluating
from limbeck.training.distributed import world

Normalize = Callable[[Tensor], Tensor]


def predict(
    module: nn.Module,
    normalization: Normalize | None,
    split: Split,
    *,
    batch_size: int = 512,
    shared: bool = False,
) -> tuple[Tensor, Tensor]:
    """Logits of a module for every sample, in eval mode and float32, without a graph.

    Args:
        module: on any device; each submodule's mode is put back afterwards.
        normalization: of the module's inputs.
        split: samples, in their own order.
        batch_size: samples computed at a time.
        shared: of several processes, which must all come here, each computes some of the batches; all get the whole.

    Returns:
        Logits float32 ``[N, C]`` and targets int64 ``[N]``, on the CPU.

    Raises:
        NumericsError: if a logit is not finite, naming split and samples.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    logits, targets = [], []
    channels_last = device.type == "cpu"
    with torch.no_grad(), evaluating(module), torch.autocast(device.type, enabled=False):
        for batch in _batches(split, batch_size, shared):
            inputs = batch.inputs.to(device)
            inputs = inputs if normalization is None else normalization(inputs)
            outputs, channels_last = forwarded(module, inputs, channels_last)
            logits.append(Outputs.of(outputs).logits.float().cpu())
            targets.append(batch.target)
    joined = partial(_joined, there=shared and split.addressed)
    return finite(joined(logits), split.name), joined(targets, like=torch.int64)


def forwarded(module: nn.Module, inputs: Tensor, channels_last: bool) -> tuple[Any, bool]:
    """What a module gives, and whether it took images channels-last: faster on the CPU, but ``view`` refuses that.

    Args:
        module: is asked.
        inputs: ``[B, …]``.
        channels_last: try it.

    Example:
        >>> forwarded(nn.Flatten(), torch.zeros(1, 2, 2, 2), True)[0].shape
        torch.Size([1, 8])
    """
    if channels_last and inputs.ndim == 4:
        try:
            return module(inputs.contiguous(memory_format=torch.channels_last)), True
        except RuntimeError as error:
            if "view" not in str(error):
                raise
    return module(inputs), False


def _batches(split: Split, batch_size: int, shared: bool) -> Iterator[Batch]:
    """The batches in the split's order; if shared, those of this process. A DataLoader's order is its own."""
    if not shared or not split.addressed:
        return batches(split, batch_size=batch_size, shuffle=False)
    own = world().share(steps_per_epoch(split, batch_size))
    return batches(split, batch_size=batch_size, shuffle=False, start=own.start, stop=own.stop)


def _joined(parts: list[Tensor], *, there: bool, like: torch.dtype = torch.float32, dim: int = 0) -> Tensor:
    """Parts one after the other, those of the other processes too if more of them is ``there``."""
    own = torch.cat(parts, dim=dim) if parts else torch.empty(0, dtype=like)
    return world().gathered(own, dim) if there else own


def ask(
    teacher: Teacher,
    split: Split,
    *,
    device: torch.device | None = None,
    batch_size: int = 512,
    shared: bool = False,
) -> Outputs:
    """What a teacher says about every sample of a split, in float32: Outputs over the whole split, on the CPU.

    ``shared``: of several processes, which must all come here, each asks about some of the batches.
    """
    found: list[Outputs] = []
    where = device or torch.device("cpu")
    with torch.no_grad(), torch.autocast(where.type, enabled=False):
        for batch in _batches(split, batch_size, shared):
            found.append(teacher(batch.inputs.to(where), batch.index))
    joined = partial(_joined, there=shared and split.addressed)
    members = [one.members.float().cpu() for one in found if one.members is not None]
    if world().summed([len(members)])[0] if shared else members:
        whole = joined(members, dim=1)
        weights = joined([one.weights.cpu() for one in found[:1] if one.weights is not None])
        return Outputs.ensemble(whole, weights[: len(whole)])  # every process has the same ones
    return Outputs(finite(joined([one.logits.float().cpu() for one in found]), split.name))


def finite(logits: Tensor, split: str) -> Tensor:
    """The logits, or NumericsError naming the samples where they are not finite.

    Example:
        >>> finite(torch.tensor([[1.0]]), "test")
        tensor([[1.]])
    """
    bad = (~torch.isfinite(logits.reshape(len(logits), -1)).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise NumericsError(f"the model's logits are not finite for {len(bad)} samples of '{split}', first {bad[:5]}")
    return logits
