"""One training step, against loops written by hand: what a teacher costs, and what one that is kept in a store does.

Batches of 128 CIFAR-shaped images; student: five convolutions of width 32 (0.28 M parameters); teacher: ResNet-18 with
the CIFAR stem. Training steps only: fetching and normalizing a batch, forward, loss, backward, optimizer; what a store
adds to them is there: the checksums of the pixels, reading, comparing and, in a first epoch, writing. No checkpoint is
written, so that nothing waits for a disk. The loops take turns of some steps, so that what else the machine does meets
all of them alike. A turn is an epoch of limbeck's, whose first step looks at the gradient of each term: in turns of
a few steps that would be one of a few, and is one of hundreds in a training.

    hand      student alone, the best plain loop: the precision, memory format and fused optimizer that limbeck has here
    limbeck   student alone, limbeck's own loop
    store     distilled from a finished store that was read before, limbeck's own loop
    hand2     hand once more: what differs between these two is noise
    limbeck2  limbeck once more
    plain     distilled from a live teacher, plain float32 loop
    distill   distilled from a live teacher in the loop's own precision, limbeck's own loop
    auto      the same as a first epoch with a store that is filled meanwhile: every view is new to it

    python benchmarks/distill_step.py [--json] [--steps 100] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import (
    CLASSES,
    NORMALIZATION,
    Clock,
    Turn,
    cifar_teacher,
    described,
    measure,
    provenance,
    ratio,
    student,
    told,
    where,
)
from torch import Tensor, nn
from torch.nn import functional

from limbeck.data.preparation import Preparation
from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.objective import Objective, supervised, term
from limbeck.store.build import Plan, build
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.learning import LearningStore
from limbeck.teachers import ModuleTeacher, Teacher
from limbeck.training import loop
from limbeck.training.interrupt import StopSignal
from limbeck.training.precision import choose
from limbeck.training.progress import Silent
from limbeck.training.settings import Optimizer, Schedule, Settings

RATE, MOMENTUM, DECAY, TEMPERATURE, WEIGHT = 0.05, 0.9, 5e-4, 4.0, 0.9
STORED = 4  # views of the finished store
RATIOS = (
    ("hand2", "hand", None),
    ("limbeck2", "limbeck", None),
    ("limbeck", "hand", "<=1.10"),
    ("plain", "distill", ">=1.8"),
    ("store", "limbeck", "<=1.05"),
    ("distill", "store", ">=6"),
    ("plain", "store", ">=15"),
    ("auto", "distill", "<=1.10"),
)


def sgd(module: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY, **options)


def hand(images: Tensor, labels: Tensor, batch: int) -> Turn:
    """The best plain loop: one fused pass normalizes, nothing is looked at."""
    precision = choose("cpu")
    model, layout = student().to(memory_format=torch.channels_last).train(), torch.channels_last
    optimizer = sgd(model, fused=True)
    scale = (1 / (255 * torch.tensor(NORMALIZATION.std))).reshape(1, 3, 1, 1)
    shift = (-torch.tensor(NORMALIZATION.mean) / torch.tensor(NORMALIZATION.std)).reshape(1, 3, 1, 1)

    def turn() -> list[float]:
        times, began = [], time.perf_counter()
        for index in torch.randperm(len(images)).split(batch):
            x = torch.addcmul(shift, images[index].to(torch.float32, memory_format=layout), scale)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision.name == "bf16"):
                logits = model(x)
            functional.cross_entropy(logits.float(), labels[index]).backward()
            optimizer.step()
            times.append((now := time.perf_counter()) - began)
            began = now
        return times

    return turn


def plain(images: Tensor, labels: Tensor, batch: int) -> Turn:
    """What most people write: float32, contiguous, the teacher asked at every step."""
    model, teacher = student().train(), cifar_teacher()
    optimizer = sgd(model)
    mean, std = (
        torch.tensor(NORMALIZATION.mean).reshape(1, 3, 1, 1),
        torch.tensor(NORMALIZATION.std).reshape(1, 3, 1, 1),
    )

    def turn() -> list[float]:
        times, began = [], time.perf_counter()
        for index in torch.randperm(len(images)).split(batch):
            x = (images[index].float() / 255 - mean) / std
            with torch.no_grad():
                soft = functional.log_softmax(teacher(x) / TEMPERATURE, 1)
            logits = model(x)
            kl = functional.kl_div(
                functional.log_softmax(logits / TEMPERATURE, 1), soft, reduction="batchmean", log_target=True
            )
            loss = (1 - WEIGHT) * functional.cross_entropy(logits, labels[index]) + WEIGHT * TEMPERATURE**2 * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append((now := time.perf_counter()) - began)
            began = now
        return times

    return turn


def limbeck(
    split: Split, batch: int, folder: Path, *, teacher: Teacher | None = None, replay: Replay | None = None
) -> Turn:
    """limbeck's loop as `limbeck run` runs it, with its defaults, epoch by epoch without validation."""
    precision, clock = choose("cpu"), Clock()
    kl = [term("kl", WEIGHT, temperature=TEMPERATURE)] if teacher else []
    job = loop.Job(
        module=student(),
        objective=Objective([supervised(1 - WEIGHT if teacher else 1.0), *kl]),
        split=split,
        preparation=Preparation(NORMALIZATION),
        validate=lambda module: {},
        settings=Settings(
            epochs=10**6,
            batch_size=batch,
            optimizer=Optimizer("sgd", RATE, DECAY, MOMENTUM),
            schedule=Schedule("constant"),
            replay=replay,
            device="cpu",
        ),
        folder=folder,
        teacher=teacher.placed(precision.place) if teacher else None,
        reporter=clock,
    )
    state = loop._prepare(job, precision)
    keeper = loop._Keeper(state, folder / loop.CHECKPOINT, job, StopSignal())
    keeper._every = float("inf")  # steps only: a checkpoint is written every 15 seconds, whatever a step takes

    def turn() -> list[float]:
        clock.start()
        loop._epoch(job, state, precision, keeper)
        state.progress.epoch, state.progress.batch = state.progress.epoch + 1, 0
        return clock.times

    return turn


