"""Several seeds: means, intervals and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.evaluation.names import is_share, sign


@dataclass(frozen=True)
class Interval:
    """A mean with the interval that holds it at the stated level; ``low`` and ``high`` are None for one seed."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def side(self) -> int:
        """1 if the whole interval is above 0, -1 if below, 0 if it holds 0 or there is no interval."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent runs.

    Args:
        values: one number a seed.
        level: probability that the interval holds the mean, if runs are normally distributed.

    Example:
        >>> found = interval([1.0, 2.0, 3.0])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Interval(mean, None, None, count)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.5 + level / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of ``first - second`` over seeds; both lists hold the same seeds in the same order.

    Example:
        >>> paired_difference([0.9, 0.8], [0.8, 0.7]).n
        2
    """
    return interval([a - b for a, b in zip(first, second, strict=True)], level)


def points(found: Interval, metric: str = "accuracy") -> str:
    """A difference in a metric: of a share as percentage points, of a loss as it is.

    Example:
        >>> points(Interval(0.0123, 0.004, 0.02, 5))
        '+1.23 points (95 % interval +0.40 to +2.00, 5 seeds)'
        >>> points(Interval(-0.05, None, None, 1), "loss")
        '-0.0500 (one seed: no interval)'
    """
    text = f"{change(found.mean, metric)} points" if is_share(metric) else change(found.mean, metric)
    if found.low is None or found.high is None:
        return f"{text} (one seed: no interval)"
    return f"{text} (95 % interval {change(found.low, metric)} to {change(found.high, metric)}, {found.n} seeds)"


def change(value: float, metric: str) -> str:
    """A difference with its sign: of a share in points, of a loss as it is.

    Example:
        >>> change(0.0123, "auc"), change(0.0123, "loss")
        ('+1.23', '+0.0123')
    """
    return f"{100 * value:+.2f}" if is_share(metric) else f"{value:+.4f}"


def gain(found: Mapping[str, Any]) -> int:
    """Whether a difference over seeds, as ``summary.json`` holds it, is shown: 1 better, -1 worse, 0 not shown.

    Of a loss, less is better.

    Example:
        >>> gain({"metric": "loss", "mean": -0.2, "low": -0.3, "high": -0.1, "seeds": 3})
        1
    """
    return sign(found["metric"]) * Interval(found["mean"], found["low"], found["high"], found["seeds"]).side
