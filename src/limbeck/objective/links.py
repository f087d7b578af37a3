"""Links: one call of a term's loss, from the layers it reads, through its adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, nearest
from limbeck.losses.declare import declared
from limbeck.losses.shapes import same_shape, wide
from limbeck.objective.large import by_parts, computed_by_parts
from limbeck.outputs import Outputs


class Gather(Protocol):
    """Joins a batch's parts over processes; gradients flow to the own part."""

    @property
    def samples(self) -> int:
        """How many samples the joined parts have."""

    def __call__(self, part: Tensor) -> Tensor:
        """The parts of all processes, one after the other."""


@dataclass(frozen=True)
class Link:
    """One call of a loss.

    Args:
        loss: a function, or a module of the link's own.
        student: addresses of the student's layers; none: its logits.
        teacher: the teacher's.
        adapters: for each pair of layers, ``(student, teacher) -> (student, teacher)`` of one shape; None: as they are.
        many: the loss takes lists of features.
    """

    loss: Callable[..., Tensor]
    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()
    adapters: tuple[nn.Module | None, ...] = ()
    many: bool = False

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs | None,
        arguments: Mapping[str, Any],
        *,
        temperature: float = 1.0,
        gather: Gather | None = None,
    ) -> Tensor:
        """The loss's value, for each sample or a scalar; of features: at most one value for each sample.

        Args:
            student: with the logits and the features that are read.
            teacher: its outputs; None: the loss takes none.
            arguments: hyperparameters, and what belongs to the samples: ``target``, ``index``, ``mask``.
            temperature: at which an ensemble's mean is taken.
            gather: joins the samples of all processes, for a loss that compares them with each other.
        """
        if not self.student:
            parts = by_parts(self.loss, student, teacher, arguments)

            def of(own: Outputs, theirs: Outputs | None, named: Mapping[str, Any]) -> Tensor:
                given = self._logits(own, theirs, temperature, named.get("mask"))
                return self.loss(*self._joined(given, gather), **self._with(named, gather))

            whole = (student, teacher, arguments)
            return computed_by_parts(of, parts, *whole) if parts else of(*whole)
        theirs = [] if teacher is None else [_read(teacher, one, "teacher") for one in self.teacher]
        own = [_read(student, one, "student") for one in self.student]
        for number, adapter in enumerate(self.adapters):
            if adapter is not None:
                own[number], theirs[number] = adapter(own[number], theirs[number])
        sides = [self._joined(side, gather) for side in ([own, theirs] if theirs else [own])]
        value = self.loss(*(sides if self.many else [side[0] for side in sides]), **self._with(arguments, gather))
        return value.flatten(1).mean(dim=1) if value.ndim > 1 else value

    @property
    def relational(self) -> bool:
        """Whether samples are compared with each other."""
        return declared(self.loss).relational

    def _logits(
        self, student: Outputs, teacher: Outputs | None, temperature: float, mask: Tensor | None
    ) -> list[Tensor]:
        """Logits of both: of all classes, or, where the teacher's largest were kept, in their groups."""
        if teacher is None:
            return [student.logits]
        if teacher.top is None or declared(self.loss).largest:
            return [student.logits, teacher.logits_at(temperature)]
        own = student.logits
        same_shape(str(getattr(self.loss, "__name__", type(self.loss).__name__)), own, teacher.logits)
        if mask is not None:  # what is masked is hidden here: a NaN in the sum over the rest would spoil the gradient
            own = torch.where(mask.unsqueeze(1), own, 0.0)
        return [teacher.top.group(own, temperature), teacher.top.grouped(temperature)]

    def _joined(self, tensors: list[Tensor], gather: Gather | None) -> list[Tensor]:
        return [gather(one) for one in tensors] if gather is not None and self.relational else tensors

    def _with(self, arguments: Mapping[str, Any], gather: Gather | None) -> dict[str, Any]:
        if gather is None or not self.relational:
            return dict(arguments)
        ours = ("target", "index", "mask")
        return {key: gather(one) if key in ours and one is not None else one for key, one in arguments.items()}


def _read(outputs: Outputs, address: str, whose: str) -> Tensor:
    found = outputs.features.get(address)
    if found is None:
        there: Sequence[str] = list(outputs.features)
        raise ModelError(
            f"the {whose}'s outputs have no feature '{address}'{nearest(address, there)}",
            cure="let the models be read at the objective's layers: objective.layers('student'), …('teacher')",
        )
    return wide(found)
