"""The page's tables, as text: heads, rows, and whose row it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.evaluation.dense.told import chance, classes_there
from limbeck.evaluation.names import is_share, shown, title
from limbeck.report import numbers
from limbeck.report.numbers import DASH, MAJORITY, percent
from limbeck.report.read import NAMES, Found

MOST_CLASSES = 20  # a larger confusion matrix is told as its largest confusions
MOST_ROWS = 30  # values of a slice that are shown
ROLES = ("teacher", "control", "student")  # that curves, slices and pictures compare


@dataclass(frozen=True)
class Table:
    """Heads and rows as text.

    Args:
        heads: of the columns; the first column names the row.
        rows: a role (or what else the row is about, as text) and the cells.
        text: columns of words, aligned to the left.
        more: rows that are left out.
    """

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    text: tuple[int, ...] = ()
    more: int = 0


def results(found: Found) -> Table:
    """Every model on the split of comparison, and what always naming the most frequent class would give."""
    models, metric = found.summary["models"], found.metric
    student = models["student"]["metrics"][found.split]
    names = [name for name in dict.fromkeys([metric, "accuracy", *_telling(found)]) if name in student]
    heads = [
        "seeds",
        title(metric),
        f"95 % interval of {title(metric)}",
        "to control, points" if is_share(metric) else "to control",
    ]
    heads += [*(title(name) for name in names if name != metric), "calibration error", "agrees with teacher"]
    rows = []
    for role in found.roles:
        scored = models[role]["metrics"][found.split]
        cells = [
            str(max(len(models[role]["runs"]), 1)),
            shown(metric, scored.get(metric)),
            numbers.spread(found.summary.get("intervals", {}).get(role), metric),
            numbers.difference(found.summary.get("difference") if role == "student" else None),
            *(shown(name, scored.get(name)) for name in names if name != metric),
            percent(scored.get("ece")),
            percent(scored.get("agreement")),
        ]
        rows.append((role, cells))
    chance = {"accuracy": student.get("majority_baseline"), "balanced_accuracy": 1 / len(found.classes), "auc": 0.5}
    told = [DASH, shown(metric, chance.get(metric)), DASH, DASH]
    told += [shown(name, chance.get(name)) for name in names if name != metric]
    rows.append((MAJORITY, [*told, DASH, DASH]))
    return Table(["model", *heads], rows)


def _telling(found: Found) -> list[str]:
    """Metrics that say what accuracy does not, where classes are unequal or one of them is looked for."""
    student, classes = found.summary["models"]["student"]["metrics"][found.split], len(found.classes)
    unequal = student.get("majority_baseline", 0) > 1.2 / classes
    ordering = ["auc", "average_precision"] if classes == 2 or found.positive else []
    of_one = ["f1"] if found.positive else ["macro_f1"]
    return [*(["balanced_accuracy"] if unequal else []), *of_one, *ordering]


def sizes(found: Found) -> Table:
    """What every model costs."""
    rows = []
    for role in found.roles:
        model = found.summary["models"][role]
        timed = model.get("latency") or {}
        cells = [
            model.get("model") or DASH,
            numbers.count(model["parameters"]),
            numbers.count(model["macs"]),
            numbers.size(model["weights_bytes"]),
            numbers.size(model["gzip_bytes"]),
            numbers.milliseconds(model["latency_ms"]),
            f"{timed['low_ms']:.3g}–{timed['high_ms']:.3g}" if timed else DASH,
            numbers.count((model.get("throughput") or {}).get("samples_per_second")),
        ]
        rows.append((role, cells))
    heads = ["architecture", "parameters", "MACs", "weights", "gzipped", "latency", "10–90 %", "samples/s"]
    return Table(["model", *heads], rows, text=(1,))


def epochs(found: Found) -> Table:
    """Every seed's selected and last epoch; the majority's share stands in the heads of accuracies."""
    metric, split = found.metric, found.split
    shipped = (found.shipped("student") or {}).get("selected", {})

    def head(part: str) -> str:
        share = found.summary["models"]["student"]["metrics"].get(part, {}).get("majority_baseline")
        there = classes_there(shipped.get(part, {}).get("per_class", []))
        baseline = chance(metric, share, there) if found.dense else share if metric == "accuracy" else None
        return part if baseline is None else f"{part} {numbers.unbroken(f'(majority {percent(baseline, 1)})')}"

    parts = [("selected", "train"), ("selected", "validation"), ("selected", split), ("last", "validation")]
    parts.append(("last", split))
    rows = []
    for role in found.roles:
        for one in found.summary["models"][role]["runs"]:
            cells = [shown(metric, one["metrics"][which].get(part, {}).get(metric)) for which, part in parts]
            selected, last = (DASH if one[key] is None else str(one[key]) for key in ("selected_epoch", "last_epoch"))
            rows.append((role, [str(one["seed"]), selected, *cells[:3], last, *cells[3:]]))
    heads = ["seed", "selected epoch", *(head(part) for part in ("train", "validation", split)), "last epoch"]
    return Table(["model", *heads, head("validation"), head(split)], rows)


def slices(found: Found) -> dict[str, Table]:
    """By column a row for each of its values: the models beside the value's own majority."""
    scored = {role: found.scored(role).get("slices") or {} for role in ROLES if found.scored(role)}
    tables = {}
    for column, values in scored.get("student", {}).items():
        roles = [role for role in scored if column in scored[role]]
        by_role = {role: {one["value"]: one for one in scored[role][column]} for role in roles}
        told = ["sensitivity", "specificity"] if "sensitivity" in values[0] else ["balanced_accuracy"]
        names = [name for name in ("accuracy", *told) if name in values[0]]
        heads = ["samples", "majority", *(f"{title(name)}, {NAMES[role]}" for name in names for role in roles)]
        ranked = sorted(values, key=lambda one: -one["samples"])
        kept = [one for one in values if any(one is other for other in ranked[:MOST_ROWS])]
        rows = []
        for one in kept:
            cells = [percent(by_role[role].get(one["value"], {}).get(name), 1) for name in names for role in roles]
            samples = f"{numbers.count(one['samples'])}{' (few)' if one.get('few') else ''}"
            rows.append((str(one["value"]), [samples, percent(one.get("majority_baseline"), 1), *cells]))
        tables[column] = Table([column, *heads], rows, more=len(values) - len(kept))
    return tables


