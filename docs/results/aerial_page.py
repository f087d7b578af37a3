"""The page's part on aerial tiles: a run's models on its test pictures, class by class; the three ways to divide."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.evaluation.statistics import Interval, interval, paired_difference
from limbeck.report.numbers import count, milliseconds, percent, size

ROLES = ("teacher", "control", "student")
COLUMNS = {
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
    "pixel_accuracy": "pixel accuracy",
    "micro_precision": "micro P at ½",
    "micro_recall": "micro R at ½",
    "macro_precision": "macro P",
    "macro_recall": "macro R",
}
SPLITS = {
    "image": "whole pictures held out",
    "patch": "random patches held out (leaky)",
    "group": "whole tiles held out",
}


def classes(run: Path) -> dict[str, Any]:
    """What the page needs of a run beside its summary: the code's commit, and IoU of each class by role and seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((run / "evaluation").glob("*-seed*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        scored = one["selected"]["test"]
        rows = {each["class"]: each["iou"] for each in scored["per_class"]}
        found.setdefault(one["role"], []).append(
            {"seed": one["seed"], "iou": rows, "agreement": scored.get("agreement")}
        )
    commit = run / "commit"
    return {"commit": commit.read_text(encoding="utf-8").strip() if commit.exists() else "", "roles": found}


def aerial(folder: Path) -> list[str]:
    """One run: table of its models on the test split, IoU class by class, verdict and provenance.

    Args:
        folder: ``docs/results/aerial-NAME``; need not be there.
    """
    if not (folder / "summary.json").exists():
        return [f"Not run yet: `sh docs/results/aerial.sh {folder.name.removeprefix('aerial-')}`.", ""]
    summary, run, beside = (_read(folder / f"{name}.json") for name in ("summary", "run", "classes"))
    environment, asked = summary["environment"], run["recipe"]["data"]
    patches = ", ".join(f"{name} {count(number)}" for name, number in summary["data"]["splits"].items())
    code = f", commit {beside['commit']}" if beside["commit"] else ""
    return [
        f"`{run['command']}`  ",
        f"{run['finished'] or run['created']}, {environment['processor']}, {environment['cores']} cores, threads: "
        f"{environment['threads']}, torch {environment['torch']}{code}. Split `{asked['split_by']}`: "
        f"{SPLITS[asked['split_by']]}. Patches: {patches}.",
        "",
        *_models(summary, asked["split_by"]),
        "",
        *_per_class(beside["roles"], asked["split_by"]),
        "",
        f"**{summary['verdict']}** {_to_teacher(summary)}",
        "",
        *_drawn(summary),
        *_exports(summary),
        *(f"- {one['severity']}: {one['message']}" for one in summary["findings"]),
        "",
    ]


def _models(summary: Mapping[str, Any], split: str) -> list[str]:
    lines = [
        f"| test, split `{split}` | parameters | MACs | weights | latency | seeds | {' | '.join(COLUMNS.values())} "
        "| agrees with teacher |",
        f"|{'---|' * (7 + len(COLUMNS))}",
    ]
    for role in ROLES:
        if role in summary["models"]:
            model = summary["models"][role]
            cells = [
                role,
                count(model["parameters"]),
                count(model["macs"]),
                size(model["weights_bytes"]),
                milliseconds(model["latency_ms"]),
                str(len(model["runs"])),
                *(_share(_seeds(model, name)) for name in COLUMNS),
                percent(model["metrics"]["test"].get("agreement")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    teacher = summary["models"]["teacher"]
    for role in ("student",):
        model = summary["models"][role]
        ratios = [teacher[key] / model[key] for key in ("parameters", "macs")]
        lines += ["", f"The {role} has {ratios[0]:.2f} times fewer parameters and {ratios[1]:.2f} times fewer MACs."]
    return lines


def _per_class(roles: Mapping[str, Sequence[Mapping[str, Any]]], split: str) -> list[str]:
    names = list(roles["student"][0]["iou"])
    lines = [f"| IoU on test, split `{split}` | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
    for role in ROLES:
        if role in roles:
            each = [[one["iou"][name] for one in roles[role] if one["iou"][name] is not None] for name in names]
            lines.append(f"| {role} | {' | '.join(_share(values) if values else '–' for values in each)} |")
    return lines


def _to_teacher(summary: Mapping[str, Any]) -> str:
    """How far the student is from its teacher in mean IoU."""
    models = summary["models"]
    own, theirs = (_seeds(models[role], "mean_iou") for role in ("student", "teacher"))
    last = [one["metrics"]["last"]["test"]["mean_iou"] for one in models["student"]["runs"]]
    found = interval([one - theirs[0] for one in own])
    return (
        f"The student's mean IoU is {_points(found)} points from its teacher's"
        f" ({percent(theirs[0])}); in its last epoch {percent(sum(last) / len(last))}."
    )


def _drawn(summary: Mapping[str, Any]) -> list[str]:
    drawn = summary.get("sampling_difference")
    if not drawn or drawn["low"] is None:
        return []
    found = Interval(drawn["mean"], drawn["low"], drawn["high"], drawn["samples"])
    text = f"- of the seed that ships, on the same {drawn['samples']} pictures: student minus control {_points(found)} "
    return [f"{text}points, the interval being that of the draw of the pictures"]


def _exports(summary: Mapping[str, Any]) -> list[str]:
    return [
        f"- `{one['path']}`: {count(one['bytes'])} bytes, test mean IoU {percent(one['metrics']['test']['mean_iou'])}, "
        f"agrees with the model in {percent(one['agreement'])} of the pixels of stitched pictures, "
        f"{milliseconds(one['latency_ms'])} for a patch in ONNX Runtime on one thread"
        for one in summary["exports"]
    ]


def ways(folder: Path) -> list[str]:
    """The same recipe under the three ways to divide."""
    lines = [
        "| split | what is held out | seeds | teacher, test mean IoU | micro P at ½ | micro R at ½ "
        "| validation micro P | validation micro R | test mean IoU: control | student | student − control, points |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("image", "patch", "tile"):
        path = folder.parent / f"{folder.name}-{name}" / "summary.json"
        if not path.exists():
            continue
        models = _read(path)["models"]
        split = {"tile": "group"}.get(name, name)
        control, student = (_seeds(models[role], "mean_iou") for role in ("control", "student"))
        cells = [f"`{name}`", SPLITS[split], str(len(student))]
        cells += [_share(_seeds(models["teacher"], key)) for key in ("mean_iou", "micro_precision", "micro_recall")]
        first = models["teacher"]["runs"][0]["metrics"]["selected"]["validation"]
        cells += [percent(first[key]) for key in ("micro_precision", "micro_recall")]
        cells += [_share(control), _share(student), _points(paired_difference(student, control))]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _seeds(model: Mapping[str, Any], name: str) -> list[float]:
    return [one["metrics"]["selected"]["test"][name] for one in model["runs"]]


def _share(values: Sequence[float]) -> str:
    found = interval(values)
    if found.low is None or found.high is None:
        return percent(found.mean)
    return f"{percent(found.mean)} ({100 * found.low:.2f} to {100 * found.high:.2f})"


def _points(found: Interval) -> str:
    text = f"{100 * found.mean:+.2f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
