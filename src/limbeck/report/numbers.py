"""Numbers as the report and the terminal show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.report.read import NAMES, ROLES

DASH = "–"


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
        >>> size(512), size(15392), size(4048000)
        ('512 B', '15.4 kB', '4.05 MB')
    """
    if value is None:
        return DASH
    for unit, step in (("MB", 1e6), ("kB", 1e3)):
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


def spread(found: Mapping[str, Any] | None) -> str:
    """The interval of a mean of shares.

    Example:
        >>> spread({"low": 0.9, "high": 0.95})
        '90.00 to 95.00'
    """
    if not found or found.get("low") is None:
        return DASH
    return f"{100 * found['low']:.2f} to {100 * found['high']:.2f}"


def difference(found: Mapping[str, Any] | None) -> str:
    """A paired difference of shares, in points with its interval.

    Example:
        >>> difference({"mean": 0.0123, "low": 0.004, "high": 0.02})
        '+1.23 (+0.40 to +2.00)'
    """
    if not found:
        return DASH
    text = f"{100 * found['mean']:+.2f}"
    return text if found["low"] is None else f"{text} ({100 * found['low']:+.2f} to {100 * found['high']:+.2f})"


def results_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of results as text: column heads and one row a model."""
    models = summary["models"]
    split = "test" if "test" in models["student"]["metrics"] else "validation"
    heads = [
        "model",
        f"{split} accuracy",
        "95 % interval",
        "to control, points",
        "parameters",
        "MACs",
        "weights",
        "latency",
    ]
    rows = []
    for role in [role for role in ROLES if role in models]:
        model = models[role]
        rows.append(
            [
                NAMES[role],
                percent(model["metrics"][split]["accuracy"]),
                spread(summary.get("intervals", {}).get(role)),
                difference(summary.get("difference")) if role == "student" else DASH,
                count(model["parameters"]),
                count(model["macs"]),
                size(model["weights_bytes"]),
                milliseconds(model["latency_ms"]),
            ]
        )
    return heads, rows