def stored(split: Split, batch: int, folder: Path, live: Teacher) -> Turn:
    """Distilled from a store that is finished."""
    replay = Replay(0, STORED)
    see = Seer(split, Sampler(split.targets), Views(), replay.seed)
    plan = Plan(live, see, replay, Layout.choose(CLASSES), choose("cpu"), {})
    store = build(plan, folder / "store", batch_size=batch, told=Silent())
    turn = limbeck(split, batch, folder, teacher=store, replay=replay)
    for _ in range(STORED):  # each view is read once before
        turn()
    return turn


def filled(split: Split, batch: int, folder: Path, live: Teacher, turns: int) -> Turn:
    """Distilled while a store is filled: of each turn, which is an epoch, no view is known.

    Args:
        turns: no more than so many.
    """
    filling = Filling(folder / "filled", Layout.choose(CLASSES), len(split), turns)
    turn = limbeck(split, batch, folder, teacher=LearningStore(live, filling), replay=Replay(0, turns))
    everything = torch.arange(filling.records).numpy()

    def checked() -> list[float]:
        before = int(filling.missing(everything).sum())
        times = turn()
        if before - int(filling.missing(everything).sum()) != len(split):
            raise RuntimeError("a turn was no first epoch: some of its views were known already")
        return times

    return checked


def loops(split: Split, labels: Tensor, batch: int, folder: Path, rounds: int) -> dict[str, Turn]:
    """All loops by name, in the order of their turns."""
    live = ModuleTeacher(cifar_teacher(), NORMALIZATION)
    images = split.inputs
    makers: dict[str, Callable[[Path], Turn]] = {
        "hand": lambda at: hand(images, labels, batch),
        "limbeck": lambda at: limbeck(split, batch, at),
        "store": lambda at: stored(split, batch, at, live),
        "hand2": lambda at: hand(images, labels, batch),
        "limbeck2": lambda at: limbeck(split, batch, at),
        "plain": lambda at: plain(images, labels, batch),
        "distill": lambda at: limbeck(split, batch, at, teacher=live),
        "auto": lambda at: filled(split, batch, at, live, rounds + 1),  # one turn warms up
    }
    return {name: make(folder / name) for name, make in makers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a distillation step against hand-written loops.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each loop (100)")
    parser.add_argument("--turn", type=int, default=20, help="steps of one turn, an epoch of limbeck's (20)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (128)")
    parser.add_argument("--threads", type=int, help="torch threads (torch's choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    each = min(options.turn, options.steps)
    rounds = -(-options.steps // each)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (each * options.batch, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (len(images),), generator=generator)
    split = Split(images, labels, [str(number) for number in range(CLASSES)], "train")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(loops(split, labels, options.batch, Path(folder), rounds), rounds)
    result = {
        **provenance("distill_step"),
        "batch": options.batch,
        "loops": {name: described(turns) for name, turns in found.items()},
        "ratios": [ratio(found, one, other, target) for one, other, target in RATIOS],
    }
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{where(result)}, batch {result['batch']}",
        "",
        f"{'loop':<10}{'median ms':>10}{'quartiles':>18}{'steps':>7}",
    ]
    for name, one in result["loops"].items():
        span = f"{one['low_ms']:.1f} to {one['high_ms']:.1f}"
        lines.append(f"{name:<10}{one['median_ms']:>10.1f}{span:>18}{one['steps']:>7}")
    return "\n".join([*lines, "", *(told(one) for one in result["ratios"])])


if __name__ == "__main__":
    main()
