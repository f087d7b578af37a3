"""The state of a training: everything that changes while it runs, so that it can be kept and put back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from limbeck.errors import ResumeError
from limbeck.taps import Tap
from limbeck.training.checkpoint import (
    load_checkpoint,
    load_module,
    load_optimizer,
    optimizer_tensors,
    part,
    save_checkpoint,
)
from limbeck.training.distributed import world
from limbeck.training.replica import Replica
from limbeck.training.sparsity import Thinning, apply_masks
from limbeck.training.transfer import Backbone


@dataclass
class Progress:
    """Where a training stands; plain numbers.

    ``epoch`` and ``batch`` say what comes next, counted from 0. ``waited`` counts the epochs since the metric was last
    better than ``reference`` by early stopping's least difference. ``seconds`` is the time spent in finished epochs.
    ``factors`` balance the terms' weights; ``gradient`` is the norm of each weighted term's gradient when last seen.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: tuple[float, float] | None = None
    waited: int = 0
    reference: float | None = None
    stopped: bool = False
    journal: int = 0
    seconds: float = 0.0
    factors: dict[str, float] = field(default_factory=dict)
    gradient: dict[str, float] = field(default_factory=dict)


@dataclass
class State:
    """What a checkpoint holds: weights, optimizer, averages, best weights, running sums and progress.

    ``extras`` are trained with the module: adapters, and losses with parameters or a memory. ``follower`` is a teacher
    that changes with the module. ``tap`` reads the module's layers; ``called`` is the module, compiled where wanted.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    tap: Tap
    called: Callable[[Tensor], Any]
    averaged: AveragedModel | None
    sums: Tensor
    backbone: Backbone | None = None
    extras: nn.Module = field(default_factory=nn.ModuleDict)
    follower: Follower | None = None
    thinning: Thinning | None = None
    environment: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trained = nn.ModuleDict({"student": self.module, "extras": self.extras})
        self.replica = Replica(self.trained)
        # A memory is written after the step that is taken, so a refused one has nothing to put back.
        memories = {id(one) for part in self.extras.modules() if hasattr(part, "after_step") for one in part.buffers()}
        self._buffers = [one for one in self.trained.buffers() if id(one) not in memories]
        self._held = [buffer.clone() for buffer in self._buffers]

    @property
    def evaluated(self) -> nn.Module:
        """The module that is evaluated and kept: the moving average where there is one."""
        return self.module if self.averaged is None else self.averaged.module

    def keep_best(self) -> None:
        """Note the evaluated weights as the best so far."""
        self.best = copy.deepcopy(self.evaluated.state_dict())

    def hold_buffers(self) -> None:
        """Note the buffers (BatchNorm's averages) before a step: the forward pass changes them."""
        if self._buffers:
            torch._foreach_copy_(self._held, self._buffers)

    def share_buffers(self) -> None:
        """Give all processes the buffers of the first one, whose part of the batch they are averages of."""
        world().copy(self._buffers)

    def follow_step(self) -> None:
        """What changes with the weights, after a step that was taken: zeros, rate, average, a teacher that follows."""
        if self.thinning is not None:
            self.thinning.after_step(self.module, self.progress.step + 1, self.optimizer)
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
            if self.thinning is not None:
                apply_masks(self.averaged.module, self.thinning.masks)
        if self.follower is not None:
            self.follower.follow(self.module)

    def undo(self) -> None:
        """Put the buffers back and drop the gradient of a step that is refused."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._held)
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint; ``key`` says which training it belongs to."""
        parts = {"model": self.module.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "best": self.best}
        if self.averaged is not None:
            parts["averaged"] = self.averaged.state_dict()
        parts["extras"] = self.extras.state_dict()
        if self.follower is not None:
            parts["follower"] = self.follower.tensors()
        if self.thinning is not None:
            parts["masks"] = self.thinning.tensors()
        tensors = {f"{name}/{key}": value for name, items in parts.items() for key, value in items.items()}
        progress = {
            "key": key,
            "progress": asdict(self.progress),
            "scaler": self.scaler.state_dict(),
            "environment": self.environment,
        }
        save_checkpoint(path, {**tensors, "sums": self.sums}, progress)

    def load(self, path: Path, key: str) -> list[str]:
        """Put a checkpoint's state back; say what of the environment differs from the one it was written in.

        Raises:
            FileError: if the checkpoint is not as it was written.
            ResumeError: if it belongs to another training.
        """
        tensors, kept = load_checkpoint(path)
        if kept["key"] != key:
            raise ResumeError(
                f"{path} belongs to a training with other settings, data or teacher",
                cure="resume with the recipe that began the run, or choose another run folder",
            )
        try:
            self._put_back(tensors, kept)
        except (RuntimeError, KeyError, IndexError, ValueError, TypeError) as error:
            raise ResumeError(
                f"{path} does not fit this model and optimizer ({(str(error).splitlines() or [''])[0].strip()})",
                cure="resume with the model and settings that began the training, or choose another folder",
            ) from None
        before = kept.get("environment", {})
        return [
            f"{name} {before.get(name, 'unknown')} -> {now}"
            for name, now in self.environment.items()
            if before.get(name) != now
        ]

    def _put_back(self, tensors: dict[str, Tensor], kept: dict[str, Any]) -> None:
        load_module(self.module, part(tensors, "model"))
        load_optimizer(self.optimizer, part(tensors, "optimizer"))
        if self.averaged is not None:
            load_module(self.averaged, part(tensors, "averaged"))
        load_module(self.extras, part(tensors, "extras"))
        if self.follower is not None:
            self.follower.load(part(tensors, "follower"))
        if self.thinning is not None:
            self.thinning.load(part(tensors, "masks"))
        best = part(tensors, "best")  # a file has an order of its own
        self.best = {name: best[name] for name in self.evaluated.state_dict()} if best else {}
        self.sums.copy_(tensors["sums"])
        if kept["scaler"]:
            self.scaler.load_state_dict(kept["scaler"])
        self.progress = _progress(kept["progress"])
        _set_step(self.schedule, self.progress.step)


@runtime_checkable
class Follower(Protocol):
    """A teacher that changes with the student, as its moving average does."""

    def begin(self, module: nn.Module) -> None:
        """Take the student as it is before the first step."""

    def follow(self, module: nn.Module) -> None:
        """Take note of the student after a step."""

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put it back."""


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
