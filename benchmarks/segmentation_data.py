"""Pictures with masks: how long reading and cutting the whole set of a recipe takes, and how long its training waits.

Reading is all that stands before the first step: pairing, decoding, looking up colors, dividing, cutting, and measuring
the normalization. What the operating system keeps of the files is kept: the first turn warms up.

Waiting is what a training stands still for its next batch, patches with views and masks that move with them, as a share
of whole epochs of so many steps: in limbeck's own loop, with the recipe's teacher being trained, and its student being
distilled from it. The two take turns. Without processes that prepare batches ahead, all of a batch's making is waited
for. No checkpoint is written, so that nothing waits for a disk.

    python benchmarks/segmentation_data.py [--json] [--quick] [--recipe recipes/aerial.yaml] [--set data.root=DIR]
        [--rounds 5] [--steps 20] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import met, provenance, quartiles, where
from torch import nn

from limbeck.data.batches import batches
from limbeck.data.data import Data
from limbeck.data.sources.named import load
from limbeck.data.split import Split
from limbeck.objective import Objective, supervised
from limbeck.pipeline.experiment import Candidate, Experiment, from_recipe
from limbeck.recipe.recipe import Recipe
from limbeck.teachers import ModuleTeacher, Teacher
from limbeck.training import loop
from limbeck.training.interrupt import StopSignal
from limbeck.training.precision import choose

RECIPE = Path(__file__).parent.parent / "recipes" / "aerial.yaml"
READING, WAITING = "<=10", "<=0.05"
SMALL = ("data.patch=16", "teacher.options.width=2", "student.options.width=1", "teacher.batch_size=2",
         "student.batch_size=2")  # fmt: skip


class Waited:
    """The batches of a loop, and the seconds that it waited for each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        stream = batches(*arguments, **options)
        while True:
            began = time.perf_counter()
            batch = next(stream, None)
            self.seconds.append(time.perf_counter() - began)
            if batch is None:
                return
            yield batch


def reading(recipe: Recipe, rounds: int) -> tuple[dict[str, Any], Data]:
    """Seconds to read, divide and cut a recipe's data, and the data."""
    source = dict(recipe.to_dict()["data"])
    name, times = source.pop("source"), []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        data = load(name, **{**source, "normalization": "auto"})
        times.append(time.perf_counter() - began)
    low, middle, high = quartiles(times[1:])
    splits = {name: {"pictures": len(split.regions), "patches": len(split)} for name, split in data.splits.items()}
    return {"median_s": middle, "low_s": low, "high_s": high, "rounds": rounds, "splits": splits}, data


def epochs(job: loop.Job, waited: Waited) -> Callable[[], dict[str, float]]:
    """Whole epochs of a training, one a call: their seconds, and those that were waited."""
    precision = choose("cpu")
    state = loop._prepare(job, precision)
    keeper = loop._Keeper(state, job.folder / loop.CHECKPOINT, job, StopSignal())
    keeper._every = float("inf")

    def turn() -> dict[str, float]:
        waited.seconds.clear()
        began = time.perf_counter()
        loop._epoch(job, state, precision, keeper)
        took = time.perf_counter() - began
        state.progress.epoch, state.progress.batch = state.progress.epoch + 1, 0
        return {"waited": sum(waited.seconds), "took": took, "steps": len(waited.seconds) - 1}

    return turn


def jobs(experiment: Experiment, steps: int, folder: Path) -> dict[str, loop.Job]:
    """Training the recipe's teacher, and distilling its student from it, over as many patches as the steps need."""
    candidate, student = experiment.teachers[0], experiment.student
    if not isinstance(candidate, Candidate):
        raise SystemExit("the recipe's teacher is not trained, so no epoch of it can be timed")
    seed, precision = experiment.seeds[0], choose("cpu")
    live = ModuleTeacher(candidate.make(seed).eval(), candidate.preparation).placed(precision.place)
    plain = Objective([supervised(1.0)])

    def job(one: Candidate, module: nn.Module, objective: Objective, teacher: Teacher | None, name: str) -> loop.Job:
        if one.settings is None:
            raise SystemExit(f"the recipe's {name} is not trained, so no epoch of it can be timed")
        split = spread(experiment.data.train, steps * one.settings.batch_size)
        return loop.Job(
            module=module,
            objective=objective,
            split=split,
            preparation=one.preparation,
            validate=lambda module: {},
            settings=one.settings,
            folder=folder / name,
            seed=seed,
            teacher=teacher,
        )

    return {
        "teacher": job(candidate, candidate.make(seed), plain, None, "teacher"),
        "student": job(student, student.make(seed), experiment.objective, live, "student"),
    }


