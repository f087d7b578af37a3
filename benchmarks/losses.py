"""What each loss adds to a training step of the student.

ResNet-20 → ResNet-8 on CIFAR-shaped images (limbeck/resnet), batches of 128, on one thread. Every step is one of
limbeck's own loop: fetching and normalizing a batch, forward, objective, backward, the gradient's check, optimizer.
Nothing is augmented, no step reads a disk; augmenting would only make the shares smaller. The models have starting
weights, for which the arithmetic is the same.

    student   the student alone, cross-entropy
    teacher   the same, and the teacher's forward, which nothing is compared with
    NAME      the teacher's forward, cross-entropy and the loss with its adapters and parameters, at its own layers

A loss's share is ``(step with it - step without it) / step with it``: without it is ``teacher``, or ``student`` for a
loss that needs no teacher. Turns of a few steps of both and of ``student`` follow each other at once, and a share is
the median over the rounds of such a group, so that what else the machine does meets them alike. On one thread the
processor's time counts, on several the clock's.

    python benchmarks/losses.py [--json] [--only NAME,…] [--rounds 15] [--turn 4] [--threads 1] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.split import Split
from limbeck.errors import nearest
from limbeck.losses import TABLE, declared
from limbeck.models import build
from limbeck.models.reuse import reuse_classifier
from limbeck.objective import Objective, supervised, term
from limbeck.objective.binding import Scene, bind
from limbeck.pairing import pair_layers
from limbeck.pipeline.folder import environment
from limbeck.teachers import ModuleTeacher, reading
from limbeck.training import loop
from limbeck.training.interrupt import StopSignal
from limbeck.training.precision import choose
from limbeck.training.progress import Silent
from limbeck.training.settings import Optimizer, Schedule, Settings

SHAPE, CLASSES, SAMPLES = (3, 32, 32), 10, 50_000  # CIFAR-10's: a loss with a memory remembers so many
NORMALIZATION = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
ASKED = 0.10
UNBOUND = ("crd", "review", "simkd")  # of which no share is asked
DENSE = "compares maps of logits, which a classifier does not give"


class Clock(Silent):
    """Notes what each batch takes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self.times = now, list[float]()

    def start(self) -> None:
        self.times, self._began = [], self._now()

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        now = self._now()
        self.times.append(now - self._began)
        self._began = now


@dataclass
class Loop:
    """limbeck's loop, a turn of steps at a time.

    Args:
        job: what is trained; its split has the images of one turn.
        clock: the job's reporter.
        calls: of the whole student, and of the whole teacher, in all turns so far.
    """

    job: loop.Job
    clock: Clock
    calls: dict[str, int] = field(default_factory=lambda: {"student": 0, "teacher": 0})

    def __post_init__(self) -> None:
        self._precision = choose("cpu")
        self._state = loop._prepare(self.job, self._precision)
        self._keeper = loop._Keeper(self._state, self.job.folder / loop.CHECKPOINT, self.job, StopSignal())
        self._keeper._every = float("inf")  # steps only
        self._state.tap.__enter__()  # as it is for a whole training

    def turn(self) -> float:
        """Seconds of a step: the median of a turn's."""
        self.clock.start()
        loop._epoch(self.job, self._state, self._precision, self._keeper)
        self._state.progress.epoch, self._state.progress.batch = self._state.progress.epoch + 1, 0
        return statistics.median(self.clock.times)

    @property
    def parameters(self) -> int:
        """Beside the student's."""
        return sum(one.numel() for one in self.job.objective.modules.parameters())


class Bench:
    """Makes the loops.

    Args:
        batch: images of a batch.
        steps: of a turn.
        folder: is given to the loops, which write nothing there.
        now: the time, in seconds.
    """

    def __init__(self, batch: int, steps: int, folder: Path, now: Callable[[], float]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (steps * batch, *SHAPE), dtype=torch.uint8, generator=generator)
        self.targets = torch.arange(SAMPLES) % CLASSES
        self.batch, self.folder, self.now = batch, folder, now
        self.preparation = Preparation(NORMALIZATION)

    def model(self, depth: int) -> nn.Module:
        return build("limbeck/resnet", input_shape=SHAPE, classes=CLASSES, options={"depth": depth}, seed=depth)

    def student(self) -> Loop:
        return self._loop(Objective([supervised(1.0)]), self.model(8), None)

    def teacher(self) -> Loop:
        """The teacher is asked where the images are prepared: its forward as with any loss, and nothing else."""
        teacher = ModuleTeacher(self.model(20), self.preparation).placed(choose("cpu").place)

        def prepared(inputs: Tensor) -> Tensor:
            teacher(inputs)
            return self.preparation(inputs)

        return self._loop(Objective([supervised(1.0)]), self.model(8), teacher, prepared)

    def loss(self, name: str) -> Loop:
        student, teacher, at = self.model(8), ModuleTeacher(self.model(20).eval(), self.preparation), None
        some = self.images[:8]
        if name == "simkd":  # the projector and the teacher's classifier are the student's
            inputs = self.preparation(some)
            last = pair_layers(teacher.inside, student, inputs).last
            if last is None:
                raise RuntimeError("no last stage")
            student, at = reuse_classifier(teacher.inside, student, inputs, inputs, *last), (last[0], "projector")
        terms = [supervised(1.0), term(name, at=at, adapter="none" if at else None, name=f"{name}_term")]
        scene = Scene(student, self.preparation, teacher, some, self.targets, CLASSES)
        objective = bind(Objective(terms), scene)
        if not objective.needs_teacher:
            return self._loop(objective, student, None)
        placed = teacher.placed(choose("cpu").place)
        return self._loop(objective, student, reading(placed, objective.layers("teacher")))

    def _loop(
        self,
        objective: Objective,
        student: nn.Module,
        teacher: ModuleTeacher | None,
        preparation: Callable[[Tensor], Tensor] | None = None,
    ) -> Loop:
        clock = Clock(self.now)
        job = loop.Job(
            module=student,
            objective=objective,
            split=Split(self.images, self.targets[: len(self.images)], [str(one) for one in range(CLASSES)], "train"),
            preparation=preparation or self.preparation,
            validate=lambda module: {},
            settings=Settings(
                epochs=10**6,
                batch_size=self.batch,
                optimizer=Optimizer("sgd", 1e-4, 5e-4),  # published weights, random teacher: nothing is to be learned
                schedule=Schedule("constant"),
                device="cpu",
            ),
            folder=self.folder,
            teacher=teacher,
            reporter=clock,
        )
        made = Loop(job, clock)
        for who, module in (("student", student), ("teacher", teacher and teacher.inside)):
            if module is not None:
                module.register_forward_pre_hook(lambda *_, who=who: _count(made.calls, who))
        return made


