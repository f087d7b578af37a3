"""How the weight of a term changes over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from limbeck.errors import RecipeError, nearest


@dataclass(frozen=True)
class Schedule:
    """A factor on a term's weight as a function of the epoch, which is counted from 0 and changes with every step.

    What is given is multiplied.

    Args:
        warmup: epochs over which the factor rises linearly from 0 to 1, as of DKD.
        linear: (start, end): 1 until epoch ``start``, then in a line to ``to`` at ``end``.
        cosine: (start, end): the same along half a cosine.
        to: where ``linear`` or ``cosine`` end.
        off: epoch from which on the factor is 0: a small student may gain from being left alone near the end (Cho and
            Hariharan, 2019, arXiv:1910.01348).

    Raises:
        RecipeError: if a number is not one of an epoch, or the two slopes are both given.

    Example:
        >>> schedule = Schedule(warmup=2, cosine=(4, 8), off=7)
        >>> [round(schedule.factor(epoch), 3) for epoch in (0, 1, 2, 5, 6, 7)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.0]
    """

    warmup: float = 0.0
    linear: tuple[float, float] | None = None
    cosine: tuple[float, float] | None = None
    to: float = 0.0
    off: float | None = None

    def __post_init__(self) -> None:
        for key in ("warmup", "to", "off"):
            _number(key, getattr(self, key))
        for key in ("linear", "cosine"):
            span = getattr(self, key)
            if span is None:
                continue
            if not isinstance(span, list | tuple) or len(span) != 2:
                raise RecipeError(f"schedule.{key} is {span!r}, expected [start, end] in epochs")
            start, end = (_number(key, one) for one in span)
            if not start < end:
                raise RecipeError(f"schedule.{key} is {span!r}, expected a start below the end")
            object.__setattr__(self, key, (float(start), float(end)))
        if self.linear and self.cosine:
            raise RecipeError("a schedule takes 'linear' or 'cosine', not both")

    @classmethod
    def of(cls, value: Schedule | Mapping[str, Any] | None) -> Schedule | None:
        """A schedule from plain data, such as ``{"warmup": 20}``; None is none.

        Raises:
            RecipeError: naming a key that it does not have, and the nearest right one.

        Example:
            >>> Schedule.of({"off": 25}).off
            25
        """
        if value is None or isinstance(value, Schedule):
            return value
        known = [one.name for one in fields(cls)]
        if not isinstance(value, Mapping) or not value:
            raise RecipeError(f"schedule is {value!r}, expected a mapping of {', '.join(known)}")
        for key in value:
            if key not in known:
                raise RecipeError(f"a schedule has no '{key}'{nearest(str(key), known)}", cure=f"known: {known}")
        return cls(**value)

    def to_recipe(self) -> dict[str, Any]:
        """Plain data that :meth:`of` reads, without what is not used."""
        plain = {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}
        return {key: one for key, one in plain.items() if one not in (None, 0.0) or (key == "off" and one is not None)}

    def factor(self, epoch: float) -> float:
        """The factor at an epoch; 2.5 is the middle of the third."""
        found = min(epoch / self.warmup, 1.0) if self.warmup else 1.0
        if self.off is not None and epoch >= self.off:
            return 0.0
        span = self.linear or self.cosine
        if span is None:
            return found
        part = min(max((epoch - span[0]) / (span[1] - span[0]), 0.0), 1.0)
        fallen = part if self.linear else (1 - math.cos(math.pi * part)) / 2
        return found * (1 + (self.to - 1) * fallen)


def _number(key: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise RecipeError(f"schedule.{key} is {value!r}, expected a number of at least 0")
    return float(value)
