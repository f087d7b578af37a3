"""The state of a training: everything that changes while it runs, so that it can be kept and put back."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from limbeck.errors import ResumeError
from limbeck.training.checkpoint import (
    load_checkpoint,
    load_module,
    load_optimizer,
    optimizer_tensors,
    part,
    save_checkpoint,
)


@dataclass
class Progress:
    """Where a training stands; plain numbers.

    ``epoch`` and ``batch`` say what comes next, counted from 0. ``seconds`` is the time spent in finished epochs.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: tuple[float, float] | None = None
    waited: int = 0
    stopped: bool = False
    journal: int = 0
    seconds: float = 0.0


@dataclass
class State:
    """What a checkpoint holds: weights, optimizer, averages, best weights, running sums and progress."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    averaged: AveragedModel | None
    sums: Tensor
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def evaluated(self) -> nn.Module:
        """The module that is evaluated and kept: the moving average where there is one."""
        return self.module if self.averaged is None else self.averaged.module

    def keep_best(self) -> None:
        """Note the evaluated weights as the best so far."""
        self.best = copy.deepcopy(self.evaluated.state_dict())

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint; ``key`` says which training it belongs to."""
        parts = {"model": self.module.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "best": self.best}
        if self.averaged is not None:
            parts["averaged"] = self.averaged.state_dict()
        tensors = {f"{name}/{key}": value for name, items in parts.items() for key, value in items.items()}
        progress = {"key": key, "progress": asdict(self.progress), "scaler": self.scaler.state_dict()}
        save_checkpoint(path, {**tensors, "sums": self.sums}, progress)

    def load(self, path: Path, key: str) -> None:
        """Put a checkpoint's state back.

        Raises:
            ResumeError: if the checkpoint belongs to another training.
        """
        tensors, kept = load_checkpoint(path)
        if kept["key"] != key:
            raise ResumeError(
                f"{path} belongs to a training with other settings, data or teacher",
                cure="resume with the recipe that began the run, or choose another run folder",
            )
        load_module(self.module, part(tensors, "model"))
        load_optimizer(self.optimizer, part(tensors, "optimizer"))
        if self.averaged is not None:
            load_module(self.averaged, part(tensors, "averaged"))
        self.best = part(tensors, "best")
        self.sums.copy_(tensors["sums"])
        if kept["scaler"]:
            self.scaler.load_state_dict(kept["scaler"])
        self.progress = _progress(kept["progress"])
        _set_step(self.schedule, self.progress.step)


def average(module: nn.Module, decay: float | None) -> AveragedModel | None:
    """torch's exponential moving average of the weights and buffers, or None."""
    if decay is None:
        return None
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _progress(kept: dict[str, Any]) -> Progress:
    best = kept.pop("best")
    return Progress(**kept, best=None if best is None else (best[0], best[1]))


def _set_step(schedule: LambdaLR, step: int) -> None:
    # The rate is a function of the step alone, so nothing else of the schedule needs to be kept.
    schedule.last_epoch = step
    rates = [base * factor(step) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates
