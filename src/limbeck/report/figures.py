"""SVG figures of a run that take their colors from the page, so that they follow its light or dark theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from limbeck.report.drawing import COLORS, FAINT, INK, canvas, short, svg
from limbeck.report.read import NAMES


def curves(lines: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]], part: str, metric: str, label: str) -> str:
    """A metric of every epoch: a thin line a seed, a color a role."""
    with canvas(f"curves-{part}-{metric}", (5.4, 3.1)) as figure:
        axes = figure.subplots()
        for role, seeds in lines.items():
            values = [[line[part].get(metric) for line in one] for one in seeds.values()]
            for number, one in enumerate(values):
                if any(value is None for value in one):
                    continue
                shown = one if metric == "loss" else [100 * value for value in one]
                name = NAMES[role] if number == 0 else None
                axes.plot(range(1, len(one) + 1), shown, color=COLORS.get(role, INK), lw=1.1, alpha=0.8, label=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if metric != "loss":
            _zoom(axes)
        if axes.get_lines():
            axes.legend()
        return svg(figure, f"{label} by epoch")


def per_class(classes: Sequence[str], before: Sequence[float], after: Sequence[float], what: str = "recall") -> str:
    """How each class's recall (or what else) changes from control to student, in points."""
    change = [100 * (b - a) for a, b in zip(before, after, strict=True)]
    with canvas("per-class", (5.4, 0.9 + 0.25 * len(classes))) as figure:
        axes = figure.subplots()
        colors = [COLORS["student"] if value >= 0 else COLORS["control"] for value in change]
        axes.barh(range(len(classes)), change, color=colors, height=0.62)
        axes.set_yticks(range(len(classes)), [short(name) for name in classes])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, lw=0.8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"change of {what}, student minus control, points")
        return svg(figure, f"change of {what} for each class")


def bars(title: str, values: Mapping[str, float | None], unit: str) -> str:
    """One horizontal bar a model."""
    shown = {role: value for role, value in values.items() if value is not None}
    with canvas(f"bars-{title}", (4.4, 0.8 + 0.32 * len(shown))) as figure:
        axes = figure.subplots()
        places = range(len(shown))
        axes.barh(places, list(shown.values()), color=[COLORS.get(role, FAINT) for role in shown], height=0.62)
        axes.set_yticks(places, [short(NAMES[role]) for role in shown])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        for place, value in zip(places, shown.values(), strict=True):
            axes.annotate(f" {value:,.0f}" if value >= 1000 else f" {value:.3g}", (value, place), va="center")
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"{title}, {unit}")
        return svg(figure, title)


def _zoom(axes: Axes) -> None:
    """Show where the curves end, not the first epochs' climb."""
    ends = [float(line.get_ydata()[-1]) for line in axes.get_lines()]  # type: ignore[index, arg-type]
    if ends:
        low = min(ends)
        axes.set_ylim(max(0.0, low - 3 * max(max(ends) - low, 2.0)), min(100.5, max(ends) + 1))
