"""Numbers as the report and the terminal show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.evaluation.dense.told import division, is_dense
from limbeck.evaluation.names import is_share, shown, title
from limbeck.report.read import NAMES, primary, ranked

DASH = "–"
MAJORITY = "most frequent class"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.98765), percent(None)
        ('98.77 %', '–')
    """
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def count(value: float | None) -> str:
    """A whole number.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return DASH if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes for people.

    Example:
        >>> size(512), size(15392), size(4048000), size(1.5e12)
        ('512 B', '15.4 kB', '4.05 MB', '1.5 TB')
    """
    if value is None:
        return DASH
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= step:
            return f"{value / step:.3g} {unit}"
    return f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """A time.

    Example:
        >>> milliseconds(0.1234)
        '0.123 ms'
    """
    return DASH if value is None else f"{value:.3g} ms"


def spread(found: Mapping[str, Any] | None, metric: str = "accuracy") -> str:
    """The interval of a metric's mean: shares in percent, a loss as it is.

    Example:
        >>> spread({"low": 0.9, "high": 0.95}), spread({"low": 0.9, "high": 0.95}, "loss")
        ('90.00 to 95.00', '0.9000 to 0.9500')
    """
    if not found or found.get("low") is None:
        return DASH
    low, high = (100 * found[end] if is_share(metric) else found[end] for end in ("low", "high"))
    return f"{low:.2f} to {high:.2f}" if is_share(metric) else f"{low:.4f} to {high:.4f}"


def difference(found: Mapping[str, Any] | None) -> str:
    """A paired difference with its interval: of shares in points, of a loss as it is.

    Example:
        >>> difference({"mean": 0.0123, "low": 0.004, "high": 0.02})
        '+1.23 (+0.40 to +2.00)'
        >>> difference({"metric": "loss", "mean": -0.25, "low": None})
        '-0.2500'
    """
    if not found:
        return DASH
    share = is_share(found.get("metric", "accuracy"))
    mean, low, high = (
        None if one is None else f"{100 * one:+.2f}" if share else f"{one:+.4f}"
        for one in (found["mean"], found["low"], found.get("high"))
    )
    return f"{mean}" if low is None else f"{mean} ({low} to {high})"


def unbroken(text: str) -> str:
    """Text that no line ends within.

    Example:
        >>> unbroken("98.77 %") == "98.77\\u00a0%"
        True
    """
    return text.replace(" ", "\u00a0")


def results_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of results as text: column heads, one row a model, and what always naming one class would give.

    The metric that models are compared by comes first; beside it stands the accuracy, of pixels where they have labels.
    """
    models, metric = summary["models"], primary(dict(summary))
    split = "test" if "test" in models["student"]["metrics"] else "validation"
    accuracy = "pixel_accuracy" if is_dense(summary) else "accuracy"
    divided = division(summary)
    heads = [
        "model",
        f"{split} {title(metric)}{f', {divided}' if divided else ''}",
        "95 % interval",
        "to control, points" if is_share(metric) else "to control",
        *([title(accuracy)] if metric != accuracy else []),
        "parameters",
        "MACs",
        "weights",
        "latency",
    ]
    rows = []
    for role in ranked(models):
        model, scored = models[role], models[role]["metrics"][split]
        rows.append(
            [
                NAMES[role],
                shown(metric, scored.get(metric)),
                spread(summary.get("intervals", {}).get(role), metric),
                difference(summary.get("difference")) if role == "student" else DASH,
                *([percent(scored.get(accuracy))] if metric != accuracy else []),
                count(model["parameters"]),
                count(model["macs"]),
                size(model["weights_bytes"]),
                milliseconds(model["latency_ms"]),
            ]
        )
    baseline = models["student"]["metrics"][split].get("majority_baseline")
    if baseline is not None:
        at = heads.index(title(accuracy)) if metric != accuracy else 1
        rows.append([MAJORITY, *(percent(baseline) if place == at else DASH for place in range(1, len(heads)))])
    return heads, rows