def operating(found: Found) -> Table | None:
    """Sensitivity and specificity of every model at the threshold that was chosen for it."""
    points = {role: found.scored(role).get("operating_point") for role in found.roles}
    rows = []
    for role, one in points.items():
        if one:
            sampling = one.get("sampling") or {}
            cells = [f"{one['threshold']:.4f}", percent(one["specificity_wanted"], 1), one["chosen_on"]]
            for name in ("specificity", "sensitivity"):
                cells += [percent(one[name]), numbers.spread(sampling.get(name))]
            rows.append((role, cells))
    heads = ["model", "threshold", "specificity wanted", "chosen on", "specificity", "95 % interval", "sensitivity"]
    return Table([*heads, "95 % interval"], rows) if rows else None


def bins(found: Found) -> Table | None:
    """The numbers behind the reliability diagrams."""
    rows = []
    for role in ROLES:
        for one in (found.scored(role).get("reliability") or {}).get("bins", []):
            cells = [percent(one["confidence"], 1), percent(one["accuracy"], 1), numbers.count(one["count"])]
            rows.append((role, cells))
    return (
        Table(["model", "mean confidence", "accuracy", "pixels" if found.dense else "samples"], rows) if rows else None
    )


def search(found: Found) -> Table | None:
    """What ``objective: auto`` tried on validation, and which point it chose."""
    told = found.summary.get("objective_search") or {}
    metric, chosen = told.get("metric", found.metric), told.get("chosen", {})
    rows = []
    for one in told.get("points", []):
        mark = "chosen" if chosen and all(one.get(key) == value for key, value in chosen.items()) else ""
        scores = [shown(metric, one.get(metric)), *([] if metric == "loss" else [shown("loss", one.get("loss"))])]
        rows.append((_plain(one.get("temperature")), [_plain(one.get("supervised")), *scores, mark]))
    scored = [title(metric), *([] if metric == "loss" else ["loss"])]
    return Table(["temperature", "weight of the labels", *scored, "choice"], rows) if rows else None


def confusion(found: Found) -> list[dict[str, Any]]:
    """The confusion matrices of control and student, of the seed that ships."""
    tables, classes = [], found.classes
    for role in ("control", "student"):
        one = found.shipped(role)
        if one is None:
            continue
        matrix = one["selected"][found.split]["confusion"]
        pairs = [
            (matrix[row][column], classes[row], classes[column])
            for row in range(len(classes))
            for column in range(len(classes))
            if row != column and matrix[row][column]
        ]
        pairs.sort(key=lambda pair: -pair[0])
        rows = [[_cell(n, sum(row), dense=found.dense) for n in row] for row in matrix]
        tables.append(
            {
                "role": role,
                "seed": one["seed"],
                "epoch": one["selected"]["epoch"],
                "rows": rows if len(classes) <= MOST_CLASSES else None,
                "pairs": pairs[:10],
            }
        )
    return tables


def _cell(n: int, row: int, *, dense: bool) -> dict[str, Any]:
    """A cell of a confusion matrix: of samples their number, of pixels the percentage of their row."""
    share = n / max(row, 1)
    text = (f"{100 * share:.1f}" if share >= 0.0005 else "<0.1") if dense and n else str(n)
    return {"n": n, "share": share, "text": text}


def evidence(value: Mapping[str, Any]) -> str:
    """The numbers that a finding rests on, on one line.

    Example:
        >>> evidence({"role": "student", "share": 0.98765, "classes": ["a", "b"], "more": {"n": 3}})
        'role student; share 0.9877; classes a, b; more: n 3'
    """
    told = []
    for key, one in value.items():
        name = str(key).replace("_", " ")
        if one is not None:
            told.append(f"{name}: {evidence(one)}" if isinstance(one, Mapping) else f"{name} {_plain(one)}")
    text = "; ".join(told)
    return text if len(text) <= 600 else text[:599] + "…"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return DASH if value is None else str(value)
