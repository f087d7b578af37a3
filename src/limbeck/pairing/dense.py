"""Models that give a score for each pixel: their encoder, and the map that their classifier is given."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import nn

from limbeck.errors import ModelError
from limbeck.models.heads import find_head
from limbeck.pairing.looking import Layer, Shape, Site, octaves
from limbeck.pairing.stages import SAME, found_stages, inside_of_blocks

PARTS = ("encoder", "backbone")  # what segmentation_models_pytorch and torchvision call it
_LEAST = 3  # sizes in what a part gives, so that it is all of its stages
_LOGITS = ("", "[logits]", "[out]")


def is_dense(found: Sequence[Layer], shape: Shape) -> bool:
    """Whether a model gives maps of its inputs' height and width.

    Args:
        found: what its layers give.
        shape: of the inputs, without the batch.

    Example:
        >>> is_dense([Layer("", "FCN", (6, 8, 8), 0)], (3, 8, 8)), is_dense([Layer("", "Net", (6,), 0)], (3, 8, 8))
        (True, False)
    """
    gives = next((one.shape for one in found if one.address in _LOGITS), ())
    return len(gives) == len(shape) == 3 and gives[1:] == shape[1:]


def encoder_stages(module: nn.Module, found: Sequence[Layer], shape: Shape) -> tuple[list[Site], str]:
    """The stages of the encoder of a model that gives a score for each pixel, and a note of what was left out.

    Args:
        module: the model.
        found: its layers, in the order of their calls.
        shape: of the inputs, without the batch.
    """
    for part in PARTS:
        given = _items(part, found, shape)
        if len(given) >= _LEAST:
            return given, ""
        inside = [one for one in found if one.address.startswith(f"{part}.")]
        stages, note = found_stages(module, inside, shape[1:])
        if stages:
            return stages, note
    return found_stages(module, _way_down(module, found), shape[1:])


def decoded_map(given: Sequence[Site]) -> Site | None:
    """The map that the classifier is given; of several classifiers the last one's.

    Example:
        >>> decoded_map([Site("low:input", (40, 8, 8)), Site("high:input", (128, 8, 8))])
        Site(address='high:input', shape=(128, 8, 8))
    """
    return next((one for one in reversed(given) if len(one.shape) == 3), None)


def _items(part: str, found: Sequence[Layer], shape: Shape) -> list[Site]:
    """The last map of each falling size in the list that a part gives; its inputs among them are left out."""
    stages: list[Site] = []
    for one in found:
        listed = re.fullmatch(rf"{part}\[[^\[\]]+\]", one.address)
        if not listed or len(one.shape) != 3 or not one.shape[0] or one.shape == shape:  # a place kept, or the inputs
            continue
        if stages and octaves(stages[-1].shape) - octaves(one.shape) < SAME:
            stages.pop()
        stages.append(Site(one.address, one.shape))
    if len(stages) > 2 and stages[-1].shape[1:] == (1, 1):
        stages.pop()  # of patches as small as the encoder's stride: one position has no places to compare
    return stages


def _way_down(module: nn.Module, found: Sequence[Layer]) -> Sequence[Layer]:
    """The layers up to the smallest maps, without the classifier."""
    try:
        heads = find_head(module)
    except ModelError:
        heads = ()
    end = [n for n, one in enumerate(found) if not one.address or _under(one.address, heads)]
    found = found[: end[0]] if end else found
    inside = inside_of_blocks(module, found)
    single = any("adaptive" in one.kind.lower() and one.shape[1:] == (1, 1) for one in found)
    sizes = [
        (number, octaves(one.shape))
        for number, one in enumerate(found)
        if len(one.shape) == 3 and one.address not in inside and not (single and math.prod(one.shape[1:]) == 1)
    ]
    if not sizes:
        return found
    smallest = min(size for _, size in sizes)
    first = next(number for number, size in sizes if size - smallest < SAME)
    return found[: next((n for n, size in sizes if n > first and size - smallest >= SAME), len(found))]


def _under(address: str, parts: Sequence[str]) -> bool:
    layer = re.split(r"[#:\[]", address)[0]
    return any(layer == part or layer.startswith(f"{part}.") for part in parts)
