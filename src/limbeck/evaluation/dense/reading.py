"""What a model says about every region of a split: its labels, and the counts that metrics are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.scenes import SceneSplit
from limbeck.errors import NumericsError
from limbeck.evaluation.dense.stitching import Call, stitched
from limbeck.evaluation.dense.tally import Tally
from limbeck.outputs import Outputs
from limbeck.teachers import Teacher, evaluating


@dataclass
class Reading:
    """What a model said about a split.

    Args:
        labels: uint8 ``[H, W]`` for each region, the most probable class of each pixel.
        tally: the counts.
    """

    labels: list[Tensor]
    tally: Tally

    def tensors(self) -> dict[str, Tensor]:
        """As a file holds it."""
        return {f"labels.{at:06d}": one for at, one in enumerate(self.labels)} | self.tally.tensors()

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Reading:
        """From what :meth:`tensors` gave."""
        names = sorted(name for name in tensors if name.startswith("labels."))
        return cls([tensors[name] for name in names], Tally.of(tensors))


def read(call: Call, split: SceneSplit, *, labels: bool = True) -> Reading:
    """Ask a model about every region of a split, window by window; probabilities are counted and let go.

    Args:
        call: the model, its preparation inside.
        split: its regions are looked at whole.
        labels: keep each pixel's most probable class, a byte a pixel.

    Raises:
        NumericsError: if a probability is not finite, naming the region.
    """
    tally, kept = Tally.empty(len(split.regions), len(split.classes)), list[Tensor]()
    for number, region in enumerate(split.regions):
        picture, mask = region.read()
        probabilities = stitched(call, picture, split.patch)
        if not bool(torch.isfinite(probabilities).all()):
            raise NumericsError(f"the model's logits are not finite for {region.name} of split '{split.name}'")
        guess = tally.add(number, probabilities, mask)
        if labels:
            kept.append(guess)
    return Reading(kept, tally)


def read_module(
    module: nn.Module, preparation: Callable[[Tensor], Tensor] | None, split: SceneSplit, *, labels: bool = True
) -> Reading:
    """:func:`read` of a module, in eval mode and float32, without a graph."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))

    def call(inputs: Tensor) -> Tensor:
        inputs = inputs.to(device, memory_format=torch.channels_last)
        return Outputs.of(module(inputs if preparation is None else preparation(inputs))).logits

    with torch.no_grad(), evaluating(module), torch.autocast(device.type, enabled=False):
        return read(call, split, labels=labels)


def read_teacher(teacher: Teacher, split: SceneSplit) -> Reading:
    """:func:`read` of a teacher, in float32."""

    def call(inputs: Tensor) -> Any:
        return teacher(inputs, torch.full((len(inputs),), -1)).logits

    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return read(call, split)


__all__ = ["Reading", "read", "read_module", "read_teacher"]
