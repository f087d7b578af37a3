"""Several seeds: means, intervals and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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


def points(found: Interval) -> str:
    """A difference of shares as percentage points.

    Example:
        >>> points(Interval(0.0123, 0.004, 0.02, 5))
        '+1.23 points (95 % interval +0.40 to +2.00, 5 seeds)'
    """
    text = f"{100 * found.mean:+.2f} points"
    if found.low is None or found.high is None:
        return f"{text} (one seed: no interval)"
    return f"{text} (95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f}, {found.n} seeds)"
