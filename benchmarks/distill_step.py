"""One training step, against loops written by hand.

Batches of 128 CIFAR-shaped images; student: five convolutions of width 32 (0.28 M parameters); teacher: ResNet-18 with
the CIFAR stem. Training steps only: fetching and normalizing a batch, forward, loss, backward, optimizer. No step reads
a disk. The loops take turns of a few steps, so that what else the machine does meets all of them alike.

    hand      student alone, the best plain loop: the precision, memory format and fused optimizer that limbeck has here
    hand2     the same once more: what differs between these two is noise
    limbeck   student alone, limbeck's own loop
    plain     distilled from a live teacher, plain float32 loop
    distill   distilled from a live teacher, limbeck's own loop

    python benchmarks/distill_step.py [--json] [--steps 100] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.split import Split
from limbeck.models.small import CNN5
from limbeck.objective import Objective, supervised, term
from limbeck.pipeline.folder import environment
from limbeck.teachers import ModuleTeacher
from limbeck.training import loop
from limbeck.training.interrupt import StopSignal
from limbeck.training.precision import choose
from limbeck.training.progress import Silent
from limbeck.training.settings import Optimizer, Schedule, Settings

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RATE, MOMENTUM, DECAY, TEMPERATURE, WEIGHT = 0.05, 0.9, 5e-4, 4.0, 0.9
Turn = Callable[[], list[float]]


def cifar_teacher() -> nn.Module:
    torch.manual_seed(1)
    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.eval().requires_grad_(False)


def student() -> nn.Module:
    torch.manual_seed(0)
    return CNN5((3, 32, 32), 10, width=32)


def sgd(module: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY, **options)


def hand(images: Tensor, labels: Tensor, batch: int) -> Turn:
    """The best plain loop: one fused pass normalizes, nothing is looked at."""
    precision = choose("cpu")
    model, layout = student().to(memory_format=torch.channels_last).train(), torch.channels_last
    optimizer = sgd(model, fused=True)
    scale = (1 / (255 * torch.tensor(STD))).reshape(1, 3, 1, 1)
    shift = (-torch.tensor(MEAN) / torch.tensor(STD)).reshape(1, 3, 1, 1)

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
    mean, std = torch.tensor(MEAN).reshape(1, 3, 1, 1), torch.tensor(STD).reshape(1, 3, 1, 1)

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


class Clock(Silent):
    """Notes when each batch is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def start(self) -> None:
        self.times, self._began = [], time.perf_counter()

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.times.append((now := time.perf_counter()) - self._began)
        self._began = now


def limbeck(images: Tensor, labels: Tensor, batch: int, *, distilled: bool, folder: Path) -> Turn:
    """limbeck's loop as `limbeck run` runs it, with its defaults, epoch by epoch without validation."""
    precision, normalization, clock = choose("cpu"), Normalization(MEAN, STD), Clock()
    kl = [term("kl", WEIGHT, temperature=TEMPERATURE)] if distilled else []
    job = loop.Job(
        module=student(),
        objective=Objective([supervised(1 - WEIGHT if distilled else 1.0), *kl]),
        split=Split(images, labels, [str(number) for number in range(10)], "train"),
        preparation=Preparation(normalization),
        validate=lambda module: {},
        settings=Settings(
            epochs=10**6,
            batch_size=batch,
            optimizer=Optimizer("sgd", RATE, DECAY, MOMENTUM),
            schedule=Schedule("constant"),
            device="cpu",
        ),
        folder=folder,
        teacher=ModuleTeacher(cifar_teacher(), normalization).placed(precision.place) if distilled else None,
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


def measure(turns: dict[str, Turn], steps: int, each: int) -> dict[str, list[list[float]]]:
    """Seconds of every step of every turn; each round begins with another loop."""
    names = list(turns)
    for turn in turns.values():
        turn()
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(-(-steps // each)):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            found[name].append(turns[name]())
    return found


def ratio(found: dict[str, list[list[float]]], one: str, other: str, target: str | None = None) -> dict[str, Any]:
    """Ratio of the medians; and the quartiles of the ratio turn by turn, which says how sure that is."""

    def median(name: str) -> float:
        return statistics.median(step for turn in found[name] for step in turn)

    pairs = [statistics.median(a) / statistics.median(b) for a, b in zip(found[one], found[other], strict=True)]
    low, _, high = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else (pairs[0],) * 3
    value = median(one) / median(other)
    met = None if target is None else value <= float(target[2:]) if target[0] == "<" else value >= float(target[2:])
    return {"of": one, "to": other, "ratio": value, "low": low, "high": high, "target": target, "met": met}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a distillation step against hand-written loops.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each loop (100)")
    parser.add_argument("--turn", type=int, default=5, help="steps of one turn (5)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (128)")
    parser.add_argument("--threads", type=int, help="torch threads (torch's choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    each = min(options.turn, options.steps)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (each * options.batch, 3, 32, 32), dtype=torch.uint8, generator=generator)
    data = (images, torch.randint(10, (len(images),), generator=generator), options.batch)
    with tempfile.TemporaryDirectory() as folder:
        turns = {
            "hand": hand(*data),
            "limbeck": limbeck(*data, distilled=False, folder=Path(folder)),
            "hand2": hand(*data),
            "plain": plain(*data),
            "distill": limbeck(*data, distilled=True, folder=Path(folder)),
        }
        found = measure(turns, options.steps, each)
    result = {
        "benchmark": "distill_step",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "precision": choose("cpu").name,
        "batch": options.batch,
        "loops": {name: described(turns_) for name, turns_ in found.items()},
        "ratios": [
            ratio(found, "hand2", "hand"),
            ratio(found, "limbeck", "hand", "<=1.10"),
            ratio(found, "plain", "distill", ">=1.8"),
        ],
    }
    print(json.dumps(result, indent=2) if options.json else table(result))


def described(turns: list[list[float]]) -> dict[str, Any]:
    """Median and quartiles of a step, in milliseconds."""
    steps = sorted(1000 * step for turn in turns for step in turn)
    low, middle, high = statistics.quantiles(steps, n=4, method="inclusive") if len(steps) > 1 else steps * 3
    return {"median_ms": middle, "low_ms": low, "high_ms": high, "steps": len(steps)}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    where = result["environment"]
    lines = [
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, torch {where['torch']}, "
        f"{result['precision']}, batch {result['batch']}, {result['date']}",
        "",
        f"{'loop':<10}{'median ms':>10}{'quartiles':>18}{'steps':>7}",
    ]
    for name, one in result["loops"].items():
        span = f"{one['low_ms']:.1f} to {one['high_ms']:.1f}"
        lines.append(f"{name:<10}{one['median_ms']:>10.1f}{span:>18}{one['steps']:>7}")
    lines.append("")
    for one in result["ratios"]:
        told = "noise" if one["target"] is None else f"target {one['target']}: {'met' if one['met'] else 'missed'}"
        names = f"{one['of']} / {one['to']}"
        lines.append(f"{names:<18}{one['ratio']:>6.2f}  (turn by turn {one['low']:.2f} to {one['high']:.2f})  {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
