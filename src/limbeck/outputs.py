"""Outputs: what a model says about a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ModelError


@dataclass(frozen=True)
class Outputs:
    """Logits and named features of one batch.

    Args:
        logits: ``[B, C]`` or ``[B, C, H, W]``; class scores before the softmax. The logits of an ensemble are the
            log of its mean probability at temperature 1.
        features: outputs of named layers.
        members: ``[M, B, C, …]`` logits of an ensemble's members, else None.
        weights: ``[M]`` weights of the members, summing to 1.

    Example:
        >>> Outputs(torch.zeros(2, 3)).logits.shape
        torch.Size([2, 3])
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    members: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def of(cls, value: Any) -> Outputs:
        """Read what a model returned: a tensor, a mapping or object with ``logits``, or Outputs.

        Raises:
            ModelError: if no logits can be found in it.
        """
        if isinstance(value, Outputs):
            return value
        if isinstance(value, Tensor):
            return cls(value)
        logits = value.get("logits") if isinstance(value, Mapping) else getattr(value, "logits", None)
        if isinstance(logits, Tensor):
            return cls(logits)
        raise ModelError(
            f"the model returned {type(value).__name__}, which holds no logits",
            cure="return a tensor of logits [B, C], or a mapping or object with a 'logits' tensor",
        )

    @classmethod
    def ensemble(cls, members: Tensor, weights: Tensor) -> Outputs:
        """Outputs of an ensemble from its members' logits ``[M, B, C, …]`` and weights ``[M]``."""
        return cls(_mixed(members, weights, 1.0), members=members, weights=weights)

    def logits_at(self, temperature: float) -> Tensor:
        """Logits whose softmax at ``temperature`` is this teacher's softened probability.

        For one model these are its logits. For an ensemble they are ``T log(mean_m softmax(z_m / T))``, so that a
        loss that divides by T sees the mean of the softened probabilities.

        Example:
            >>> z = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
            >>> both = Outputs.ensemble(z, torch.tensor([0.5, 0.5]))
            >>> torch.softmax(both.logits_at(2.0) / 2.0, dim=1)[0]
            tensor([0.6155, 0.3845])
        """
        if self.members is None or self.weights is None:
            return self.logits
        return _mixed(self.members, self.weights, temperature)


def _mixed(members: Tensor, weights: Tensor, temperature: float) -> Tensor:
    log_p = torch.log_softmax(members.float() / temperature, dim=2)
    log_w = weights.to(log_p).log().reshape(-1, *[1] * (log_p.ndim - 1))
    return temperature * torch.logsumexp(log_p + log_w, dim=0)
