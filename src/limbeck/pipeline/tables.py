"""Rows of text for the terminal, from what runs and sweeps have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, str]
NONE = "–"


def results(summary: Mapping[str, Any]) -> list[Row]:
    """A row a model: accuracy with its 95 % interval, agreement with the teacher, size, latency.

    Args:
        summary: the content of ``summary.json``.

    Example:
        >>> scores = {"test": {"accuracy": 0.9}}
        >>> model = {"metrics": scores, "runs": [{}], "parameters": 3706, "weights_bytes": 15_400}
        >>> results({"models": {"student": model}})[0]
        {'model': 'student', 'seeds': '1', 'test accuracy': '90.00 %', 'as the teacher': '–', 'parameters': '3,706',
         'weights': '15.4 kB', 'latency': '–'}
    """
    rows = []
    for role, model in summary["models"].items():
        split = "test" if "test" in model["metrics"] else "validation"
        scores = model["metrics"].get(split, {})
        around = summary.get("intervals", {}).get(role) or {}
        rows.append(
            {
                "model": role.replace("_", " "),
                "seeds": str(len(model.get("runs", []))),
                f"{split} accuracy": around_mean({"mean": scores.get("accuracy"), **around}),
                "as the teacher": percent(scores.get("agreement")),
                "parameters": NONE if model.get("parameters") is None else f"{model['parameters']:,}",
                "weights": size(model.get("weights_bytes")),
                "latency": latency(model.get("latency_ms")),
            }
        )
    return rows


def comparison(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row a run: teacher, control and student on test, what distillation added, and the student's size.

    Args:
        runs: content of ``summary.json`` by the run's folder.
    """
    rows = []
    for folder, summary in runs.items():
        models, gain = summary["models"], summary.get("difference") or {}
        accuracy = {role: model["metrics"].get("test", {}).get("accuracy") for role, model in models.items()}
        student = models.get("student", {})
        added = NONE if gain.get("mean") is None else f"{100 * gain['mean']:+.2f}"
        rows.append(
            {
                "run": folder,
                **{role: percent(accuracy.get(role)) for role in ("teacher", "control", "student")},
                "added points": added,
                "95 % interval": between(gain.get("low"), gain.get("high")),
                "seeds": str(gain.get("seeds", len(student.get("runs", [])))),
                "parameters": NONE if student.get("parameters") is None else f"{student['parameters']:,}",
                "weights": size(student.get("weights_bytes")),
            }
        )
    return rows


def points(found: Mapping[str, Any]) -> list[Row]:
    """A row a point of a sweep: values, validation accuracy of student and controls, seconds; a star at the best.

    Args:
        found: the content of ``sweep.json``.
    """
    best = (found.get("best") or {}).get("values")
    rows = []
    for point in found["points"]:
        row = {key: str(value) for key, value in point["values"].items()}
        for role in ("student", "control", "control_hard_labels"):
            if role in point:
                one = point[role]
                row[role.replace("_", " ")] = around_mean(one)
        rows.append({**row, "seconds": f"{point['seconds']:.0f}", "best": "*" if point["values"] == best else ""})
    return rows


def percent(value: float | None) -> str:
    """A fraction in percent.

    Example:
        >>> percent(0.98765), percent(None)
        ('98.77 %', '–')
    """
    return NONE if value is None else f"{100 * value:.2f} %"


def around_mean(found: Mapping[str, Any]) -> str:
    """A mean over seeds with half the width of its 95 % interval, where several seeds give one.

    Example:
        >>> around_mean({"mean": 0.9, "low": 0.88, "high": 0.92}), around_mean({"mean": 0.9, "low": None})
        ('90.00 ± 2.00 %', '90.00 %')
    """
    if found["mean"] is None or found.get("low") is None:
        return percent(found["mean"])
    return f"{100 * found['mean']:.2f} ± {50 * (found['high'] - found['low']):.2f} %"


def between(low: float | None, high: float | None) -> str:
    """An interval of differences, in points.

    Example:
        >>> between(-0.01, 0.02)
        '-1.00 to +2.00'
    """
    return NONE if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}"


def size(count: float | None) -> str:
    """Bytes for people.

    Example:
        >>> size(15_400), size(4_050_000)
        ('15.4 kB', '4.0 MB')
    """
    if count is None:
        return NONE
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def latency(value: float | Mapping[str, float] | None) -> str:
    """Milliseconds of one image."""
    median = value.get("median_ms") if isinstance(value, Mapping) else value
    return NONE if median is None else f"{median:.3f} ms"
