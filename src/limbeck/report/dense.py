"""The page's tables and pictures of a segmentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from limbeck.errors import FileError
from limbeck.evaluation.dense.told import chance, classes_there, division_note
from limbeck.evaluation.names import is_share, shown, title
from limbeck.report import numbers
from limbeck.report.numbers import DASH, MAJORITY, percent
from limbeck.report.read import NAMES, Found
from limbeck.report.tables import ROLES, Table

METRICS = (
    "mean_iou", "mean_dice", "pixel_accuracy", "micro_precision", "micro_recall", "macro_precision", "macro_recall",
)  # fmt: skip
OF_CLASS = ("iou", "dice", "recall", "precision")
KINDS = {
    "by_lot": "Drawn by lot",
    "by_lot_too": "Drawn by lot, to make ten",
    "best": "Best of the student",
    "worst": "Worst of the student",
    "disputed": "Where student and teacher differ most",
}
DISPUTE = {
    "both_right": "both are right",
    "student_wrong": "the student alone is wrong",
    "both_wrong": "both are wrong",
    "teacher_wrong": "the teacher alone is wrong",
    "right": "the student is right",
    "wrong": "the student is wrong",
}
_TITLES = {"iou": "IoU", "dice": "Dice", "micro_precision": "micro precision at ½", "micro_recall": "micro recall at ½"}
_COLOR = re.compile(r"#[0-9a-f]{6}")


def results(found: Found) -> Table:
    """Every model on the split of comparison, and what always naming the most frequent class would give."""
    models, metric = found.summary["models"], found.metric
    student = models["student"]["metrics"][found.split]
    every = [models[role]["metrics"][found.split] for role in found.roles]
    names = [name for name in dict.fromkeys([metric, *METRICS]) if any(name in one for one in every)]
    agreed = any("agreement" in one for one in every)
    rows = []
    for role in found.roles:
        scored = models[role]["metrics"][found.split]
        cells = [
            str(max(len(models[role]["runs"]), 1)),
            shown(metric, scored.get(metric)),
            numbers.spread(found.summary.get("intervals", {}).get(role), metric),
            numbers.difference(found.summary.get("difference") if role == "student" else None),
            *(shown(name, scored.get(name)) for name in names if name != metric),
            *([percent(scored.get("agreement"))] if agreed else []),
        ]
        rows.append((role, cells))
    there = classes_there(found.scored("student").get("per_class", []))
    guess = {name: shown(name, chance(name, student.get("majority_baseline"), there)) for name in names}
    told = [DASH, guess[metric], DASH, DASH, *(guess[name] for name in names if name != metric)]
    rows.append((MAJORITY, [*told, *([DASH] if agreed else [])]))
    heads = ["model", "seeds", title(metric), f"95 % interval of {title(metric)}"]
    heads += ["to control, points" if is_share(metric) else "to control"]
    heads += [_TITLES.get(name, title(name)) for name in names if name != metric]
    return Table([*heads, *(["agrees with teacher"] if agreed else [])], rows)


def per_class(found: Found) -> Table | None:
    """Each class: its pixels, and IoU, Dice, recall and precision of every model, means over seeds."""
    rows_of = {role: _mean_rows(found, role) for role in ROLES}
    roles = [role for role in ROLES if rows_of[role]]
    if "student" not in roles:
        return None
    every = sum(one["support"] for one in rows_of["student"])
    rows = []
    for at, one in enumerate(rows_of["student"]):
        cells = [percent(rows_of[role][at][name], 1) for name in OF_CLASS for role in roles]
        rows.append((one["class"], [numbers.count(one["support"]), percent(one["support"] / max(every, 1), 1), *cells]))
    heads = [f"{_TITLES.get(name, name)}, {NAMES[role]}" for name in OF_CLASS for role in roles]
    return Table(["class", "pixels", "share", *heads], rows)


def _mean_rows(found: Found, role: str) -> list[dict[str, Any]]:
    """A role's numbers of each class, means over seeds; None where a seed has none."""
    runs = [one["selected"][found.split]["per_class"] for one in found.evaluations.get(role, [])]
    return [
        {"class": rows[0]["class"], "support": rows[0]["support"], **{name: _mean(rows, name) for name in OF_CLASS}}
        for rows in zip(*runs, strict=True)
    ]


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [one[name] for one in rows]
    return None if any(one is None for one in values) else sum(values) / len(values)


def change(found: Found) -> tuple[list[str], list[float], list[float]] | None:
    """Names and each class's IoU of control and student, of the classes that are there; None without a control."""
    before, after = (_mean_rows(found, role) for role in ("control", "student"))
    kept = [(a, b) for a, b in zip(before, after, strict=True) if None not in (a["iou"], b["iou"])] if before else []
    if not kept:
        return None
    return [one["class"] for _, one in kept], [one["iou"] for one, _ in kept], [one["iou"] for _, one in kept]


def counted(found: Found) -> str:
    """How many pictures and pixels the split of comparison has, and how it was divided from the others."""
    scored = found.scored("student") or found.summary["models"]["student"]["metrics"][found.split]
    pixels, ignored, samples = (int(scored.get(key) or 0) for key in ("pixels", "ignored", "samples"))
    unit = "picture" if samples == 1 else "pictures"
    if "by patch" in found.where:
        unit = "patch" if samples == 1 else "patches"
    told = f"{numbers.count(samples)} {unit} with {numbers.count(pixels)} labeled pixels"
    if ignored:
        told += f" and {numbers.count(ignored)} without a label"
    note = division_note(found.summary)
    return f"{told}, {note}" if note else told


def segments(found: Found) -> dict[str, Any] | None:
    """The rows of pictures by kind, and their legend; None where the run has none.

    Raises:
        FileError: if a color is none.
    """
    told = found.segments
    if not told.get("items"):
        return None
    legend = told["legend"]
    colors = [one["color"] for part in ("classes", "disagreement") for one in legend[part]] + legend["ignored"]
    for color in colors:
        if not _COLOR.fullmatch(str(color)):
            raise FileError(f"{found.folder / 'evaluation' / 'segments.json'}: {str(color)[:50]!r} is no color")
    kinds = []
    for kind, text in KINDS.items():
        items = [one for one in told["items"] if one["kind"] == kind]
        kept = [{**one, "told": _dispute(one)} for one in items if one["input"]["data"]]
        if items:
            split = items[0]["split"]
            about = {"kind": kind, "title": text, "split": split, "items": kept, "left_out": len(items) - len(kept)}
            kinds.append({**about, "of": told["totals"].get(split, len(items))})
    dispute = [{**one, "name": DISPUTE.get(one["kind"], one["kind"])} for one in legend["disagreement"]]
    return {"kinds": kinds, "legend": legend, "dispute": dispute, "roles": told["roles"], "seed": told["seed"]}


def _dispute(item: dict[str, Any]) -> list[tuple[str, str]]:
    """Shares of the labeled pixels of one picture, of all kinds but where everyone is right."""
    shares = item["disagreement"]["shares"]
    return [(DISPUTE.get(kind, kind), percent(one, 1)) for kind, one in shares.items() if "wrong" in kind]


__all__ = ["change", "counted", "per_class", "results", "segments"]
