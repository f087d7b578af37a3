"""What several benchmarks share: the networks of a step, turns that follow each other, ratios and their tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18

from limbeck.data.normalization import Normalization
from limbeck.models.small import CNN5
from limbeck.pipeline.folder import environment
from limbeck.training.precision import choose
from limbeck.training.progress import Silent

SHAPE, CLASSES = (3, 32, 32), 10
NORMALIZATION = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
Turn = Callable[[], list[float]]


def cifar_teacher() -> nn.Module:
    torch.manual_seed(1)
    model = resnet18(num_classes=CLASSES)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.eval().requires_grad_(False)


def student() -> nn.Module:
    torch.manual_seed(0)
    return CNN5(SHAPE, CLASSES, width=32)


class Clock(Silent):
    """Notes when each batch is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def start(self) -> None:
        self.times, self._began = [], time.perf_counter()

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.times.append((now := time.perf_counter()) - self._began)
        self._began = now


def provenance(benchmark: str) -> dict[str, Any]:
    """When and where a benchmark ran."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "precision": choose("cpu").name,
    }


def measure(turns: Mapping[str, Turn], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every step of every turn; each round begins with another loop."""
    names = list(turns)
    for turn in turns.values():
        turn()
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            found[name].append(turns[name]())
    return found


def ratio(
    found: Mapping[str, Sequence[Sequence[float]]], one: str, other: str, target: str | None = None
) -> dict[str, Any]:
    """Ratio of the medians; and the quartiles of the ratio turn by turn, which says how sure that is."""

    def median(name: str) -> float:
        return statistics.median(step for turn in found[name] for step in turn)

    pairs = [statistics.median(a) / statistics.median(b) for a, b in zip(found[one], found[other], strict=True)]
    low, _, high = quartiles(pairs)
    value = median(one) / median(other)
    return {
        "of": one,
        "to": other,
        "ratio": value,
        "low": low,
        "high": high,
        "target": target,
        "met": met(value, target),
    }


def met(value: float, target: str | None) -> bool | None:
    """Whether a value keeps a bound such as ``<=1.05``; None: none is asked for."""
    if target is None:
        return None
    bound = float(target[2:])
    return value <= bound if target.startswith("<=") else value >= bound


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Of one value, itself."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return low, middle, high


def described(turns: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Median and quartiles of a step, in milliseconds."""
    steps = [1000 * step for turn in turns for step in turn]
    low, middle, high = quartiles(steps)
    return {"median_ms": middle, "low_ms": low, "high_ms": high, "steps": len(steps)}


def where(result: Mapping[str, Any]) -> str:
    """Provenance for people."""
    found = result["environment"]
    return (
        f"{found['processor']}, {found['cores']} cores, {found['threads']} threads, torch {found['torch']}, "
        f"{result['precision']}, {result['date']}"
    )


def told(one: Mapping[str, Any]) -> str:
    """A ratio for people."""
    verdict = f"target {one['target']}: {'met' if one['met'] else 'missed'}" if one["target"] else ""
    if one["of"].rstrip("2") == one["to"].rstrip("2"):
        verdict = "noise"
    names = f"{one['of']} / {one['to']}"
    return f"{names:<20}{one['ratio']:>6.2f}  (turn by turn {one['low']:.2f} to {one['high']:.2f})  {verdict}".rstrip()
