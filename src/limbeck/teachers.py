"""Teachers: anything that gives Outputs for a batch."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, NumericsError
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


class Ensemble:
    """Several teachers as one: the weighted mean of their softened probabilities.

    The mean of probabilities is not the mean of logits, which is a geometric mean; see :meth:`Outputs.logits_at`.

    Args:
        members: teachers, modules or functions; a member may be an ensemble.
        weights: positive weights, scaled to sum to 1; equal by default.
        normalization: of the members that are modules or functions; a teacher keeps its own.

    Raises:
        ModelError: if there is no member, or weights do not fit; when called, if members give different shapes.

    Example:
        >>> both = Ensemble([lambda x: x, lambda x: -x])
        >>> torch.softmax(both(torch.tensor([[3.0, 0.0]])).logits, dim=1)
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self, members: Sequence[Any], weights: Sequence[float] | None = None, normalization: Normalize | None = None
    ) -> None:
        self._given = list(members)
        if not self._given:
            raise ModelError("an ensemble needs a member", cure="give a list of teachers, modules or functions")
        chosen = [1.0] * len(self._given) if weights is None else [float(weight) for weight in weights]
        if len(chosen) != len(self._given) or not all(0 < weight < math.inf for weight in chosen):
            raise ModelError(
                f"an ensemble of {len(self._given)} takes as many positive weights, found {chosen}",
                cure="leave out a member that shall not count",
            )
        self.normalization = normalization
        self.members = [as_teacher(member, normalization) for member in self._given]
        self.weights = torch.tensor([weight / math.fsum(chosen) for weight in chosen])

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        said = [member(inputs, index) for member in self.members]
        shapes = [tuple(one.logits.shape) for one in said]
        if len(set(shapes)) > 1:
            raise ModelError(
                f"the members of the ensemble give logits of different shapes: {', '.join(map(str, shapes))}",
                cure="every member must know the same classes in the same order",
            )
        logits, weights = [], []
        for one, weight in zip(said, self.weights.to(said[0].logits.device), strict=True):
            if one.members is None or one.weights is None:
                logits.append(one.logits.float()[None])
                weights.append(weight[None])
            else:  # an ensemble: its own members take part, because softening does not commute with the mean
                logits.append(one.members.float())
                weights.append(weight * one.weights.to(weight))
        return Outputs.ensemble(torch.cat(logits), torch.cat(weights))

    def normalized(self, normalization: Normalize) -> Ensemble:
        """This ensemble with a normalization for its modules and functions, unless it has one."""
        if self.normalization is not None:
            return self
        return Ensemble(self._given, self.weights.tolist(), normalization)

    def placed(self, place: Place) -> Ensemble:
        """A copy whose members are placed."""
        return Ensemble([member.placed(place) for member in self.members], self.weights.tolist())


class Recorded:
    """What a teacher said about each sample of a split that is always seen in the same view, by address.

    Args:
        outputs: outputs or logits ``[N, C]`` over the whole split, in its order.

    Raises:
        ModelError: when asked about a sample without an address (index -1), or outside of the split.

    Example:
        >>> kept = Recorded(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> kept(torch.zeros(1, 5), torch.tensor([1])).logits
        tensor([[3., 4.]])
    """

    def __init__(self, outputs: Outputs | Tensor) -> None:
        self.outputs = Outputs.of(outputs)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        size = len(self.outputs.logits)
        if index is None or not bool(((index >= 0) & (index < size)).all()):
            found = "none" if index is None else f"{index[(index < 0) | (index >= size)][:5].tolist()}"
            raise ModelError(
                f"recorded outputs are addressed by sample, 0 to {size - 1}; this batch has {found}",
                cure="use the live teacher for data that can not be replayed",
            )
        index = index.to(self.outputs.logits.device)
        if self.outputs.members is not None and self.outputs.weights is not None:
            return Outputs.ensemble(self.outputs.members[:, index].to(inputs.device), self.outputs.weights)
        return Outputs(self.outputs.logits[index].to(inputs.device))

    def placed(self, place: Place) -> Recorded:
        """Itself: answers go to the device of the inputs."""
        return self


def as_teacher(value: Any, normalization: Normalize | None = None) -> Teacher:
    """Make a teacher of a module, a function, or a list of them (an ensemble); a teacher is returned as it is.

    Args:
        value: what shall teach.
        normalization: of the inputs, for modules and functions, and for such members of an ensemble.

    Raises:
        ModelError: if it is none of these.

    Example:
        >>> type(as_teacher(nn.Linear(2, 3))).__name__
        'ModuleTeacher'
    """
    if isinstance(value, nn.Module):
        return ModuleTeacher(value, normalization)
    if isinstance(value, Ensemble):
        return value if normalization is None else value.normalized(normalization)
    if isinstance(value, ModuleTeacher | FunctionTeacher | Recorded):
        return value
    if isinstance(value, list | tuple):
        return Ensemble(value, normalization=normalization)
    if isinstance(value, Teacher) and not isinstance(value, type):
        return value
    if callable(value) and not isinstance(value, type):
        return FunctionTeacher(value, normalization)
    found = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise ModelError(f"{found} is no teacher", cure="give a torch module, a function, or a list of them")


def detect_probabilities(logits: Tensor) -> bool:
    """Whether a model's outputs are probabilities: no row has a negative value and each sums to 1.

    Needs at least 4 rows to say so, of which one is not one-hot. Log-probabilities are logits: their softmax at any
    temperature is that of the logits that they came from.

    Args:
        logits: ``[B, C]`` or ``[B, C, H, W]`` of real samples.

    Example:
        >>> z = torch.randn(8, 3)
        >>> detect_probabilities(z), detect_probabilities(z.softmax(1)), detect_probabilities(z.log_softmax(1))
        (False, True, False)
    """
    rows = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1])
    if len(rows) < 4 or logits.shape[1] < 2:
        return False
    rows = rows.float()
    sums = bool(((rows.sum(dim=1) - 1).abs() < 1e-2).all())  # as far off as a softmax in bfloat16 can be
    return sums and bool((rows >= 0).all()) and bool(((rows > 0) & (rows < 1)).any())


def check_logits(outputs: Outputs | Tensor, who: str, classes: int) -> None:
    """See on real data that a model gives logits for every class.

    Args:
        outputs: of several real samples, logits ``[B, C]`` or ``[B, C, H, W]``.
        who: the model's name for the message.
        classes: number of classes of the data.

    Raises:
        ModelError: if the shape is wrong, or the model ends in a softmax: every row is then a probability vector and
            softening it again would flatten what the teacher knows.
        NumericsError: if a logit is not finite.

    Example:
        >>> check_logits(torch.randn(8, 3), "the teacher", 3)
    """
    logits = Outputs.of(outputs).logits
    if logits.ndim < 2 or logits.shape[1] != classes:
        raise ModelError(
            f"{who} gives outputs of shape {tuple(logits.shape)}, expected [B, {classes}]: one logit for each class",
            cure="match the model's last layer to the classes of the data",
        )
    if not bool(torch.isfinite(logits).all()):
        bad = (~torch.isfinite(logits.flatten(1)).all(dim=1)).sum().item()
        raise NumericsError(
            f"{who} gives NaN or infinite logits for {bad} of {len(logits)} samples",
            cure="check its weights, and that its inputs are normalized as in its training",
        )
    if detect_probabilities(logits):
        raise ModelError(
            f"{who} ends in a softmax: on {len(logits)} samples its outputs are never negative and sum to 1",
            cure="remove the last softmax layer; distillation needs logits (log-probabilities are fine too)",
        )


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
