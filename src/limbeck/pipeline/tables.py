"""Tables for the terminal, from what runs and sweeps have written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.evaluation.names import is_share, shown, title
from limbeck.report.numbers import DASH, count, difference, size

Table = tuple[list[str], list[list[str]]]
ROLES = ("student", "control", "control_hard_labels")


def comparison(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Heads, and a row a run: metric, teacher, control, student, what distillation added, the student's size.

    What always naming the most frequent class would give stands beside accuracies and the metrics of segmentation; how
    pictures with masks were divided stands beside their data.

    Args:
        runs: what :func:`limbeck.report.compare` gives.

    Example:
        >>> run = {"run": "runs/a", "data": "digits", "metric": "auc", "teacher": 0.99, "control": 0.9, "student": 0.95}
        >>> run |= {"majority_baseline": 0.5, "difference": None, "parameters": 3706, "weights_bytes": 15_400}
        >>> comparison([run])[1]
        [['runs/a', 'digits', 'AUC', '99.00 %', '90.00 %', '95.00 %', '–', '–', '3,706', '15.4 kB']]
    """
    heads = ["run", "data", "metric", "teacher", "control", "student", "majority", "to control"]
    heads += ["parameters", "weights"]
    return heads, [
        [
            run["run"],
            f"{run['data']}, {run['divided']}" if run.get("divided") else run["data"],
            title(run["metric"]),
            *(shown(run["metric"], run[role]) for role in ("teacher", "control", "student")),
            shown(
                run["metric"],
                run.get("majority", run.get("majority_baseline") if run["metric"] == "accuracy" else None),
            ),
            difference(run["difference"]),
            count(run["parameters"]),
            size(run["weights_bytes"]),
        ]
        for run in runs
    ]


def points(found: Mapping[str, Any]) -> Table:
    """Heads, and a row a point of a sweep: values, validation metric of student and controls; a star at the best.

    Args:
        found: the content of ``sweep.json``.

    Example:
        >>> point = {"values": {"seed": 1}, "student": {"mean": 0.9, "low": 0.88, "high": 0.92}, "seconds": 3}
        >>> points({"points": [point], "best": {"values": {"seed": 1}}})
        (['seed', 'student, accuracy', 'seconds', 'best'], [['1', '90.00 ± 2.00 %', '3', '*']])
    """
    best, metric = (found.get("best") or {}).get("values"), found.get("metric", "accuracy")
    keys = list(dict.fromkeys(key for point in found["points"] for key in point["values"]))
    roles = [role for role in ROLES if any(role in point for point in found["points"])]
    divided = any(point.get("divided") for point in found["points"])
    heads = [*keys, *(f"{role.replace('_', ' ')}, {title(metric)}" for role in roles), "seconds", "best"]
    return [*heads, "split"] if divided else heads, [
        [
            *(str(point["values"].get(key, DASH)) for key in keys),
            *(around(point.get(role), metric) for role in roles),
            f"{point['seconds']:.0f}",
            "*" if point["values"] == best else "",
            *([point.get("divided") or DASH] if divided else []),
        ]
        for point in found["points"]
    ]


def around(found: Mapping[str, Any] | None, metric: str = "accuracy") -> str:
    """A mean over seeds with half the width of its 95 % interval, where several seeds give one.

    Example:
        >>> around({"mean": 0.9, "low": 0.88, "high": 0.92}), around({"mean": 0.9, "low": None}), around(None)
        ('90.00 ± 2.00 %', '90.00 %', '–')
    """
    if found is None or found.get("low") is None:
        return shown(metric, found["mean"] if found else None)
    half = (found["high"] - found["low"]) / 2
    if not is_share(metric):
        return f"{found['mean']:.4f} ± {half:.4f}"
    return f"{100 * found['mean']:.2f} ± {100 * half:.2f} %"


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> None:
    """Print a table on standard output; on a narrow terminal the last columns are left out.

    Args:
        heads: of the columns.
        rows: of text.
        width: columns of characters; the terminal's by default, wide elsewhere.

    Example:
        >>> print_table(["model", "accuracy"], [["student", "95.00 %"]])
        model   accuracy
        student  95.00 %
        >>> print_table(["model", "accuracy"], [["student", "95.00 %"]], width=10)
        model
        student
    """
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(markup=False, highlight=False, width=width or (None if sys.stdout.isatty() else 200))
    table = RichTable(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    used = 0
    for number, head in enumerate(heads):
        used += max(len(head), *(len(row[number]) for row in rows)) + 1 if rows else len(head) + 1
        if number and used > console.width + 1:
            break
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    console.print(table)
