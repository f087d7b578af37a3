"""The table and the figure of methods, from the cells that ``benchmarks/methods.py --json --done`` printed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.evaluation.statistics import Interval, interval, paired_difference
from limbeck.report.numbers import count, percent

CONTROL = "control"
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]  # method -> seed -> cell


def methods(source: Path) -> list[str]:
    """Provenance, table and figure of one protocol; the figure is written beside the file.

    Args:
        source: of ``docs/results/methods/NAME``, without ``.json``.
    """
    found = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))
    cells = by_method(found["cells"])
    ranked = ranking(cells)
    figure = source.with_suffix(".svg")
    figure.write_text(drawn(cells, ranked), encoding="utf-8")
    link = f"{figure.parent.name}/{figure.name}"
    return [
        *provenance(found),
        "",
        f"![Test accuracy of each method, every seed a point]({link})",
        "",
        *table(cells, ranked),
    ]


def by_method(cells: Sequence[Mapping[str, Any]]) -> Cells:
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault(cell["method"], {})[cell["seed"]] = cell
    return {name: dict(sorted(seeds.items())) for name, seeds in found.items()}


def ranking(cells: Cells) -> list[str]:
    """Methods by their mean test accuracy at the last epoch, the best first."""
    return sorted(cells, key=lambda name: -mean(cells[name], "last", "test"))


def mean(seeds: Mapping[int, Mapping[str, Any]], which: str, split: str) -> float:
    return sum(one[which][split] for one in seeds.values()) / len(seeds)


def gain(cells: Cells, name: str, which: str) -> Interval | None:
    """Test accuracy against the control's of the same seeds."""
    shared = [seed for seed in cells[name] if seed in cells.get(CONTROL, {})]
    if name == CONTROL or not shared:
        return None
    own, control = ([cells[one][seed][which]["test"] for seed in shared] for one in (name, CONTROL))
    return paired_difference(own, control)


def table(cells: Cells, ranked: Sequence[str]) -> list[str]:
    lines = [
        "| method | seeds | test, last epoch | to control, points | test, selected epoch | to control, points | "
        "validation, selected | parameters | beside the student |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ranked:
        seeds = cells[name]
        one = next(iter(seeds.values()))
        row = [
            f"**{name}**" if name == CONTROL else name,
            str(len(seeds)),
            percent(mean(seeds, "last", "test")),
            told(gain(cells, name, "last")),
            percent(mean(seeds, "selected", "test")),
            told(gain(cells, name, "selected")),
            percent(mean(seeds, "selected", "validation")),
            count(one["parameters"]),
            count(one["beside"]) if one["beside"] else "–",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def told(found: Interval | None) -> str:
    if found is None:
        return "–"
    text = f"{100 * found.mean:+.2f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def provenance(found: Mapping[str, Any]) -> list[str]:
    """Which code, machine and days; what the teacher is."""
    cells, teacher = found["cells"], found["teacher"]
    commits = list(dict.fromkeys(one["commit"] for one in [teacher, *cells]))
    machines = list(dict.fromkeys(one["environment"]["processor"] for one in cells))
    devices = list(dict.fromkeys(one["environment"]["device"] for one in cells))
    days = sorted(one["date"][:10] for one in [teacher, *cells])
    versions = list(dict.fromkeys(one["environment"]["torch"] for one in cells))
    threads = list(dict.fromkeys(str(one["environment"]["threads"]) for one in cells))
    last, each = teacher["last"], teacher["epochs"]
    return [
        f"{len(cells)} trainings of {cells[0]['epochs']} epochs, {days[0]} to {days[-1]}, {', '.join(machines)}, "
        f"{', '.join(devices)}, threads: {', '.join(threads)}, torch {', '.join(versions)}; "
        f"code of commit {', '.join(commits)}.  ",
        f"Teacher: {count(teacher['parameters'])} parameters, {each} epochs, test {percent(last['test'])}, "
        f"validation {percent(last['validation'])} at its last epoch, which taught.",
    ]


def drawn(cells: Cells, ranked: Sequence[str]) -> str:
    """Methods from best to worst: the mean with its interval, each seed, and the control's mean as a line."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 0.32 * len(ranked) + 1.1), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(reversed(ranked)):
            values = [100 * one["last"]["test"] for one in cells[name].values()]
            found, color = interval(values), "#D55E00" if name == CONTROL else "#0072B2"
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [place, place], "-", color=color, alpha=0.5)
            axes.plot(values, [place] * len(values), ".", color=color, alpha=0.5)
            axes.plot([found.mean], [place], "o", color=color)
        if CONTROL in cells:
            axes.axvline(100 * mean(cells[CONTROL], "last", "test"), color="#D55E00", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(ranked)), list(reversed(ranked)))
        axes.set_xlabel("test accuracy at the last epoch, %: mean, 95 % interval, seeds")
        axes.grid(axis="x", alpha=0.25)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()
