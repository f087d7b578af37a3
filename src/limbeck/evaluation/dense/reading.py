"""What a model says about every region of a split: its labels, and the counts that metrics are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.data.scenes import SceneSplit
from limbeck.errors import ModelError, NumericsError
from limbeck.evaluation.dense.stitching import Call, bands
from limbeck.evaluation.dense.tally import Tally
from limbeck.evaluation.predict import forwarded
from limbeck.outputs import Outputs
from limbeck.teachers import Teacher, evaluating
from limbeck.training.distributed import world


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


def read(call: Call, split: SceneSplit, *, labels: bool = True, shared: bool = False) -> Reading:
    """Ask a model about every region of a split, window by window; probabilities are counted and let go.

    Args:
        call: the model, its preparation inside.
        split: its regions are looked at whole.
        labels: keep each pixel's most probable class, a byte a pixel.
        shared: of several processes, which must all come here, each asks about some of the regions; all get the whole.

    Raises:
        NumericsError: if a probability is not a number, naming the region.
        ModelError: if the model gives other classes than the split has, or not one answer for each pixel.
    """
    count, classes = len(split.regions), len(split.classes)
    tally, kept = Tally.empty(count, classes), list[Tensor]()
    for number in world().share(count) if shared else range(count):
        region = split.regions[number]
        picture, mask = region.read()
        guess = torch.empty(region.size, dtype=torch.uint8)
        for top, probabilities in bands(call, picture, split.patch):
            if len(probabilities) != classes:
                raise ModelError(
                    f"the model tells {len(probabilities)} classes apart, split '{split.name}' has {classes}"
                )
            if bool(probabilities[0].isnan().any()):  # a pixel's classes are all numbers, or none is
                raise NumericsError(f"the model's logits are not finite for {region.name} of split '{split.name}'")
            rows = slice(top, top + probabilities.shape[1])
            guess[rows] = tally.add(number, probabilities, mask[rows])
        if labels:
            kept.append(guess)
    return _joined(kept, tally, split, labels) if shared and world().several else Reading(kept, tally)


def read_module(
    module: nn.Module,
    preparation: Callable[[Tensor], Tensor] | None,
    split: SceneSplit,
    *,
    labels: bool = True,
    shared: bool = False,
) -> Reading:
    """:func:`read` of a module, in eval mode and float32, without a graph; each submodule's mode is put back."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    channels_last = device.type == "cpu"

    def call(inputs: Tensor) -> Tensor:
        nonlocal channels_last
        inputs = inputs.to(device)
        inputs = inputs if preparation is None else preparation(inputs)
        outputs, channels_last = forwarded(module, inputs, channels_last)
        return Outputs.of(outputs).logits

    with torch.no_grad(), evaluating(module), torch.autocast(device.type, enabled=False):
        return read(call, split, labels=labels, shared=shared)


def read_teacher(teacher: Teacher, split: SceneSplit, *, shared: bool = False) -> Reading:
    """:func:`read` of a teacher, in float32."""

    def call(inputs: Tensor) -> Tensor:
        return teacher(inputs, torch.full((len(inputs),), -1)).logits

    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return read(call, split, shared=shared)


def _joined(own: list[Tensor], tally: Tally, split: SceneSplit, labels: bool) -> Reading:
    """What all processes read; each has a row of regions, in the order of their ranks."""
    share, gathered = world().share(len(split.regions)), world().gathered
    rows = slice(share.start, share.stop)
    whole = Tally(
        margins=gathered(tally.margins[rows]),
        losses=gathered(tally.losses[rows]),
        confusion=gathered(tally.confusion[None]).sum(0),
        inside=gathered(tally.inside[None]).sum(0),
        outside=gathered(tally.outside[None]).sum(0),
        confidence=gathered(tally.confidence[None]).sum(0),
    )
    if not labels:
        return Reading([], whole)
    flat = gathered(torch.cat([one.flatten() for one in own]) if own else torch.empty(0, dtype=torch.uint8))
    parts = flat.split([one.size[0] * one.size[1] for one in split.regions])
    return Reading([part.reshape(one.size) for part, one in zip(parts, split.regions, strict=True)], whole)


__all__ = ["Reading", "read", "read_module", "read_teacher"]
