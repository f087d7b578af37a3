"""What a model says about every sample of a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.batches import batches
from limbeck.data.split import Split
from limbeck.errors import NumericsError
from limbeck.outputs import Outputs
from limbeck.teachers import Teacher, evaluating

Normalize = Callable[[Tensor], Tensor]


def predict(
    module: nn.Module, normalization: Normalize | None, split: Split, *, batch_size: int = 512
) -> tuple[Tensor, Tensor]:
    """Logits of a module for every sample, in eval mode and float32, without a graph.

    Args:
        module: on any device; each submodule's mode is put back afterwards.
        normalization: of the module's inputs.
        split: samples, in their own order.
        batch_size: samples computed at a time.

    Returns:
        Logits float32 ``[N, C]`` and targets int64 ``[N]``, on the CPU.

    Raises:
        NumericsError: if a logit is not finite, naming split and samples.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    logits, targets = [], []
    channels_last = device.type == "cpu"
    with torch.no_grad(), evaluating(module), torch.autocast(device.type, enabled=False):
        for batch in batches(split, batch_size=batch_size, shuffle=False):
            inputs = batch.inputs.to(device)
            inputs = inputs if normalization is None else normalization(inputs)
            outputs, channels_last = _forward(module, inputs, channels_last)
            logits.append(Outputs.of(outputs).logits.float().cpu())
            targets.append(batch.target)
    return finite(torch.cat(logits), split.name), torch.cat(targets)


def _forward(module: nn.Module, inputs: Tensor, channels_last: bool) -> tuple[Any, bool]:
    """What a module gives, and whether it took images channels-last: faster on the CPU, but ``view`` refuses that."""
    if channels_last and inputs.ndim == 4:
        try:
            return module(inputs.contiguous(memory_format=torch.channels_last)), True
        except RuntimeError as error:
            if "view" not in str(error):
                raise
    return module(inputs), False


def ask(teacher: Teacher, split: Split, *, device: torch.device | None = None, batch_size: int = 512) -> Outputs:
    """What a teacher says about every sample of a split, in float32: Outputs over the whole split, on the CPU."""
    found: list[Outputs] = []
    where = device or torch.device("cpu")
    with torch.no_grad(), torch.autocast(where.type, enabled=False):
        for batch in batches(split, batch_size=batch_size, shuffle=False):
            found.append(teacher(batch.inputs.to(where), batch.index))
    if found[0].members is not None and found[0].weights is not None:
        members = torch.cat([one.members.float().cpu() for one in found if one.members is not None], dim=1)
        return Outputs.ensemble(members, found[0].weights.cpu())
    return Outputs(finite(torch.cat([one.logits.float().cpu() for one in found]), split.name))


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
