"""Teachers: anything that gives Outputs for a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.outputs import Outputs

Place = Callable[[nn.Module], nn.Module]
Normalize = Callable[[Tensor], Tensor]


@runtime_checkable
class Teacher(Protocol):
    """Gives outputs for inputs; a constant: in eval mode and without a graph.

    Example:
        >>> isinstance(ModuleTeacher(nn.Linear(2, 3)), Teacher)
        True
    """

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        """Outputs for ``inputs`` as in a batch, before normalization; ``index`` are the samples' addresses."""

    def placed(self, place: Place) -> Teacher:
        """A copy of this teacher whose modules went through ``place`` (device, memory format)."""


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
        if self.normalization is not None:
            inputs = self.normalization(inputs)
        with torch.no_grad(), evaluating(self.module):
            return Outputs.of(self.module(inputs))

    def placed(self, place: Place) -> ModuleTeacher:
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        return ModuleTeacher(place(module), self.normalization)


class FunctionTeacher:
    """A function ``inputs -> logits`` as a teacher.

    Example:
        >>> FunctionTeacher(lambda x: x * 2)(torch.ones(1, 2)).logits
        tensor([[2., 2.]])
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self.function = function

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        with torch.no_grad():
            return Outputs.of(self.function(inputs))

    def placed(self, place: Place) -> FunctionTeacher:
        return self


class Ensemble:
    """Several teachers as one: the weighted mean of their softened probabilities.

    The mean of probabilities is not the mean of logits, which is a geometric mean; see :meth:`Outputs.logits_at`.

    Args:
        members: teachers, modules or functions.
        weights: positive weights, scaled to sum to 1; equal by default.

    Raises:
        ModelError: if there is no member, or weights do not fit.

    Example:
        >>> both = Ensemble([lambda x: x, lambda x: -x])
        >>> torch.softmax(both(torch.tensor([[3.0, 0.0]])).logits, dim=1)
        tensor([[0.5000, 0.5000]])
    """

    def __init__(self, members: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        if not members:
            raise ModelError("an ensemble needs a member")
        chosen = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(chosen) != len(members) or not all(0 < weight < float("inf") for weight in chosen):
            raise ModelError(f"an ensemble of {len(members)} takes as many positive weights, found {weights}")
        self.members = [as_teacher(member) for member in members]
        self.weights = torch.tensor(chosen) / sum(chosen)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        logits = [member(inputs, index).logits for member in self.members]
        shapes = {tuple(one.shape) for one in logits}
        if len(shapes) > 1:
            raise ModelError(
                f"the members of the ensemble give logits of different shapes: {sorted(shapes)}",
                cure="every member must know the same classes in the same order",
            )
        return Outputs.ensemble(torch.stack([one.float() for one in logits]), self.weights)

    def placed(self, place: Place) -> Ensemble:
        return Ensemble([member.placed(place) for member in self.members], self.weights.tolist())


class Recorded:
    """What a teacher said about each sample of a split that is always seen in the same view, by address.

    Args:
        outputs: outputs over the whole split, in its order.

    Example:
        >>> kept = Recorded(Outputs(torch.tensor([[1.0, 2.0], [3.0, 4.0]])))
        >>> kept(torch.zeros(1, 5), torch.tensor([1])).logits
        tensor([[3., 4.]])
    """

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        size = len(self.outputs.logits)
        if index is None or not bool(((index >= 0) & (index < size)).all()):
            raise ModelError(
                f"recorded outputs are addressed by sample, 0 to {size - 1}; this batch has no such addresses",
                cure="use the live teacher for data that can not be replayed",
            )
        index = index.to(self.outputs.logits.device)
        if self.outputs.members is not None and self.outputs.weights is not None:
            return Outputs.ensemble(self.outputs.members[:, index].to(inputs.device), self.outputs.weights)
        return Outputs(self.outputs.logits[index].to(inputs.device))

    def placed(self, place: Place) -> Recorded:
        return self


def as_teacher(value: Any, normalization: Normalize | None = None) -> Teacher:
    """Make a teacher of a module, a function, or a list of them (an ensemble); a teacher is returned as it is.

    Raises:
        ModelError: if it is none of these.

    Example:
        >>> type(as_teacher(nn.Linear(2, 3))).__name__
        'ModuleTeacher'
    """
    if isinstance(value, nn.Module):
        return ModuleTeacher(value, normalization)
    if isinstance(value, ModuleTeacher | FunctionTeacher | Ensemble | Recorded):
        return value
    if isinstance(value, list | tuple):
        return Ensemble([as_teacher(one, normalization) for one in value])
    if isinstance(value, Teacher):
        return value
    if callable(value):
        return FunctionTeacher(value if normalization is None else lambda inputs: value(normalization(inputs)))
    raise ModelError(f"{type(value).__name__} is no teacher", cure="give a torch module, a function, or a list of them")


def check_logits(logits: Tensor, who: str, classes: int) -> None:
    """See on real data that a model gives logits for every class.

    Args:
        logits: ``[B, C]`` of several real samples.
        who: the model's name for the message.
        classes: number of classes of the data.

    Raises:
        ModelError: if the shape is wrong, or the model ends in a softmax: every row is then a probability vector and
            softening it again would flatten what the teacher knows. Log-probabilities are accepted: their softmax at
            any temperature is that of the logits.

    Example:
        >>> check_logits(torch.randn(8, 3), "the teacher", 3)
    """
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ModelError(
            f"{who} gives outputs of shape {tuple(logits.shape)}, expected [B, {classes}]: one logit for each class",
            cure="match the model's last layer to the classes of the data",
        )
    rows = logits.detach().double()
    sums = (rows.sum(dim=1) - 1).abs()
    if len(rows) > 1 and bool((rows >= 0).all()) and bool((sums < 1e-3).all()):
        raise ModelError(
            f"{who} ends in a softmax: on {len(rows)} samples its outputs are never negative and sum to 1",
            cure="remove the last softmax layer; distillation needs logits",
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in eval mode, with every submodule's own mode put back afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
