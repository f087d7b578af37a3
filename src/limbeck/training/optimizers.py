"""Optimizers and schedules: torch's own, from settings."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from limbeck.training.settings import Optimizer, Schedule

_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
_DECAYS = {"sgd": 5e-4, "adam": 0.0, "adamw": 1e-2}


def build_optimizer(
    settings: Optimizer, parameters: Iterable[nn.Parameter], backbone: Sequence[nn.Parameter] = (), factor: float = 1.0
) -> torch.optim.Optimizer:
    """Build the optimizer over ``parameters``, fused where torch has a fused kernel for their device.

    Args:
        settings: the optimizer.
        parameters: those that take its rate; frozen ones are left out.
        backbone: those that take its rate times ``factor``.
        factor: of the backbone's rate.

    Example:
        >>> build_optimizer(Optimizer("sgd", lr=0.1), nn.Linear(2, 1).parameters()).defaults["lr"]
        0.1
    """
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    fused = all(one.device.type in {"cpu", "cuda"} and one.is_floating_point() for one in [*chosen, *backbone])
    rate = usual_rate(settings)
    decay = _DECAYS[settings.name] if settings.weight_decay is None else settings.weight_decay
    groups: list[dict[str, Any]] = [{"params": chosen}]
    if backbone:
        groups.append({"params": [*backbone], "lr": rate * factor})
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups, rate, momentum=settings.momentum, weight_decay=decay, nesterov=settings.nesterov, fused=fused
        )
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, rate, weight_decay=decay, fused=fused)


def usual_rate(settings: Optimizer) -> float:
    """The rate that is asked for, or the usual one of the optimizer.

    Example:
        >>> usual_rate(Optimizer("sgd")), usual_rate(Optimizer("adamw", lr=0.1))
        (0.05, 0.1)
    """
    return _RATES[settings.name] if settings.lr is None else settings.lr


def rate_factor(settings: Schedule, epochs: int, steps: int) -> Callable[[int], float]:
    """The factor on the rate as a function of the step, counted from 0.

    Args:
        settings: the schedule.
        epochs: epochs of the training.
        steps: optimizer steps of one epoch.

    Example:
        >>> factor = rate_factor(Schedule("cosine", warmup=1), epochs=3, steps=10)
        >>> [round(factor(step), 3) for step in (0, 9, 10, 20, 30)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    total, warm = epochs * steps, settings.warmup * steps

    def factor(step: int) -> float:
        if step < warm:
            return min((step + 1) / warm, 1.0)
        if settings.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(total - warm, 1), 1.0)))
        if settings.name == "step":
            return settings.gamma ** bisect.bisect_right([mark * steps for mark in settings.milestones], step)
        return 1.0

    return factor


def build_schedule(optimizer: torch.optim.Optimizer, settings: Schedule, epochs: int, steps: int) -> LambdaLR:
    """torch's LambdaLR over :func:`rate_factor`; it is stepped once an optimizer step."""
    return LambdaLR(optimizer, rate_factor(settings, epochs, steps))
