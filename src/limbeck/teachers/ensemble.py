"""Several teachers as one, and whatever a user gives as a teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.outputs import Outputs
from limbeck.teachers.estimator import SklearnTeacher, is_estimator
from limbeck.teachers.modules import FunctionTeacher, ModuleTeacher
from limbeck.teachers.onnx import OnnxTeacher
from limbeck.teachers.protocol import Normalize, Place, Teacher
from limbeck.teachers.recorded import Recorded


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
        self.given = list(members)
        if not self.given:
            raise ModelError("an ensemble needs a member", cure="give a list of teachers, modules or functions")
        chosen = [1.0] * len(self.given) if weights is None else [float(weight) for weight in weights]
        if len(chosen) != len(self.given) or not all(0 < weight < math.inf for weight in chosen):
            raise ModelError(
                f"an ensemble of {len(self.given)} takes as many positive weights, found {chosen}",
                cure="leave out a member that shall not count",
            )
        self.normalization = normalization
        self.members = [as_teacher(member, normalization) for member in self.given]
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
        features = {
            f"{number}/{name}": value
            for number, one in enumerate(said, start=1)
            for name, value in one.features.items()
        }
        return replace(Outputs.ensemble(torch.cat(logits), torch.cat(weights)), features=features)

    def normalized(self, normalization: Normalize) -> Ensemble:
        """This ensemble with a normalization for its modules and functions, unless it has one."""
        if self.normalization is not None:
            return self
        return Ensemble(self.given, self.weights.tolist(), normalization)

    def fitted(self, shape: tuple[int, ...], classes: Sequence[str]) -> Ensemble:
        """This ensemble for data of a shape and classes: each member's labels matched by name, if it has names."""
        return Ensemble([fitted(one, shape, classes) for one in self.members], self.weights.tolist())

    def reading(self, layers: Sequence[str]) -> Ensemble:
        """This ensemble that also gives the features of its members' layers: ``2/layer3`` is the second's.

        Raises:
            ModelError: if an address names no member, or one that has no layers.
        """
        own: list[list[str]] = [[] for _ in self.members]
        for address in layers:
            number, slash, layer = address.partition("/")
            if not slash or not number.isdigit() or not 1 <= int(number) <= len(own):
                raise ModelError(
                    f"'{address}' names no layer of an ensemble of {len(own)}",
                    cure="write the member's number, a slash and its layer: 1/layer3",
                )
            own[int(number) - 1].append(layer)
        members = [reading(one, names) if names else one for one, names in zip(self.members, own, strict=True)]
        return Ensemble(members, self.weights.tolist())

    def placed(self, place: Place) -> Ensemble:
        """A copy whose members are placed."""
        return Ensemble([member.placed(place) for member in self.members], self.weights.tolist())


def fitted(teacher: Teacher, shape: tuple[int, ...], classes: Sequence[str]) -> Teacher:
    """A teacher for data of a shape and classes; itself if it does not look at them.

    Raises:
        ModelError: if it takes other inputs, or does not know the classes.

    Example:
        >>> fitted(FunctionTeacher(lambda x: x), (2,), ["a", "b"])(torch.ones(1, 2)).logits
        tensor([[1., 1.]])
    """
    method = getattr(teacher, "fitted", None)
    return teacher if method is None else method(shape, classes)


def reading(teacher: Teacher, layers: Sequence[str]) -> Teacher:
    """A teacher that also gives the features of layers.

    Raises:
        ModelError: if it has none, as a file or a function.

    Example:
        >>> reading(FunctionTeacher(lambda x: x), ["fc"])
        Traceback (most recent call last):
        limbeck.errors.ModelError: FunctionTeacher gives logits alone: it has no layer 'fc'
          cure: give the teacher as a torch module, or use losses between logits
    """
    method = getattr(teacher, "reading", None)
    if not layers:
        return teacher
    if method is None:
        raise ModelError(
            f"{type(teacher).__name__} gives logits alone: it has no layer '{layers[0]}'",
            cure="give the teacher as a torch module, or use losses between logits",
        )
    return method(layers)


def as_teacher(value: Any, normalization: Normalize | None = None) -> Teacher:
    """Make a teacher of a module, a function, a fitted estimator, an ``.onnx`` file, or a list of them (an ensemble).

    A teacher is returned as it is.

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
    if isinstance(value, str | Path) and str(value).endswith(".onnx"):
        return OnnxTeacher(value)
    if is_estimator(value):
        return SklearnTeacher(value)
    if callable(value) and not isinstance(value, type):
        return FunctionTeacher(value, normalization)
    found = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise ModelError(
        f"{found} is no teacher",
        cure="give a torch module, a function, a fitted estimator, an .onnx file, or a list of them",
    )
