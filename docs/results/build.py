"""Write the pages of results from the summaries beside them: no number on those pages is typed by hand.

    python docs/results/build.py [--collect RUNS]

``--collect`` first copies ``summary.json``, ``run.json`` and ``sweep.json`` of the run folders in RUNS to this place,
and for the pages of stores and of aerial tiles what they tell beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from aerial_page import aerial, classes, ways
from methods_page import methods
from speed_page import int8, losses, masks, memory, pruned, speed, views
from store_page import gap, reading, trained

from limbeck.evaluation.statistics import interval
from limbeck.pipeline.sweep import plot
from limbeck.report.numbers import count, difference, milliseconds, percent, size, spread

HERE = Path(__file__).parent
NAMES = {
    "teacher": "teacher",
    "control": "control",
    "control_hard_labels": "control, hard labels",
    "student": "student",
}


def collect(runs: Path, into: Path) -> None:
    """Copy what the pages are written from."""
    for run in sorted(path for path in runs.iterdir() if path.is_dir()):
        for source, name in (
            (run / "summary.json", "summary.json"),
            (run / "best" / "summary.json", "summary.json"),
            (run / "run.json", "run.json"),
            (run / "best" / "run.json", "run.json"),
            (run / "sweep.json", "sweep.json"),
        ):
            if source.exists():
                (into / run.name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, into / run.name / name)
        if run.name.startswith("store-") and (into / run.name / "summary.json").exists():
            (into / run.name / "trained.json").write_text(json.dumps(trained(run)) + "\n", encoding="utf-8")
        if run.name.startswith("aerial-") and (into / run.name / "summary.json").exists():
            (into / run.name / "classes.json").write_text(json.dumps(classes(run)) + "\n", encoding="utf-8")


def results(folder: Path) -> list[str]:
    """The table of one run, with its provenance."""
    summary, run = read(folder / "summary.json"), read(folder / "run.json")
    models, environment = summary["models"], summary["environment"]
    metric = (summary["difference"] or {"metric": "accuracy"})["metric"]
    name = metric.replace("_", " ")
    lines = [
        f"`{run['command']}`  ",
        f"{run['finished'] or run['created']}, {environment['processor']}, {environment['cores']} cores, "
        f"threads: {environment['threads']}, torch {environment['torch']}; {summary['seconds']:.0f} s. Samples: "
        + ", ".join(f"{split} {count(number)}" for split, number in summary["data"]["splits"].items())
        + ".",
        "",
        f"| model | parameters | MACs | weights | latency | seeds | validation {name} | test {name}, selected epoch "
        f"| 95 % interval | test {name}, last epoch | to control, points |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for role, model in models.items():
        last = [one["metrics"]["last"]["test"][metric] for one in model["runs"]]
        cells = [
            NAMES[role],
            count(model["parameters"]),
            count(model["macs"]),
            size(model["weights_bytes"]),
            milliseconds(model["latency_ms"]),
            str(len(model["runs"])),
            percent(model["metrics"]["validation"][metric]),
            percent(model["metrics"]["test"][metric]),
            spread(summary["intervals"][role]),
            percent(sum(last) / len(last)),
            difference(summary["difference"]) if role == "student" else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"**{summary['verdict']}**", ""]
    lines += [f"- {one['severity']}: {one['message']}" for one in summary["findings"]]
    point, drawn = summary.get("operating_point"), summary.get("sampling_difference")
    if point:
        lines.append(f"- {point['sentence']}")
    if drawn:
        lines.append(
            f"- of the seed that ships, on the same {drawn['samples']} samples: student minus control "
            f"{difference(drawn)} points, the interval being that of the draw of the samples"
        )
    for export in summary["exports"]:
        lines.append(
            f"- `{export['path']}`: {count(export['bytes'])} bytes, test accuracy "
            f"{percent(export['metrics']['test']['accuracy'])}, largest difference of a logit "
            f"{export['max_abs_difference']:.2g}, {milliseconds(export['latency_ms'])} in ONNX Runtime on one thread"
        )
    return [*lines, ""]


SCORES = ("accuracy", "balanced_accuracy", "majority_baseline", "f1", "auc", "average_precision", "ece")


def scores(folder: Path) -> list[str]:
    """Several metrics of one run on test: the mean over seeds with its 95 % interval."""
    models = read(folder / "summary.json")["models"]
    known = [name for name in SCORES if name in models["student"]["metrics"]["test"]]
    lines = [f"| model | {' | '.join(name.replace('_', ' ') for name in known)} |", f"|{'---|' * (len(known) + 1)}"]
    for role, model in models.items():
        cells = []
        for name in known:
            found = interval([one["metrics"]["selected"]["test"][name] for one in model["runs"]])
            between = "" if found.low is None else f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
            cells.append(f"{100 * found.mean:.1f}{between}")
        lines.append(f"| {NAMES[role]} | {' | '.join(cells)} |")
    return [*lines, ""]


def sweep(folder: Path) -> list[str]:
    """The table of a sweep: validation only."""
    found = read(folder / "sweep.json")
    (folder / "sweep.svg").write_text(plot(found), encoding="utf-8")
    keys = list(found["grid"])
    lines = [
        f"`{found['command']}`",
        "",
        f"![Validation accuracy of student and control at every point]({folder.name}/sweep.svg)",
        "",
        f"| {' | '.join(key.rpartition('.')[2] for key in keys)} "
        "| student, validation | 95 % interval | control, validation |",
        f"|{'---|' * (len(keys) + 3)}",
    ]
    for point in found["points"]:
        values = " | ".join(f"{point['values'][key]:g}" for key in keys)
        student, control = point["student"], point.get("control")
        mark = " ← chosen" if found["best"] and point["values"] == found["best"]["values"] else ""
        shown = (
            f"{percent(student['mean'])}{mark} | {spread(student)} | {percent(control['mean'] if control else None)}"
        )
        lines.append(f"| {values} | {shown} |")
    return [*lines, ""]


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


MAKERS = {
    "results": results,
    "scores": scores,
    "sweep": sweep,
    "speed": speed,
    "views": views,
    "losses": losses,
    "masks": masks,
    "memory": memory,
    "pruned": pruned,
    "int8": int8,
    "methods": methods,
    "gap": gap,
    "aerial": aerial,
    "ways": ways,
    "reading": reading,
}


def build(template: Path) -> Path:
    """Write a page from its template: lines such as ``{{results NAME}}`` are replaced, see ``MAKERS``."""
    lines: list[str] = []
    for line in template.read_text(encoding="utf-8").splitlines():
        words = line.strip().removeprefix("{{").removesuffix("}}").split()
        if line.startswith("{{") and len(words) == 2:
            lines += MAKERS[words[0]](template.parent / words[1])
        else:
            lines.append(line)
    page = template.with_suffix("")
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", type=Path, metavar="RUNS", help="folder of run folders to copy from")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.collect, HERE)
    for template in sorted(HERE.glob("*.md.in")):
        print(build(template))


if __name__ == "__main__":
    main()
