"""Pairing: which layers of two models belong together, found by running both once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.adapters import estimate
from limbeck.errors import ModelError
from limbeck.models.heads import find_head
from limbeck.taps import Address, Tap, names, plain, shapes

Shape = tuple[int, ...]
BLOCKS = 3  # stages of a transformer whose blocks all give tokens of one shape
_OCTAVE = 0.5  # sizes of stages of two models are alike up to this power of two
_SAME = 0.4  # sizes of layers of a model that belong to one stage, where convolutions have no padding


class Site(NamedTuple):
    """A layer's address and the shape of what is found there, without the batch."""

    address: str
    shape: Shape


class Layer(NamedTuple):
    """What a layer gives: address, kind, shape without the batch, own parameters (not of layers inside), batch."""

    address: str
    kind: str
    shape: Shape
    parameters: int
    batch: int = 1


@dataclass(frozen=True)
class Sites:
    """The places of a model where losses look if a term does not say ``at``.

    Args:
        stages: the last layer of each size, shallow to deep.
        pooled: the vector that the classifier is given; None if it is not found.
        note: why there are no stages, or no pooled vector; empty if there are.
    """

    stages: tuple[Site, ...]
    pooled: Site | None
    note: str = ""


@dataclass(frozen=True)
class Pairing:
    """Pairs of layers ``(teacher's, student's)``; iterating gives those of the stages, as a term's ``at`` takes them.

    Args:
        stages: shallow to deep.
        pooled: the vectors that the classifiers are given; None if one is not found.
        shapes: of all of them, without the batch: the teacher's by address, the student's by address.
        notes: what was not found.
    """

    stages: tuple[tuple[str, str], ...]
    pooled: tuple[str, str] | None
    shapes: tuple[dict[str, Shape], dict[str, Shape]]
    notes: tuple[str, ...] = ()

    @property
    def middle(self) -> tuple[str, str] | None:
        """The stage in the middle; of an even number the shallower one."""
        return self.stages[(len(self.stages) - 1) // 2] if self.stages else None

    @property
    def last(self) -> tuple[str, str] | None:
        """The deepest stage."""
        return self.stages[-1] if self.stages else None

    def rows(self) -> list[dict[str, Any]]:
        """Each pair with the shapes of both sides and the adapter between them: its kind, and what it costs."""
        found = [*((pair, "stage") for pair in self.stages), *([(self.pooled, "pooled")] if self.pooled else [])]
        return [self._row(pair, site) for pair, site in found]

    def cells(self, *costs: str) -> list[list[str]]:
        """The rows as text, for a table: site, layer and shape of both models, adapter, and its ``costs``."""
        return [
            [
                row["site"],
                row["teacher"],
                by(row["teacher_shape"]),
                row["student"],
                by(row["student_shape"]),
                row["adapter"],
                *("–" if row[key] is None else f"{row[key]:,}" for key in costs),
            ]
            for row in self.rows()
        ]

    def _row(self, pair: tuple[str, str], site: str) -> dict[str, Any]:
        theirs, own = (of[address] for of, address in zip(self.shapes, pair, strict=True))
        also = [name for name in ("middle", "last") if site == "stage" and getattr(self, name) == pair]
        row = {"site": ", ".join([site, *also]), "teacher": pair[0], "teacher_shape": theirs}
        row |= {"student": pair[1], "student_shape": own}
        try:
            told = estimate(own, theirs)
        except ModelError as error:
            return row | {"adapter": f"none fits: {error.what}", "parameters": None, "macs": None}
        return row | {"adapter": told.kind, "parameters": told.parameters, "macs": told.macs}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __str__(self) -> str:
        lines = [["site", "teacher", "shape", "student", "shape", "adapter", "parameters"], *self.cells("parameters")]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([*text, *self.notes])


def pair_layers(
    teacher: nn.Module, student: nn.Module, inputs: Tensor, teacher_inputs: Tensor | None = None
) -> Pairing:
    """Propose which layers of two models to compare: their stages, and the vectors that their classifiers are given.

    Both are run once, in eval mode without gradients. The deepest stages belong together; from there to the shallow
    end, stages whose size is the same multiple of the deepest one's. Where all stages of a model have one size, as
    those of a ViT, they are counted from the deep end.

    Args:
        teacher: any module that takes the inputs.
        student: another.
        inputs: a few samples ``[B, …]``, prepared for the student.
        teacher_inputs: prepared for the teacher; the same by default.

    Raises:
        ModelError: if a model does not run on the inputs.

    Example:
        >>> def net(*widths):
        ...     ins = (3, *widths)
        ...     convs = [nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(ins, widths)]
        ...     return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
        >>> pairs = pair_layers(net(8, 16, 32), net(4, 8), torch.zeros(1, 3, 32, 32))
        >>> list(pairs), pairs.pooled
        ([('1', '0'), ('2', '1')], ('5:input', '4:input'))
        >>> print(pairs)  # doctest: +NORMALIZE_WHITESPACE
        site           teacher  shape   student  shape    adapter        parameters
        stage, middle  1        16×8×8  0        4×16×16  resize + conv  96
        stage, last    2        32×4×4  1        8×8×8    resize + conv  320
        pooled         5:input  32      4:input  8        linear         288
    """
    given = (("teacher", teacher, inputs if teacher_inputs is None else teacher_inputs), ("student", student, inputs))
    theirs, own = (_sites_of(*one) for one in given)
    found = _matched(theirs.stages, own.stages)
    pooled = (theirs.pooled, own.pooled) if theirs.pooled and own.pooled else None
    pairs = [*found, *([pooled] if pooled else [])]
    both = tuple({pair[side].address: pair[side].shape for pair in pairs} for side in (0, 1))
    notes = [f"{who}: {one.note}" for who, one in (("teacher", theirs), ("student", own)) if one.note]
    return Pairing(
        tuple((one.address, other.address) for one, other in found),
        (pooled[0].address, pooled[1].address) if pooled else None,
        (both[0], both[1]),
        tuple(notes),
    )


def layers(module: nn.Module, inputs: Tensor) -> list[Layer]:
    """All that the layers give, in the order of the calls; the model is run in eval mode without gradients.

    Raises:
        ModelError: if the model does not run on the inputs.

    Example:
        >>> [tuple(one) for one in layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(1, 2, 2))]
        [('0', 'Flatten', (4,), 0, 1), ('1', 'Linear', (3,), 15, 1), ('', 'Sequential', (3,), 0, 1)]
    """
    return _run(module, inputs)[0]


def sites(module: nn.Module, inputs: Tensor) -> Sites:
    """The stages of a model and the vector that its classifier is given, from one pass in eval mode.

    A stage is the last layer that gives maps of its size, without layers inside of a block that changes the size. Of a
    model whose blocks give tokens of one shape, they are every third of its blocks.

    Args:
        module: any module.
        inputs: of it ``[B, …]``.

    Raises:
        ModelError: if the model does not run on the inputs.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> sites(net, torch.zeros(1, 1, 8, 8))
        Sites(stages=(Site(address='1', shape=(4, 3, 3)),), pooled=Site(address='3:input', shape=(36,)), note='')
    """
    module = plain(module)
    found, pooled = _run(module, inputs)
    found = [one for one in found if one.batch == len(inputs)]  # windows of attention are stacked as samples are
    maps, last = _map_stages(module, found, tuple(inputs.shape[2:]))
    tokens, falling = _token_stages(module, found)
    order = {one.address: number for number, one in enumerate(found)}
    after = bool(tokens) and (not maps or order[tokens[-1].address] > order[maps[-1].address])
    stages = tokens if after and (falling or len(maps) < 2) else maps
    notes = [] if last is None else [f"maps whose channels come last are left out, such as those of '{last}'"]
    if not stages:
        notes.append("no stages were found")
    if pooled is None:
        notes.append("its classifier was not found, or is given no vector")
    return Sites(tuple(stages), pooled, "; ".join(notes))


def _sites_of(who: str, module: nn.Module, inputs: Tensor) -> Sites:
    try:
        return sites(module, inputs)
    except ModelError as error:
        raise ModelError(f"the {who}: {error.what}", cure=error.cure) from error


def by(shape: Shape) -> str:
    """A shape for people.

    Example:
        >>> by((3, 32, 32))
        '3×32×32'
    """
    return "×".join(map(str, shape)) or "scalar"


def _run(module: nn.Module, inputs: Tensor) -> tuple[list[Layer], Site | None]:
    module = plain(module)
    known = names(module)
    try:
        head = f"{find_head(module)[0]}:input"
    except ModelError:
        head = None
    was = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), Tap(module, [head] if head else []) as tap:
            found = shapes(module, inputs)
    except ModelError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        what = f"{type(module).__name__} does not run on inputs of shape {by(tuple(inputs.shape[1:]))}"
        raise ModelError(
            f"{what}: {type(error).__name__}: {text}", cure="give it inputs of the shape it takes"
        ) from error
    finally:
        for part in was:
            part.training = True
    listed = []
    for address, shape in found:
        layer = known[Address.parse(address, known).layer]
        own = sum(value.numel() for value in layer.parameters(recurse=False))
        listed.append(Layer(address, type(layer).__name__, shape[1:], own, *shape[:1]))
    value = tap.features.get(head) if head else None
    pooled = None if value is None or head is None or value.ndim != 2 else Site(head, tuple(value.shape[1:]))
    return listed, pooled


