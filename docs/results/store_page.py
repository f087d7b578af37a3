"""The pages' part on stores: online against stored views, from runs, and a store's own speed, from its benchmark."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.evaluation.statistics import Interval, interval, paired_difference
from limbeck.report.numbers import count, percent, size

ONLINE, VIEWS = "online", ("1", "4", "16")
COLORS = {"student": "#0072B2", "control": "#D55E00"}


@dataclass(frozen=True)
class Variant:
    """A run with the live teacher, or with so many stored views.

    Args:
        name: ``online``, or the number of views.
        summary: content of ``summary.json``.
        run: content of ``run.json``.
        epochs: seconds of each epoch, by role and seed, see :func:`trained`.
        commit: of the code.
    """

    name: str
    summary: Mapping[str, Any]
    run: Mapping[str, Any]
    epochs: Mapping[str, Mapping[str, Sequence[float]]]
    commit: str

    def accuracies(self, role: str, which: str = "selected") -> list[float]:
        """Test accuracy of each seed."""
        return [one["metrics"][which]["test"]["accuracy"] for one in self.summary["models"][role]["runs"]]

    def times(self, role: str) -> list[float]:
        """Seconds of each seed's training."""
        return [sum(self.epochs[role][seed]) for seed in sorted(self.epochs[role], key=int)]

    def each(self) -> tuple[list[float], list[float]]:
        """Seconds of the student's epochs that asked the teacher, and of those that did not."""
        found = [list(self.epochs["student"][seed]) for seed in sorted(self.epochs["student"], key=int)]
        if self.name == ONLINE:
            return [one for seed in found for one in seed], []
        asking = int(self.name)  # the first seed's first epochs, each of which shows another view
        return found[0][:asking], [*found[0][asking:], *(one for seed in found[1:] for one in seed)]


