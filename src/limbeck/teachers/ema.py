"""The student's own moving average as its teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.outputs import Outputs
from limbeck.teachers.modules import ModuleTeacher
from limbeck.teachers.protocol import Normalize, Place

STEPS = "steps"


class EmaTeacher:
    """A teacher whose weights are the exponential moving average of the student's.

    ``w' ← d w' + (1 - d) w`` after each step, with ``d = min(decay, 1 - 1 / (n + 1))`` at step n: the plain mean of all
    weights so far until the decay is reached, so that the start is soon forgotten. Floating buffers (BatchNorm's
    averages) are averaged alike, counts are copied. Training calls :meth:`begin` before the first step and
    :meth:`follow` after each one that was taken.

    Source: Tarvainen, Valpola, Mean teachers are better role models, NeurIPS 2017, https://arxiv.org/abs/1703.01780,
    whose decay is 0.99 at first and 0.999 later.

    Args:
        decay: from 0 (the student itself) to below 1.
        normalization: of the inputs, the student's.
        layers: whose features it gives too.

    Raises:
        ModelError: if the decay is out of its range; if it is asked before a training began.

    Example:
        >>> student = nn.Linear(1, 1, bias=False)
        >>> teacher, values = EmaTeacher(0.6), [0.0, 4.0, 1.0, 9.0]
        >>> said = []
        >>> for number, value in enumerate(values):
        ...     _ = nn.init.constant_(student.weight, value)
        ...     teacher.follow(student) if number else teacher.begin(student)
        ...     said.append(round(teacher(torch.ones(1, 1)).logits.item(), 4))
        >>> said  # the start, (0 + 4) / 2, 0.6 · 2 + 0.4 · 1, 0.6 · 1.6 + 0.4 · 9
        [0.0, 2.0, 1.6, 4.56]
    """

    def __init__(
        self, decay: float = 0.999, normalization: Normalize | None = None, layers: Sequence[str] = ()
    ) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ModelError(f"the decay of a moving average is {decay!r}", cure="give a number from 0 to below 1")
        self.decay, self.normalization, self.layers = float(decay), normalization, tuple(layers)
        self.module: nn.Module | None = None
        self.steps = 0

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        return ModuleTeacher(self._begun(), self.normalization, self.layers)(inputs, index)

    def begin(self, module: nn.Module) -> None:
        """Copy the student as it starts; it is left as it is."""
        self.module, self.steps = copy.deepcopy(module).eval().requires_grad_(False), 0

    def follow(self, module: nn.Module) -> None:
        """Move towards the student after a step."""
        self.steps += 1
        share = 1 - min(self.decay, 1 - 1 / (self.steps + 1))
        own, theirs = (list(one.state_dict().values()) for one in (self._begun(), module))
        with torch.no_grad():
            for mean, value in zip(own, theirs, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value.to(mean), share)
                else:
                    mean.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the weights, and how many steps they are the mean of."""
        weights = {f"module/{name}": value for name, value in self._begun().state_dict().items()}
        return {STEPS: torch.tensor(self.steps), **weights}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave; :meth:`begin` was called before."""
        kept = {name.removeprefix("module/"): value for name, value in tensors.items() if name != STEPS}
        self._begun().load_state_dict(kept)
        self.steps = int(tensors[STEPS])

    def reading(self, layers: Sequence[str]) -> EmaTeacher:
        """The same kind of teacher that also gives the features of layers; its training has not begun."""
        found = EmaTeacher(self.decay, self.normalization, layers)
        found.module = copy.deepcopy(self.module)
        return found

    def placed(self, place: Place) -> EmaTeacher:
        """Itself: it begins as a copy of a student that is placed already."""
        return self

    def _begun(self) -> nn.Module:
        if self.module is None:
            raise ModelError(
                "a moving average of the student is asked before the student's training began",
                cure="give it to limbeck.self_distill, or call begin(module) first",
            )
        return self.module


__all__ = ["EmaTeacher"]
