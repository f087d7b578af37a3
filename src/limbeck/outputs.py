"""Outputs: what a model says about a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.losses.shapes import wide

NOTHING = -1e30  # a logit of what weighs nothing: a divergence of -inf would be 0 times infinity


@dataclass(frozen=True)
class Top:
    """What is kept of the logits of many classes: the K largest of each sample, and how much the others weigh together.

    At a temperature T this is exactly the distribution of K + 1 outcomes: the K classes, and "another one". What of it
    each other class has is not known, so that it can not be softened to a temperature that was not kept.

    Args:
        ids: int64 ``[B, K]``, which classes, each once; K is at least 1 and below the number of classes.
        logits: float32 ``[B, K]``, theirs.
        rest: for each temperature T that was kept, ``[B]``: ``logsumexp(z / T)`` over the other classes.

    Source: the remainder as one outcome, for word-level distillation from a cache; renormalized without it, the K
        classes teach overconfidence, see Anshumann et al., 2025, arXiv:2503.16870.

    Example:
        >>> z = torch.tensor([[0.0, 3.0, 0.0]])  # the largest is class 1; the others weigh ln 2 at any temperature
        >>> top = Top(torch.tensor([[1]]), torch.tensor([[3.0]]), {1.0: torch.tensor([0.6931])})
        >>> torch.softmax(top.grouped(1.0), dim=1), torch.softmax(z, dim=1)
        (tensor([[0.9094, 0.0906]]), tensor([[0.0453, 0.9094, 0.0453]]))
        >>> torch.softmax(top.group(z, 1.0), dim=1)  # all logits, grouped in the same way
        tensor([[0.9094, 0.0906]])
    """

    ids: Tensor
    logits: Tensor
    rest: Mapping[float, Tensor]

    def grouped(self, temperature: float) -> Tensor:
        """Logits ``[B, K + 1]`` whose softmax at a temperature is the softened distribution; the last is the rest's.

        Raises:
            ModelError: if this temperature was not kept.
        """
        rest = self.rest.get(temperature)
        if rest is None:
            raise ModelError(
                f"the weight of all but the teacher's {self.ids.shape[1]} largest classes was kept for "
                f"{listed(tuple(self.rest))}, and temperature {temperature:g} is asked for",
                cure=keep_cure(temperature, tuple(self.rest)),
            )
        other = (temperature * rest.to(self.logits)).clamp(min=NOTHING).unsqueeze(1)
        return torch.cat([self.logits, other], dim=1)

    def group(self, logits: Tensor, temperature: float) -> Tensor:
        """Logits ``[B, C]`` of another model in the same K + 1 outcomes: ``[B, K + 1]``, with their gradient.

        Args:
            logits: of the same samples; their softmax at ``temperature``, added up by outcome, is the result's.
            temperature: T > 0.

        Returns:
            The logits of the K classes, then ``T logsumexp(z / T)`` over the others; float32, or float64.
        """
        logits = wide(logits)
        others = logits.scatter(1, self.ids, float("-inf"))
        peak = others.detach().amax(dim=1, keepdim=True)  # without it the gradient has the rounding of large logits
        rest = peak + temperature * torch.logsumexp((others - peak) / temperature, dim=1, keepdim=True)
        return torch.cat([logits.gather(1, self.ids), rest], dim=1)


@dataclass(frozen=True)
class Outputs:
    """Logits and named features of one batch.

    Args:
        logits: ``[B, C]`` or ``[B, C, H, W]``; class scores before the softmax. The logits of an ensemble are the
            log of its mean probability at temperature 1.
        features: outputs of named layers.
        members: ``[M, B, C, …]`` logits of an ensemble's members, else None.
        weights: ``[M]`` weights of the members, summing to 1.
        top: the K largest logits where not all were kept; ``logits`` then stand in for them, see :meth:`kept`.

    Example:
        >>> Outputs(torch.zeros(2, 3)).logits.shape
        torch.Size([2, 3])
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    members: Tensor | None = None
    weights: Tensor | None = None
    top: Top | None = None

    @classmethod
    def of(cls, value: Any) -> Outputs:
        """Read what a model returned: a tensor, a mapping or object with ``logits``, or Outputs.

        A mapping without ``logits`` is asked for ``out``, as torchvision's segmentation models call them. What else is
        in it, such as ``aux``, is left alone; a term reads it as layer ``[aux]``.

        Raises:
            ModelError: if no logits can be found in it.

        Example:
            >>> Outputs.of({"aux": torch.ones(1, 2), "out": torch.zeros(1, 2)}).logits
            tensor([[0., 0.]])
        """
        if isinstance(value, Outputs):
            return value
        if isinstance(value, Tensor):
            return cls(value)
        if isinstance(value, Mapping):
            logits = next((value[key] for key in ("logits", "out") if value.get(key) is not None), None)
        else:
            logits = getattr(value, "logits", None)
        if isinstance(logits, Tensor):
            return cls(logits)
        raise ModelError(
            f"the model returned {type(value).__name__}, which holds no logits",
            cure="return a tensor of logits [B, C] or [B, C, H, W], or a mapping or object with a 'logits' tensor",
        )

    @classmethod
    def ensemble(cls, members: Tensor, weights: Tensor) -> Outputs:
        """Outputs of an ensemble from its members' logits ``[M, B, C, …]`` and weights ``[M]``."""
        return cls(_mixed(members, weights, 1.0), members=members, weights=weights)

    @classmethod
    def kept(
        cls,
        ids: Tensor,
        logits: Tensor,
        rest: Mapping[float, Tensor],
        classes: int,
        features: Mapping[str, Tensor] | None = None,
    ) -> Outputs:
        """Outputs of which the K largest logits were kept, arguments as of :class:`Top`, the most probable class first.

        ``logits`` ``[B, classes]`` stand in for all logits: of the K they are exact, the others share evenly what they
        weigh at the smallest temperature that was kept. Only their largest class is right, and what is compared with
        them is so only through ``top``.

        Args:
            classes: number of classes C.
            features: that were kept with them.

        Raises:
            ModelError: if K is not 1 to C - 1, or shapes do not fit.

        Example:
            >>> rest = torch.tensor([2.0]).log()  # e^0 + e^0
            >>> Outputs.kept(torch.tensor([[1]]), torch.tensor([[3.0]]), {1.0: rest}, 3).logits
            tensor([[0., 3., 0.]])
        """
        if ids.ndim != 2 or ids.shape != logits.shape or not 1 <= ids.shape[1] < classes:
            raise ModelError(
                f"the largest logits of {classes} classes are ids {tuple(ids.shape)} and logits {tuple(logits.shape)}, "
                f"expected [B, K] of both with K of 1 to {classes - 1}",
                cure="keep all logits of so few classes",
            )
        below = torch.full_like(logits[:, :1], float("-inf"))
        lowest = torch.nextafter(logits.amin(dim=1, keepdim=True), below)  # no class of the rest is the largest
        even = lowest
        if rest:
            coldest = min(rest)
            each = coldest * (rest[coldest].to(logits).unsqueeze(1) - math.log(classes - ids.shape[1]))
            even = torch.minimum(each, lowest)
        first = logits[:, :1]  # of several that were rounded to one number, the first was the largest
        largest = torch.where(logits[:, 1:] == first, torch.nextafter(first, below), logits[:, 1:])
        dense = even.expand(-1, classes).scatter(1, ids, torch.cat([first, largest], dim=1))
        return cls(dense, features=features or {}, top=Top(ids, logits, rest))

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


def keep_cure(temperature: float, there: Sequence[float]) -> str:
    """What to do about a temperature that is not among those that were kept.

    Example:
        >>> keep_cure(2.0, (4.0, 1.0))
        'keep it with temperatures: [1, 2, 4], or use temperature 1 or 4'
    """
    more = ", ".join(f"{one:g}" for one in sorted({*there, temperature}))
    others = " or ".join(f"{one:g}" for one in sorted(there))
    return f"keep it with temperatures: [{more}]" + (f", or use temperature {others}" if there else "")


def listed(temperatures: Sequence[float]) -> str:
    """Temperatures in words.

    Example:
        >>> listed((4.0, 1.0)), listed(())
        ('temperature 1 and 4', 'no temperature')
    """
    words = " and ".join(f"{one:g}" for one in sorted(temperatures))
    return f"temperature {words}" if temperatures else "no temperature"