def _map_stages(module: nn.Module, found: Sequence[Layer], image: Shape) -> tuple[list[Site], str | None]:
    """The last layer of each falling size, and the first one whose maps were passed over for their order."""
    maps = [one for one in found if len(one.shape) == 3 and one.address and not one.address.endswith("]")]
    inside = _inside_of_blocks(module, found)
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
        if stages and _octaves(stages[-1].shape) - _octaves(one.shape) < _SAME:
            stages.pop()
        stages.append(Site(one.address, one.shape))
    if len(stages) > 2 and stages[-1].shape[1:] == (1, 1):
        stages.pop()  # one position is a vector: that is the pooled one
    return stages, last


def _inside_of_blocks(module: nn.Module, found: Sequence[Layer]) -> set[str]:
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


def _token_stages(module: nn.Module, found: Sequence[Layer]) -> tuple[list[Site], bool]:
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


def _matched(theirs: Sequence[Site], own: Sequence[Site]) -> list[tuple[Site, Site]]:
    """Pairs of stages, shallow to deep, found from the deep end."""
    if not theirs or not own:
        return []
    sizes = [[_octaves(site.shape) - _octaves(side[-1].shape) for site in side] for side in (theirs, own)]
    counted = any(len(side) > 1 and max(side) - min(side) < _OCTAVE for side in sizes)
    pairs: list[tuple[Site, Site]] = []
    one, other = len(theirs) - 1, len(own) - 1
    while one >= 0 and other >= 0:
        apart = sizes[0][one] - sizes[1][other]
        if counted or abs(apart) <= _OCTAVE:
            pairs.append((theirs[one], own[other]))
            one, other = one - 1, other - 1
        elif apart > 0:
            other -= 1
        else:
            one -= 1
    return pairs[::-1]


def _octaves(shape: Shape) -> float:
    """The side of a map, or of a square of so many tokens, as a power of two."""
    return math.log2(shape[0] if len(shape) == 2 else math.prod(shape[1:])) / 2