def _count(calls: dict[str, int], who: str) -> None:
    calls[who] += 1


def measure(bench: Bench, names: list[str], rounds: int, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """A row for each loss."""
    student, teacher = bench.student(), bench.teacher()
    student.turn(), teacher.turn()
    for name in names:
        say(name)
        one = bench.loss(name)
        one.turn()
        group = {"student": student, "with": one}
        if one.job.teacher is not None:
            group["teacher"] = teacher
        found: dict[str, list[float]] = {who: [] for who in group}
        before, order = dict(one.calls), list(group)
        for number in range(rounds):
            for place in range(len(order)):
                who = order[(number + place) % len(order)]
                found[who].append(group[who].turn())
        steps = rounds * (len(bench.images) // bench.batch)
        forwards = {who: (one.calls[who] - before[who]) / steps for who in before}
        yield row(name, found) | {"parameters": one.parameters, "forwards": forwards}


def row(name: str, found: dict[str, list[float]]) -> dict[str, Any]:
    """What a loss adds, of the step with it and of the student's alone: medians and quartiles over the rounds."""
    base = found.get("teacher", found["student"])
    added = [one - without for one, without in zip(found["with"], base, strict=True)]
    share = quartiles([more / one for more, one in zip(added, found["with"], strict=True)])
    bound = None if name in UNBOUND else ASKED
    return {
        "loss": name,
        "site": declared(TABLE[name]).site,
        "without": "teacher" if "teacher" in found else "student",
        "without_ms": 1000 * statistics.median(base),
        "with_ms": 1000 * statistics.median(found["with"]),
        "added_ms": 1000 * statistics.median(added),
        "share": share,
        "of_student": quartiles([more / one for more, one in zip(added, found["student"], strict=True)]),
        "asked": bound,
        "met": None if bound is None else share["median"] <= bound,
    }


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time what each loss adds to a training step of the student.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", help="losses, separated by commas (all)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each loss (15)")
    parser.add_argument("--turn", type=int, default=4, help="steps of a turn (4)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (128)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (1)")
    parser.add_argument("--quick", action="store_true", help="see that it runs: one turn of two steps of 8 images")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.turn, options.batch = 1, 2, 8
    names = options.only.split(",") if options.only else list(TABLE)
    for name in names:
        if name not in TABLE:
            sys.exit(f"there is no loss '{name}'{nearest(name, TABLE)}\n  cure: known: {', '.join(TABLE)}")
    torch.set_num_threads(options.threads)
    dense = [name for name in names if declared(TABLE[name]).dense]
    alone = options.threads == 1

    def say(name: str) -> None:
        if sys.stderr.isatty():
            print(name, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.batch, options.turn, Path(folder), time.process_time if alone else time.perf_counter)
        rows = list(measure(bench, [name for name in names if name not in dense], options.rounds, say))
    result = {
        "benchmark": "losses",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "precision": choose("cpu").name,
        "time": "processor" if alone else "clock",
        "batch": options.batch,
        "rounds": options.rounds,
        "turn": options.turn,
        "pair": {"teacher": "limbeck/resnet, depth 20", "student": "limbeck/resnet, depth 8"},
        "losses": rows,
        "left_out": dict.fromkeys(dense, DENSE),
    }
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    where = result["environment"]
    lines = [
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, torch {where['torch']}, "
        f"{result['precision']}, batch {result['batch']}, {result['date']}",
        "",
        f"{'loss':<20}{'without ms':>11}{'with ms':>9}{'share':>8}{'quartiles':>17}{'of student':>12}  asked",
    ]
    for one in result["losses"]:
        share = one["share"]
        span = f"{100 * share['low']:.1f} to {100 * share['high']:.1f}"
        asked = "–" if one["asked"] is None else f"{100 * one['asked']:.0f} %: {'met' if one['met'] else 'missed'}"
        lines.append(
            f"{one['loss']:<20}{one['without_ms']:>11.1f}{one['with_ms']:>9.1f}{100 * share['median']:>6.1f} %"
            f"{span:>17}{100 * one['of_student']['median']:>10.1f} %  {asked}"
        )
    lines += [f"{name:<20} left out: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
