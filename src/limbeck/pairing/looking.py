"""A look at a model: what each of its layers gives, in one pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.heads import find_head
from limbeck.taps import Address, Tap, names, plain, shapes

Shape = tuple[int, ...]


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
        decoded: of a model that gives a score for each pixel, the map that its classifier is given.
        dense: whether it is such a model; its stages are then its encoder's.
    """

    stages: tuple[Site, ...]
    pooled: Site | None
    note: str = ""
    decoded: Site | None = None
    dense: bool = False


def layers(module: nn.Module, inputs: Tensor) -> list[Layer]:
    """All that the layers give, in the order of the calls; the model is run in eval mode without gradients.

    Raises:
        ModelError: if the model does not run on the inputs.

    Example:
        >>> [tuple(one) for one in layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(1, 2, 2))]
        [('0', 'Flatten', (4,), 0, 1), ('1', 'Linear', (3,), 15, 1), ('', 'Sequential', (3,), 0, 1)]
    """
    return look(module, inputs)[0]


def by(shape: Shape) -> str:
    """A shape for people.

    Example:
        >>> by((3, 32, 32))
        '3×32×32'
    """
    return "×".join(map(str, shape)) or "scalar"


def look(module: nn.Module, inputs: Tensor) -> tuple[list[Layer], tuple[Site, ...]]:
    """What all layers give, in one pass in eval mode, and what the layers of its head are given: vectors or maps.

    Raises:
        ModelError: if the model does not run on the inputs.
    """
    module = plain(module)
    known = names(module)
    try:
        heads = [f"{name}:input" for name in find_head(module)]
    except ModelError:
        heads = []
    was = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), Tap(module, heads) as tap:
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
    given = ((head, tap.features.get(head)) for head in heads)
    return listed, tuple(Site(head, tuple(value.shape[1:])) for head, value in given if value is not None)


def octaves(shape: Shape) -> float:
    """The side of a map, or of a square of so many tokens, as a power of two."""
    return math.log2(shape[0] if len(shape) == 2 else math.prod(shape[1:])) / 2
