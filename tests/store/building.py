"""A store that is quick to build, for tests: plans, and a teacher that counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.files import sha256
from limbeck.outputs import Outputs
from limbeck.store.build import Plan
from limbeck.store.layout import Layout
from limbeck.teachers import ModuleTeacher, Place, Teacher
from limbeck.training.precision import choose
from limbeck.training.progress import Silent

SAMPLES, VIEWS = 300, 11  # 3,300 records in 4 shards of 1,024 and less
PLAIN = Views(shift=2, flip=True)


def images(count: int = SAMPLES, name: str = "train") -> Split:
    generator = torch.Generator().manual_seed(len(name))
    inputs = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Split(inputs, torch.arange(count) % 3, ("a", "b", "c"), name)


def net(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))


class Counting:
    """A teacher that says of how many samples it was asked, in each question; ``act`` is called before it answers.

    With a file, every question is noted in it at once, so that a killed process has told of it.
    """

    digest = "counting"

    def __init__(self, teacher: Teacher, act: Callable[[int], None] | None = None, path: Path | None = None) -> None:
        self.teacher, self.act, self.path, self.asked = teacher, act, path, list[int]()

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        if self.act is not None:
            self.act(len(self.asked))
        self.asked.append(len(inputs))
        if self.path is not None:
            file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
            os.write(file, f"{len(inputs)}\n".encode())
            os.close(file)
        return self.teacher(inputs, index)

    def placed(self, place: Place) -> Counting:
        return self


class Telling(Silent):
    def __init__(self) -> None:
        self.said, self.begun, self.done, self.ended = list[str](), list[tuple[Any, ...]](), 0, 0

    def begin(self, title: str, epochs: int, batches: int, samples: int) -> None:
        self.begun.append((title, epochs, batches, samples))

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.done += 1

    def end(self) -> None:
        self.ended += 1

    def say(self, text: str) -> None:
        self.said.append(text)


def plan(teacher: Teacher | None = None, *, views: Views = PLAIN, count: int = VIEWS, **changes: Any) -> Plan:
    split = changes.pop("split", None) or images()
    known: dict[str, Any] = {
        "teacher": teacher or ModuleTeacher(net()),
        "see": Seer(split, Sampler(split.targets, changes.pop("sampling", "none")), views, 7),
        "replay": Replay(7, count),
        "layout": Layout(3),
        "precision": choose("cpu", fast=False),
        "splits": {"validation": images(20, "validation")},
    }
    return Plan(**{**known, **changes})


def shards(folder: Path) -> Mapping[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.glob("shard-*.bin"))}