def spread(split: Split, count: int) -> Split:
    """So many samples at equal distances: of all pictures."""
    count = min(count, len(split))
    return split.subset(torch.arange(count) * len(split) // count)


def waiting(experiment: Experiment, steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The share of an epoch that is waited, for each role; the roles take turns."""
    waited, found = Waited(), {}
    loop.batches = waited  # type: ignore[assignment]
    try:
        turns = {name: epochs(job, waited) for name, job in jobs(experiment, steps, folder).items()}
        for turn in turns.values():
            turn()
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
        for number in range(rounds):
            for place in range(len(turns)):
                name = list(turns)[(number + place) % len(turns)]
                seen[name].append(turns[name]())
    finally:
        loop.batches = batches
    for name, each in seen.items():
        found[name] = share(each)
    return found


def share(turns: list[dict[str, float]]) -> dict[str, Any]:
    """What was waited of all the time, with the quartiles of the share turn by turn."""
    whole = sum(one["waited"] for one in turns) / sum(one["took"] for one in turns)
    low, _, high = quartiles([one["waited"] / one["took"] for one in turns])
    steps = sum(one["steps"] for one in turns)
    each = {name: 1000 * sum(one[name] for one in turns) / steps for name in ("waited", "took")}
    return {
        "share": whole, "low": low, "high": high, "waited_ms": each["waited"], "step_ms": each["took"],
        "steps": int(steps), "turns": len(turns),
    }  # fmt: skip


def pictures(root: Path) -> Path:
    """A few small tiles under the names that the aerial recipe holds out."""
    rng = np.random.default_rng(0)
    colors = np.array([[60, 16, 152], [132, 41, 246], [110, 193, 228], [254, 221, 58], [226, 169, 41], [155] * 3])
    for number in range(1, 10):
        for kind, pixels in (
            ("images", rng.integers(0, 256, (40, 36, 3))),
            ("masks", colors[np.arange(40 * 36).reshape(40, 36) % 6]),
        ):
            path = root / "Tile 1" / kind / f"image_part_00{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for, and whether it is met."""
    found = [
        {"what": "reading and cutting the whole set, s", "value": result["reading"]["median_s"], "target": READING}
    ]
    for name, one in result["waiting"].items():
        found.append({"what": f"waiting for data, {name}, share of an epoch", "value": one["share"], "target": WAITING})
    return [{**one, "met": met(one["value"], one["target"])} for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time reading pictures with masks, and waiting for their batches.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="tiny pictures and models; the numbers mean nothing")
    parser.add_argument("--recipe", default=str(RECIPE), help="of segmentation (recipes/aerial.yaml)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--rounds", type=int, default=5, help="timed readings, and epochs of each role (5)")
    parser.add_argument("--steps", type=int, default=20, help="of an epoch (20)")
    parser.add_argument("--threads", type=int, help="torch threads (torch's choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        changes = list(options.set)
        rounds, steps = (2, 2) if options.quick else (options.rounds, options.steps)
        if options.quick:
            changes += [*SMALL, f"data.root={pictures(folder / 'tiles')}"]
        recipe = Recipe.load(options.recipe, changes)
        read, _ = reading(recipe, rounds)
        result = {
            **provenance("segmentation_data"),
            "recipe": recipe.to_dict()["name"],
            "reading": read,
            "waiting": waiting(from_recipe(recipe.to_dict()), steps, rounds, folder),
        }
    result["targets"] = targets(result)
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    read = result["reading"]
    counts = ", ".join(f"{name} {one['patches']} of {one['pictures']}" for name, one in read["splits"].items())
    lines = [
        f"{where(result)}, recipe {result['recipe']}",
        "",
        f"reading  {read['median_s']:.2f} s  ({read['low_s']:.2f} to {read['high_s']:.2f})  patches: {counts}",
    ]
    for name, one in result["waiting"].items():
        lines.append(
            f"{name:<9}{one['share']:.1%} of an epoch waited  (turn by turn {one['low']:.1%} to {one['high']:.1%})  "
            f"{one['waited_ms']:.1f} of {one['step_ms']:.1f} ms a step"
        )
    lines.append("")
    for one in result["targets"]:
        verdict = "met" if one["met"] else "missed"
        lines.append(f"{one['what']:<52}{one['value']:>8.3f}  target {one['target']}: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