def trained(run: Path) -> dict[str, Any]:
    """What the page needs of a run beside its summary: the code's commit, and seconds of each epoch by role and seed.

    The journals of the trainings tell the mean up to each epoch.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(run.glob("models/*/seed*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        sums = [one["epoch"] * one["seconds"] for one in lines]
        each = [after - before for before, after in zip([0.0, *sums], sums, strict=False)]
        found.setdefault(path.parts[-3], {})[path.parts[-2].removeprefix("seed")] = [round(one, 2) for one in each]
    commit = run / "commit"
    return {"commit": commit.read_text(encoding="utf-8").strip() if commit.exists() else "", "epochs": found}


def read(source: Path) -> dict[str, Variant]:
    """The variants of a data set that were run, in the order of the page."""
    found = {}
    for name in (ONLINE, *VIEWS):
        folder = source.parent / f"store-{source.name}-{name}"
        if (folder / "summary.json").exists():
            summary, run, beside = (
                json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
                for part in ("summary", "run", "trained")
            )
            found[name] = Variant(name, summary, run, beside["epochs"], beside["commit"])
    return found


def gap(source: Path) -> list[str]:
    """Accuracy and time of online and stored views of a data set: figure, tables and provenance.

    Args:
        source: ``docs/results/NAME`` of the folders ``store-NAME-online``, ``store-NAME-1``, …; need not be there.
    """
    variants = read(source)
    if ONLINE not in variants or len(variants) == 1:
        return [f"Not run yet: `sh docs/results/store.sh`, the runs of {source.name}.", ""]
    figure = source.parent / f"store-{source.name}.svg"
    figure.write_text(drawn(variants), encoding="utf-8")
    return [
        f"![Test accuracy and time with the live teacher and with stored views]({figure.name})",
        "",
        *accuracies(variants),
        "",
        *costs(variants),
        "",
        *provenance(variants),
        *of_teacher(source),
        "",
    ]


def accuracies(variants: Mapping[str, Variant]) -> list[str]:
    lines = [
        "| teacher | seeds | student, test | last epoch | control, test | student − control, points "
        "| student − online, points | the same, last epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    online = variants[ONLINE]
    for name, one in variants.items():
        student, control = one.accuracies("student"), one.accuracies("control")
        last = one.accuracies("student", "last")
        beside = ["–", "–"]
        if name != ONLINE:
            beside = [
                change(paired_difference(student, online.accuracies("student"))),
                change(paired_difference(last, online.accuracies("student", "last"))),
            ]
        cells = [
            called(name),
            str(len(student)),
            share(interval(student)),
            share(interval(last)),
            share(interval(control)),
            change(paired_difference(student, control)),
            *beside,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def costs(variants: Mapping[str, Variant]) -> list[str]:
    lines = [
        "| teacher | epoch of the control | epoch that asks the teacher | later epoch | first student | later students "
        "| bytes of the store | KL(live ‖ kept), mean | 99th percentile | same top-1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in variants.items():
        asking, later = one.each()
        control = [each for seed in one.epochs["control"].values() for each in seed]
        first, *rest = one.times("student")
        store = one.summary.get("store") or {}
        certificate = store.get("certificate") or {}
        kept = ["–"] * 4
        if store:
            known = f" ({count(store['known'])} of {count(store['records'])} views)" if certificate == {} else ""
            kept = [size(store["bytes"]) + known, *(fine(certificate.get(key)) for key in ("kl_mean", "kl_p99"))]
            kept.append(percent(certificate.get("agreement")))
        cells = [called(name), *map(seconds, (middle(control), middle(asking), middle(later), first, middle(rest)))]
        lines.append(f"| {' | '.join([*cells, *kept])} |")
    return lines


def provenance(variants: Mapping[str, Variant]) -> list[str]:
    """Commands, machine and days, and the teacher."""
    online = variants[ONLINE]
    models, epochs = online.summary["models"], online.run["recipe"]["student"]["epochs"]
    splits = ", ".join(f"{split} {count(number)}" for split, number in online.summary["data"]["splits"].items())
    right = share(interval(online.accuracies("teacher")))
    lines = [
        f"Teacher: {count(models['teacher']['parameters'])} parameters, test {right}; student: "
        f"{count(models['student']['parameters'])} parameters, {epochs} epochs. Samples: {splits}.",
        "",
    ]
    for name, one in variants.items():
        machine, code = one.summary["environment"], f", commit {one.commit}" if one.commit else ""
        asked = (one.summary.get("store") or {}).get("precision")
        lines.append(
            f"- {called(name)}: `{one.run['command']}`, {one.run['finished'] or one.run['created']}, "
            f"{machine['processor']}, threads: {machine['threads']}, torch {machine['torch']}{code}"
            f"{f'; the teacher was asked in {asked}' if asked else ''}"
        )
    return lines


def of_teacher(source: Path) -> list[str]:
    """The command that trained the teacher, in whose run little else counts."""
    path = source.parent / f"store-{source.name}-teacher" / "run.json"
    if not path.exists():
        return []
    run = json.loads(path.read_text(encoding="utf-8"))
    epochs = run["recipe"]["teacher"]["epochs"]
    return [f"- the teacher, {epochs} epochs: `{run['command']}`, {run['finished'] or run['created']}"]


def drawn(variants: Mapping[str, Variant]) -> str:
    """Accuracy against stored views, with intervals and seeds, beside the time of a training; online as lines."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for role, color in COLORS.items():
            scored(left, variants, color, role)
            timed(right, variants, color, role)
        for axes, label in ((left, "test accuracy, %"), (right, "seconds of a training")):
            axes.set_xscale("log", base=2)
            axes.set_xticks([int(name) for name in VIEWS], VIEWS)
            axes.minorticks_off()
            axes.set_xlabel("stored views")
            axes.set_ylabel(label)
            axes.grid(alpha=0.25)
        right.set_ylim(bottom=0)
        (handles, labels), (more, names) = (axes.get_legend_handles_labels() for axes in (left, right))
        figure.legend(
            handles + more, labels + names, frameon=False, ncols=5, loc="outside upper center", fontsize="small"
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()


def scored(axes: Any, variants: Mapping[str, Variant], color: str, role: str) -> None:
    """One role's accuracy over the numbers of views, and online's as a dashed line with its interval as a band."""
    aside = 1.03 if role == "student" else 1 / 1.03  # so that intervals do not cover each other
    stored = [one for name, one in variants.items() if name != ONLINE]
    places = [int(one.name) * aside for one in stored]
    seeds = [[100 * value for value in one.accuracies(role)] for one in stored]
    axes.plot(places, [interval(one).mean for one in seeds], "o-", color=color, label=f"{role}, stored views")
    for place, one in zip(places, seeds, strict=True):
        between = interval(one)
        if between.low is not None and between.high is not None:
            axes.plot([place, place], [between.low, between.high], "-", color=color, alpha=0.5)
        axes.plot([place] * len(one), one, ".", color=color, alpha=0.4)
    online = interval([100 * value for value in variants[ONLINE].accuracies(role)])
    axes.axhline(online.mean, color=color, linestyle="--", linewidth=1, label=f"{role}, online")
    if online.low is not None and online.high is not None:
        axes.axhspan(online.low, online.high, color=color, alpha=0.08, linewidth=0)


def timed(axes: Any, variants: Mapping[str, Variant], color: str, role: str) -> None:
    """One role's seconds of a training, the median of its seeds; the student that fills the store apart."""
    stored = [one for name, one in variants.items() if name != ONLINE]
    places = [int(one.name) for one in stored]
    later = slice(1, None) if role == "student" else slice(None)
    axes.plot(places, [middle(one.times(role)[later]) for one in stored], "o-", color=color)
    if role == "student":
        axes.plot(
            places, [one.times(role)[0] for one in stored], "s:", color=color, mfc="white", label="fills the store"
        )
    axes.axhline(middle(variants[ONLINE].times(role)), color=color, linestyle="--", linewidth=1)


def reading(folder: Path) -> list[str]:
    """The benchmark of a store by itself."""
    if not (folder / "store.json").exists():
        return ["Not measured yet: `python benchmarks/store.py --json`.", ""]
    found = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    environment, opened, held = found["environment"], found["opening"], found["memory"]
    asked = {one["what"]: one for one in found["targets"]}
    lines = [
        "`python benchmarks/store.py --json`  ",
        f"{found['date']}, {environment['processor']}, {environment['cores']} cores, "
        f"threads: {environment['threads']}, torch {environment['torch']}, {found['precision']}, "
        f"batch {found['batch']}.",
        "",
        "| a view | median | 25 to 75 % | asked for | bytes | asked for |",
        "|---|---|---|---|---|---|",
    ]
    for one in [*found["reading"], *found["besides"]]:
        took, kept = asked.get(f"reading, {one['name']}, µs a view"), asked.get(f"a view, {one['name']}, bytes")
        cells = [
            f"reading, {one['name']}" if "bytes" in one else one["name"],
            f"{one['median_us']:.2f} µs",
            f"{one['low_us']:.2f} to {one['high_us']:.2f} µs",
            verdict(took),
            f"{one['bytes']:g}" if "bytes" in one else "–",
            verdict(kept),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    building, noise = found["building"]["ratios"]
    lines += [
        "",
        f"- Building / the teacher's forward alone on views made beforehand: {building['ratio']:.2f} (turn by turn "
        f"{building['low']:.2f} to {building['high']:.2f}); the forward against itself: {noise['ratio']:.2f} "
        f"({noise['low']:.2f} to {noise['high']:.2f}). {count(found['building']['samples'])} samples a turn, "
        f"{found['building']['rounds']} turns.",
        f"- Opening a store of {size(opened['bytes'])}: all of it verified at {opened['median_mb_s']:.0f} MB/s "
        f"({opened['low_mb_s']:.0f} to {opened['high_mb_s']:.0f}); without, in {opened['without_ms']:.1f} ms.",
    ]
    if held is not None:
        lines.append(
            f"- A store of {size(held['store_bytes'])} (a sparse file) on a machine with {size(held['memory_bytes'])} "
            f"of memory: {count(held['samples'])} random views, none of which was in memory, were read in "
            f"{held['took_us']:.0f} µs each. The process's own memory grew by {size(held['most_bytes'])} at most; "
            "pages of the files are the system's to drop."
        )
    return [*lines, ""]


def verdict(one: Mapping[str, Any] | None) -> str:
    """A target and whether it is met."""
    if one is None:
        return "–"
    return f"{one['target'].replace('<=', '≤ ').replace('>=', '≥ ')}: {'met' if one['met'] else '**missed**'}"


def called(name: str) -> str:
    return "live" if name == ONLINE else f"{name} stored view{'' if name == '1' else 's'}"


def share(found: Interval) -> str:
    text = percent(found.mean)
    return text if found.low is None or found.high is None else (
        f"{text} ({100 * found.low:.2f} to {100 * found.high:.2f})"
    )  # fmt: skip


def change(found: Interval) -> str:
    text = f"{100 * found.mean:+.2f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return None
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
