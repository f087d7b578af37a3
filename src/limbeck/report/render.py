"""The page: one file that opens anywhere, offline, and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from limbeck.files import write_text
from limbeck.report import figures, numbers
from limbeck.report.read import NAMES, Found, read_run

MOST_CLASSES = 20  # a larger confusion matrix is told as its largest confusions


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` from what a run folder holds.

    Raises:
        FileError: if the folder is not that of a finished run, naming the file.
    """
    found = read_run(folder)
    return write_text(Path(folder) / "report.html", page(found))


def page(found: Found) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=PackageLoader("limbeck.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=numbers.percent,
        count=numbers.count,
        size=numbers.size,
        ms=numbers.milliseconds,
        spread=numbers.spread,
        points=numbers.difference,
    )
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        found=found,
        run=found.run,
        summary=found.summary,
        models=found.summary["models"],
        roles=found.roles,
        names=NAMES,
        split=found.split,
        style=Markup(style),
        figures=_figures(found),
        confusion=_confusion(found),
        recipe=yaml.safe_dump(found.run["recipe"], sort_keys=False, allow_unicode=True),
    )


def _figures(found: Found) -> dict[str, Any]:
    """The drawings; matplotlib escapes the text in them."""
    drawn: dict[str, Any] = {}
    if found.curves:
        drawn["accuracy"] = figures.curves(found.curves, "validation", "accuracy", "validation accuracy, %")
        drawn["loss"] = figures.curves(found.curves, "train", "loss", "training loss")
    models = found.summary["models"]
    for key, title, unit in (
        ("weights_bytes", "weights on disk", "kB"),
        ("latency_ms", "latency of one sample", "ms"),
        ("macs", "multiply-accumulates", "millions"),
    ):
        scale = {"weights_bytes": 1e3, "latency_ms": 1.0, "macs": 1e6}[key]
        values = {role: models[role][key] / scale for role in found.roles if models[role][key] is not None}
        if values:
            drawn[key] = figures.bars(title, values, unit)
    recall = {role: _recall(found, role) for role in ("control", "student")}
    classes = found.summary["data"]["classes"]
    if recall["control"] and recall["student"] and len(classes) <= 2 * MOST_CLASSES:
        drawn["per_class"] = figures.per_class(classes, recall["control"], recall["student"])
    return {name: Markup(svg) for name, svg in drawn.items()}


def _recall(found: Found, role: str) -> list[float]:
    """Each class's recall, mean over seeds."""
    runs = [one["selected"][found.split]["per_class"] for one in found.evaluations.get(role, [])]
    return [sum(one[at]["recall"] for one in runs) / len(runs) for at in range(len(runs[0]))] if runs else []


def _confusion(found: Found) -> list[dict[str, Any]]:
    """The confusion matrices of control and student, of the seed that ships."""
    seed = found.summary.get("shipped_seed")
    tables = []
    for role in ("control", "student"):
        runs = found.evaluations.get(role, [])
        if not runs:
            continue
        one = next((run for run in runs if run["seed"] == seed), runs[0])
        matrix = one["selected"][found.split]["confusion"]
        classes = found.summary["data"]["classes"]
        pairs = [
            (matrix[row][column], classes[row], classes[column])
            for row in range(len(classes))
            for column in range(len(classes))
            if row != column and matrix[row][column]
        ]
        pairs.sort(key=lambda pair: -pair[0])
        rows = [
            [{"n": n, "share": n / max(sum(row), 1), "right": at == place} for place, n in enumerate(row)]
            for at, row in enumerate(matrix)
        ]
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
