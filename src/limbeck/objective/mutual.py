"""Deep mutual learning: several networks that learn at the same time, each from the labels and from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, RecipeError
from limbeck.objective.terms import Term, supervised, term
from limbeck.objective.weighted import Objective, Weights
from limbeck.outputs import Outputs


class Cohort(nn.Module):
    """Networks side by side on the same inputs; its logits are the log of their mean probability.

    Args:
        networks: that give logits of one shape.

    Example:
        >>> both = Cohort([nn.Linear(2, 3), nn.Linear(2, 3)])
        >>> both(torch.ones(4, 2)).members.shape
        torch.Size([2, 4, 3])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(networks) < 2:
            raise ModelError(f"mutual learning needs two networks at least, found {len(networks)}")
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Outputs:
        """Outputs whose ``members`` ``[K, B, C]`` are the networks' logits."""
        logits = torch.stack([Outputs.of(one(inputs)).logits for one in self.networks])
        return Outputs.ensemble(logits, torch.full((len(logits),), 1 / len(logits), device=logits.device))


class MutualObjective(Objective):
    """``sum_k [CE_k + 1/(K-1) · sum_{l≠k} KL(p_l ‖ p_k)]`` over K networks; to each, the others are constants.

    All networks are updated at the same step, from the same outputs (the paper's algorithm updates them in turn, each
    after the others' outputs were computed anew). As no two share a weight, each gets the gradient of its own
    addend. The value of a term is the sum over the networks.

    Source: Zhang et al., Deep Mutual Learning, CVPR 2018, https://arxiv.org/abs/1706.00384.

    Args:
        terms: of one network with another as its teacher; by default the labels and ``kl``, both of weight 1, at
            temperature 1.

    Raises:
        RecipeError: if a term reads layers.
        ModelError: when called, if the outputs have no members.

    Example:
        >>> z = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
        >>> total, parts = MutualObjective()(Outputs.ensemble(z, torch.ones(2) / 2), None, target=torch.tensor([0]))
        >>> {name: round(value.item(), 4) for name, value in parts.items()}  # log(1 + e^-2) + log 2; 0.3278 + 0.4338
        {'supervised': 0.8201, 'kl': 0.7616}
        >>> round(total.item(), 4)
        1.5817
    """

    def __init__(self, terms: Sequence[Term] | None = None) -> None:
        super().__init__([supervised(1.0), term("kl", 1.0, temperature=1.0)] if terms is None else terms)
        if self.reads_layers:
            raise RecipeError("mutual learning compares logits, and a term reads layers", cure="leave that term out")

    @property
    def needs_teacher(self) -> bool:
        """False: the networks teach each other."""
        return False

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs | None = None,
        *,
        weights: Weights | None = None,
        look: Callable[[dict[str, Tensor]], Weights] | None = None,
        **given: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's value and each term's own; arguments as :class:`Objective` takes them."""
        if student.members is None or len(student.members) < 2:
            raise ModelError("mutual learning needs the logits of two networks at least", cure="train a Cohort")
        members, seen = student.members, list[dict[str, Tensor]]()
        now: Weights = weights or {one.name: one.weight for one in self.terms}

        def note(means: dict[str, Tensor]) -> Weights:
            seen.append(means)
            return now

        for k, own in enumerate(members):
            for peer in (one for place, one in enumerate(members) if place != k):
                super().__call__(Outputs(own), Outputs(peer.detach()), weights=now, look=note, **given)
        others = len(members) - 1
        sums = {name: torch.stack([one[name] for one in seen]).sum() / others for name in seen[0]}
        now = now if look is None else look(sums)
        total = torch.stack([sums[one.name] * now[one.name] for one in self.terms]).sum()
        return total, {name: value.detach() for name, value in sums.items()}

    def to_recipe(self) -> dict[str, Any]:
        """What it is, in plain data.

        Example:
            >>> list(MutualObjective().to_recipe()["mutual"])
            ['supervised', 'kl']
        """
        return {"mutual": super().to_recipe()}


__all__ = ["Cohort", "MutualObjective"]
