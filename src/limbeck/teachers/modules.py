"""Modules and functions as teachers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.outputs import Outputs
from limbeck.taps import Tap
from limbeck.teachers.labels import chosen
from limbeck.teachers.protocol import Normalize, Place


class ModuleTeacher:
    """A module as a teacher, in eval mode under ``no_grad``; the user's module is left as it was.

    Args:
        module: gives logits.
        normalization: applied to the inputs first; None: the module takes inputs as they are.
        layers: addresses of the layers whose features it gives too, see :class:`limbeck.taps.Tap`.

    Example:
        >>> teacher = ModuleTeacher(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.9)))
        >>> x = torch.ones(1, 2)
        >>> bool((teacher(x).logits == teacher(x).logits).all()), teacher(x).logits.requires_grad
        (True, False)
    """

    def __init__(self, module: nn.Module, normalization: Normalize | None = None, layers: Sequence[str] = ()) -> None:
        self.module, self.normalization, self.layers = module, normalization, tuple(layers)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        with torch.no_grad(), evaluating(self.module), Tap(self.inside, self.layers) as tap:
            said = Outputs.of(self.module(_normalized(inputs, self.normalization)))
            return replace(said, features=tap.read()) if self.layers else said

    @property
    def inside(self) -> nn.Module:
        """The module whose layers are read: the user's own, as it was given."""
        return self.module.module if isinstance(self.module, ReorderedModule) else self.module

    def reading(self, layers: Sequence[str]) -> ModuleTeacher:
        """The same teacher that also gives the features of layers.

        Example:
            >>> teacher = ModuleTeacher(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))).reading(["0"])
            >>> teacher(torch.ones(1, 2)).features["0"].shape
            torch.Size([1, 4])
        """
        return ModuleTeacher(self.module, self.normalization, layers)

    def placed(self, place: Place) -> ModuleTeacher:
        """A copy whose module went through ``place``, in eval mode, its parameters without a gradient."""
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        return ModuleTeacher(place(module), self.normalization, self.layers)


class FunctionTeacher:
    """A function ``inputs -> logits`` as a teacher; one that has a parameter ``index`` is given the addresses too.

    Args:
        function: gives logits, or what :meth:`Outputs.of` reads; called under ``no_grad``.
        normalization: applied to the inputs first; None: the function takes inputs as they are.
        digest: a name for what it computes, a new one whenever that changes: what it says is kept under this name.
            Empty: the function's own attribute ``digest``, if it has one.

    Example:
        >>> FunctionTeacher(lambda x: x * 2)(torch.ones(1, 2)).logits
        tensor([[2., 2.]])
    """

    def __init__(self, function: Callable[..., Any], normalization: Normalize | None = None, digest: str = "") -> None:
        self.function, self.normalization = function, normalization
        self.digest = digest or str(getattr(function, "digest", ""))
        try:
            self._takes_index = "index" in inspect.signature(function).parameters
        except ValueError:  # a builtin
            self._takes_index = False

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        with torch.no_grad():
            inputs = _normalized(inputs, self.normalization)
            return Outputs.of(self.function(inputs, index=index) if self._takes_index else self.function(inputs))

    def placed(self, place: Place) -> FunctionTeacher:
        """Itself: what a function computes on is its own affair."""
        return self


class ReorderedModule(nn.Module):
    """A module with the logits of chosen places; the places lie among its buffers, so that its weights tell them.

    Example:
        >>> ReorderedModule(nn.Identity(), (1, 0), 2)(torch.tensor([[3.0, 1.0]]))
        tensor([[1., 3.]])
    """

    order: Tensor

    def __init__(self, module: nn.Module, order: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.module, self.width = module, width
        self.register_buffer("order", torch.tensor(order))

    def forward(self, inputs: Tensor) -> Tensor:
        return chosen(Outputs.of(self.module(inputs)).logits, self.order, self.width)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in eval mode, with every submodule's own mode put back afterwards."""
    training = [part for part in module.modules() if part.training]
    if training:
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _normalized(inputs: Tensor, normalization: Normalize | None) -> Tensor:
    return inputs if normalization is None else normalization(inputs)
