"""A small training that is quick to run: 40 images of 8×8 in three classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.objective import Objective, supervised
from limbeck.training.loop import Job
from limbeck.training.progress import Silent
from limbeck.training.settings import Optimizer, Schedule, Settings


class Recorder(Silent):
    """Keeps what it is told; ``act`` is called after every step with the number of steps so far."""

    def __init__(self, act: Callable[[int], None] | None = None) -> None:
        self.said: list[str] = []
        self.lines: list[Mapping[str, Any]] = []
        self.losses: list[float | None] = []
        self.act = act

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.losses.append(loss)
        if self.act is not None:
            self.act(len(self.losses))

    def epoch(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)

    def say(self, text: str) -> None:
        self.said.append(text)


def images(count: int = 40, classes: int = 3, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 1, 8, 8, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    return Split(inputs, targets, [str(number) for number in range(classes)], "train")


def dense(classes: int = 3, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, classes))


def convolutional(classes: int = 3, seed: int = 1) -> nn.Module:
    """With BatchNorm, whose averages are state too, and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, classes)
    )


def constant(module: nn.Module) -> dict[str, float]:
    return {"accuracy": 0.5, "loss": 1.0}


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """A job with plain settings: float32, SGD at rate 0.1 with momentum, no schedule; anything can be changed."""

    def make(module: nn.Module | None = None, *, folder: str = "run", **changes: Any) -> Job:
        own = {key: changes.pop(key) for key in list(changes) if key in Job.__dataclass_fields__}
        plain: dict[str, Any] = {
            "epochs": 1,
            "batch_size": 8,
            "optimizer": Optimizer("sgd", lr=0.1, weight_decay=0.0),
            "schedule": Schedule("constant"),
            "fast": False,
            "device": "cpu",
        }
        defaults: dict[str, Any] = {
            "objective": Objective([supervised()]),
            "split": images(),
            "preparation": Normalization((0.5,), (0.25,)),
            "validate": constant,
            "settings": Settings(**{**plain, **changes}),
            "folder": tmp_path / folder,
            "reporter": Recorder(),
        }
        return Job(module=dense() if module is None else module, **{**defaults, **own})

    return make


@pytest.fixture
def nets() -> dict[str, Callable[..., nn.Module]]:
    return {"dense": dense, "convolutional": convolutional}


@pytest.fixture
def make_images() -> Callable[..., Split]:
    return images


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def same() -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], bool]:
    """Whether two state dicts are equal bit for bit."""

    def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
        return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)

    return equal
