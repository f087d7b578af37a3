"""The stages of a model that goes from large maps to small ones, or through blocks of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from limbeck.pairing.looking import Layer, Shape, Site, octaves
from limbeck.taps import names

BLOCKS = 3  # stages of a transformer whose blocks all give tokens of one shape
SAME = 0.4  # sizes of layers of a model that belong to one stage, where convolutions have no padding


def found_stages(module: nn.Module, found: Sequence[Layer], image: Shape) -> tuple[list[Site], str]:
    """The stages among these layers, as maps or as tokens, and a note where maps were left out.

    Args:
        module: whose layers they are.
        found: layers in the order of their calls.
        image: height and width of the inputs.
    """
    maps, last = map_stages(module, found, image)
    tokens, falling = token_stages(module, found)
    order = {one.address: number for number, one in enumerate(found)}
    after = bool(tokens) and (not maps or order[tokens[-1].address] > order[maps[-1].address])
    note = "" if last is None else f"maps whose channels come last are left out, such as those of '{last}'"
    return tokens if after and (falling or len(maps) < 2) else maps, note


def map_stages(module: nn.Module, found: Sequence[Layer], image: Shape) -> tuple[list[Site], str | None]:
    """The last layer of each falling size, and the first one whose maps were passed over for their order."""
    maps = [one for one in found if len(one.shape) == 3 and one.address and not one.address.endswith("]")]
    inside = inside_of_blocks(module, found)
    maps = [one for one in maps if one.address not in inside]
    last = None
    if len(image) == 2:
        last = next((one.address for one in maps if _channels_last(one.shape, image)), None)
        fit = {one.address for one in maps if _like(one.shape[1:], image)}
        if last is not None and fit.intersection(_parents(last)):
            last = None  # turned inside of a block, and back again
        maps = [one for one in maps if one.address in fit]
    stages: list[Site] = []
    for one in maps:
        kind = one.kind.lower()
        if "drop" in kind or kind == "identity":
            continue
        if "pool" in kind and ("adaptive" in kind or one.shape[1:] == (1, 1)):
            break  # the head begins
        while stages and math.prod(stages[-1].shape[1:]) < math.prod(one.shape[1:]):
            stages.pop()  # a way back to larger maps
        if stages and octaves(stages[-1].shape) - octaves(one.shape) < SAME:
            stages.pop()
        stages.append(Site(one.address, one.shape))
    if len(stages) > 2 and stages[-1].shape[1:] == (1, 1):
        stages.pop()  # one position is a vector: that is the pooled one
    return stages, last


def inside_of_blocks(module: nn.Module, found: Sequence[Layer]) -> set[str]:
    """The addresses whose size is not that of a block they belong to.

    A block changes the size once or not at all. What only strings others together, and what holds three sizes or more,
    is none, unless the change is its last step, as in a transition between stages.
    """
    gives = {one.address: one.shape for one in found}
    sizes: dict[str, dict[Shape, None]] = {}
    for one in found:
        if len(one.shape) == 3 and one.shape[1:] != (1, 1):
            for parent in _parents(one.address):
                sizes.setdefault(parent, {})[one.shape[1:]] = None
    kinds = {name: isinstance(layer, nn.Sequential) for name, layer in names(module).items()}
    inside: set[str] = set()
    for one in found:
        if len(one.shape) != 3:
            continue
        for parent in _parents(one.address):
            shape = gives.get(parent)
            other = shape is None or len(shape) != 3 or shape[1:] != one.shape[1:]
            if shape is None or not other or len(sizes.get(parent, {})) > 2:
                continue
            if kinds.get(parent) and not _changes_last(parent, shape, found):
                continue
            inside.add(one.address)
    return inside


def _changes_last(parent: str, shape: Shape, found: Sequence[Layer]) -> bool:
    """Whether of the steps of a sequence the last alone gives its size."""
    depth = parent.count(".") + 1
    steps = [one.shape for one in found if one.address.startswith(parent + ".") and one.address.count(".") == depth]
    return len(shape) == 3 and len(steps) > 1 and all(len(one) == 3 and one[1:] != shape[1:] for one in steps[:-1])


def _parents(address: str) -> list[str]:
    parts = address.partition("#")[0].split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts))]


def _channels_last(shape: Shape, image: Shape) -> bool:
    return _like(shape[:2], image) and not _like(shape[1:], image)


def _like(sides: Shape, image: Shape) -> bool:
    """Whether a size has the proportions of the pictures, up to the rounding of sizes that are halved."""
    return abs(sides[0] * image[1] - sides[1] * image[0]) < max(image)


def token_stages(module: nn.Module, found: Sequence[Layer]) -> tuple[list[Site], bool]:
    """Blocks of a transformer: where the number of tokens falls the last of each, else every third."""
    known = names(module)
    groups: dict[tuple[str, type], list[Layer]] = {}
    for one in found:
        layer = one.address.removesuffix("[0]")
        if layer not in known:  # an earlier call, another item
            continue
        if len(one.shape) == 2 and one.shape[0] > 1 and "." in layer and any(known[layer].children()):
            groups.setdefault((layer.rpartition(".")[0], type(known[layer])), []).append(one)
    groups = {key: group for key, group in groups.items() if len(group) > 1}
    if not groups:
        return [], False
    depth = min(parent.count(".") for parent, _ in groups)
    groups = {key: group for key, group in groups.items() if key[0].count(".") == depth}
    blocks = [one for group in groups.values() for one in group]
    counts = list(dict.fromkeys(one.shape[0] for one in blocks))
    if len(counts) > 1 and all(a > b for a, b in pairwise(counts)):
        chosen = [[one for one in blocks if one.shape[0] == count][-1] for count in counts]
        return [Site(one.address, one.shape) for one in chosen], True
    largest = max(groups.values(), key=len)
    number = min(BLOCKS, len(largest))
    chosen = [largest[len(largest) * part // number - 1] for part in range(1, number + 1)]
    return [Site(one.address, one.shape) for one in chosen], False
