"""The weights of an objective's terms at a step, and the looks at their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from limbeck.objective import Objective
from limbeck.objective.balance import EVERY, gradient_norms
from limbeck.training.distributed import world
from limbeck.training.state import State


class Weighing:
    """Weights at one step, from schedules and balance.

    At the first step of an epoch, and every 50 steps where shares are balanced, the gradient of each term with respect
    to the student's parameters is looked at: one more backward pass for each term.

    Args:
        objective: of the training.
        state: of which ``progress`` says the step, and keeps what was seen.
        steps: of an epoch.
        first: whether it is the first piece of a batch; the others do not look.
    """

    def __init__(self, objective: Objective, state: State, steps: int, first: bool) -> None:
        progress = state.progress
        self._objective, self._state, self._epoch = objective, state, progress.step / steps
        self.weights = objective.weights_at(self._epoch, progress.factors)
        often = objective.balance is not None and progress.step % EVERY == 0
        self.due = first and len(objective.terms) > 1 and (progress.batch == 0 or often)

    def look(self, means: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Note the gradients; where shares are balanced, the weights that they give."""
        progress, objective = self._state.progress, self._objective
        parameters = [one for one in self._state.module.parameters() if one.requires_grad]
        own = {one.name: means[one.name] * one.weight for one in objective.terms}
        found = gradient_norms(own, parameters, _summed if world().several else None)
        norms = {name: norm if math.isfinite(norm) else 0.0 for name, norm in found.items()}  # the step is refused then
        if objective.balance:
            progress.factors = objective.balance.factors(norms, progress.factors)
            self.weights = objective.weights_at(self._epoch, progress.factors)
        now = {one.name: self.weights[one.name] / one.weight if one.weight else 0.0 for one in objective.terms}
        progress.gradient = {name: norm * now[name] for name, norm in norms.items()}
        return self.weights


def _summed(flat: Tensor) -> Tensor:
    """A vector added over the processes, whose parts of a batch add up to it."""
    return world().gathered(flat.cpu()[None]).sum(dim=0)
