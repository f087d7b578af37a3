"""Modules and functions as teachers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.outputs import Outputs
from limbeck.teachers.protocol import Normalize, Place


class ModuleTeacher:
    """A module as a teacher, in eval mode under ``no_grad``; the user's module is left as it was.

    Args:
        module: gives logits.
        normalization: applied to the inputs first; None: the module takes inputs as they are.

    Example:
        >>> teacher = ModuleTeacher(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.9)))
        >>> x = torch.ones(1, 2)
        >>> bool((teacher(x).logits == teacher(x).logits).all()), teacher(x).logits.requires_grad
        (True, False)
    """

    def __init__(self, module: nn.Module, normalization: Normalize | None = None) -> None:
        self.module, self.normalization = module, normalization

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        with torch.no_grad(), evaluating(self.module):
            return Outputs.of(self.module(_normalized(inputs, self.normalization)))

    def placed(self, place: Place) -> ModuleTeacher:
        """A copy whose module went through ``place``, in eval mode, its parameters without a gradient."""
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        return ModuleTeacher(place(module), self.normalization)


class FunctionTeacher:
    """A function ``inputs -> logits`` as a teacher; one that has a parameter ``index`` is given the addresses too.

    Args:
        function: gives logits, or what :meth:`Outputs.of` reads; called under ``no_grad``.
        normalization: applied to the inputs first; None: the function takes inputs as they are.

    Example:
        >>> FunctionTeacher(lambda x: x * 2)(torch.ones(1, 2)).logits
        tensor([[2., 2.]])
    """

    def __init__(self, function: Callable[..., Any], normalization: Normalize | None = None) -> None:
        self.function, self.normalization = function, normalization
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
