"""Which epoch is the best one on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping

from limbeck.training.settings import Settings
from limbeck.training.state import State


def selection(settings: Settings, metrics: Mapping[str, float | None]) -> tuple[float, float]:
    """What is largest for the best epoch: the selected metric, then the loss; what is not a number counts as worst.

    Example:
        >>> selection(Settings(select="accuracy"), {"accuracy": 0.5, "loss": 2.0})
        (0.5, -2.0)
    """
    score, loss = _known(metrics.get(settings.select), -math.inf), -_known(metrics.get("loss"), math.inf)
    return (loss, 0.0) if settings.select == "loss" or settings.select not in metrics else (score, loss)


def judge(state: State, settings: Settings, metrics: Mapping[str, float | None]) -> bool:
    """Whether the epoch that ends is the best so far; its weights are noted then. Early stopping counts along.

    While weights are still being set to zero no epoch is compared: an earlier one would win by having more of them.
    """
    progress = state.progress
    if state.thinning is not None and not state.thinning.settled(progress.step):
        return False
    score = selection(settings, metrics)
    least = settings.early_stopping.min_delta if settings.early_stopping else 0.0
    if progress.reference is None or score[0] > progress.reference + least:
        progress.reference, progress.waited = score[0], 0
    else:
        progress.waited += 1
    if settings.early_stopping and progress.waited >= settings.early_stopping.patience:
        progress.stopped = True
    better = progress.best is None or score > progress.best
    if better:
        progress.best, progress.best_epoch = score, progress.epoch + 1
        state.keep_best()
    return better


def _known(value: float | None, worst: float) -> float:
    return worst if value is None or math.isnan(value) else value
