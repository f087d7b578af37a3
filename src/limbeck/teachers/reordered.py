"""A teacher whose labels are in another order, as one with the data's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.outputs import Outputs
from limbeck.teachers.ensemble import as_teacher, reading
from limbeck.teachers.labels import chosen, places
from limbeck.teachers.modules import ReorderedModule
from limbeck.teachers.protocol import Place, Teacher


def reordered(teacher: Any, names: Sequence[str], classes: Sequence[str]) -> Any:
    """A teacher whose logits are in the data's order.

    Args:
        teacher: a module, a function, an ensemble or another teacher, with a logit for each of ``names``.
        names: of its classes, in its order.
        classes: of the data, in theirs.

    Returns:
        A module for a module, else a Teacher; the teacher itself where the order is the same.

    Raises:
        ModelError: if the names do not fit, see :func:`places`; when called, if it has another number of logits.

    Example:
        >>> mapped = reordered(lambda x: x, ["dog", "cat"], ["cat", "dog"])
        >>> mapped(torch.tensor([[3.0, 1.0]])).logits
        tensor([[1., 3.]])
    """
    order = places(names, classes)
    if order is None:
        return teacher
    if isinstance(teacher, nn.Module):
        return ReorderedModule(teacher, order, len(names))
    return ReorderedTeacher(as_teacher(teacher), order, len(names))


class ReorderedTeacher:
    """A teacher with the logits of chosen places, of each member alike.

    Example:
        >>> ReorderedTeacher(as_teacher(nn.Identity()), (1, 0), 2)(torch.tensor([[3.0, 1.0]])).logits
        tensor([[1., 3.]])
    """

    def __init__(self, teacher: Teacher, order: tuple[int, ...], width: int) -> None:
        self.teacher, self.order, self.width = teacher, order, width

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        said = self.teacher(inputs, index)
        order = torch.tensor(self.order, device=said.logits.device)
        if said.members is not None and said.weights is not None:
            members = Outputs.ensemble(said.members.index_select(2, order), said.weights)
            return replace(members, features=said.features)
        return Outputs(chosen(said.logits, order, self.width), said.features)

    def reading(self, layers: Sequence[str]) -> ReorderedTeacher:
        """The same teacher that also gives the features of layers."""
        return ReorderedTeacher(reading(self.teacher, layers), self.order, self.width)

    def placed(self, place: Place) -> ReorderedTeacher:
        """A copy whose teacher is placed."""
        return ReorderedTeacher(self.teacher.placed(place), self.order, self.width)
