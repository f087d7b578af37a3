"""Which epoch is the best one on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping

from limbeck.training.settings import Settings


def selection(settings: Settings, metrics: Mapping[str, float | None]) -> tuple[float, float]:
    """What is largest for the best epoch: the selected metric, then the loss; what is not a number counts as worst.

    Example:
        >>> selection(Settings(select="accuracy"), {"accuracy": 0.5, "loss": 2.0})
        (0.5, -2.0)
    """
    score, loss = _known(metrics.get(settings.select), -math.inf), -_known(metrics.get("loss"), math.inf)
    return (loss, 0.0) if settings.select == "loss" or settings.select not in metrics else (score, loss)


def _known(value: float | None, worst: float) -> float:
    return worst if value is None or math.isnan(value) else value
