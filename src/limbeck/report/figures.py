"""SVG figures that take their colors from the page, so that they follow its light or dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limbeck.report.read import NAMES

# Okabe and Ito's colors, safe for the color-blind; drawn so, and then handed to the page's variables.
COLORS = {"teacher": "#cc79a7", "control": "#d55e00", "control_hard_labels": "#009e73", "student": "#0072b2"}
_INK, _FAINT = "#010203", "#040506"
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def curves(lines: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]], part: str, metric: str, label: str) -> str:
    """A metric of every epoch: a thin line a seed, a color a role."""
    with rc_context({**_STYLE, "svg.hashsalt": f"curves-{part}-{metric}"}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for role, seeds in lines.items():
            values = [[line[part].get(metric) for line in one] for one in seeds.values()]
            for number, one in enumerate(values):
                if any(value is None for value in one):
                    continue
                shown = [100 * value for value in one] if metric == "accuracy" else one
                name = NAMES.get(role, role) if number == 0 else None
                axes.plot(range(1, len(one) + 1), shown, color=COLORS.get(role, _INK), lw=1.1, alpha=0.8, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if metric == "accuracy":
            _zoom(axes)
        if axes.get_lines():
            axes.legend()
        return _svg(figure, f"{label} by epoch")


def per_class(classes: Sequence[str], before: Sequence[float], after: Sequence[float]) -> str:
    """How each class's recall changes from control to student, in points."""
    change = [100 * (b - a) for a, b in zip(before, after, strict=True)]
    with rc_context({**_STYLE, "svg.hashsalt": "per-class"}):
        figure = Figure(figsize=(6.4, 0.9 + 0.27 * len(classes)), layout="constrained")
        axes = figure.subplots()
        colors = [COLORS["student"] if value >= 0 else COLORS["control"] for value in change]
        axes.barh(range(len(classes)), change, color=colors, height=0.62)
        axes.set_yticks(range(len(classes)), [_text(name) for name in classes])
        axes.invert_yaxis()
        axes.axvline(0, color=_INK, lw=0.8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("change of recall, student minus control, points")
        return _svg(figure, "change of recall for each class")


def bars(title: str, values: Mapping[str, float | None], unit: str) -> str:
    """One horizontal bar a model."""
    shown = {role: value for role, value in values.items() if value is not None}
    with rc_context({**_STYLE, "svg.hashsalt": f"bars-{title}"}):
        figure = Figure(figsize=(6.4, 0.8 + 0.34 * len(shown)), layout="constrained")
        axes = figure.subplots()
        places = range(len(shown))
        axes.barh(places, list(shown.values()), color=[COLORS.get(role, _FAINT) for role in shown], height=0.62)
        axes.set_yticks(places, [_text(NAMES.get(role, role)) for role in shown])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        for place, value in zip(places, shown.values(), strict=True):
            axes.annotate(f" {value:,.3g}", (value, place), va="center")
        axes.margins(x=0.14)
        axes.set_xlabel(f"{title}, {unit}")
        return _svg(figure, title)


def _zoom(axes: Axes) -> None:
    """Show where the curves end, not the first epochs' climb."""
    ends = [float(line.get_ydata()[-1]) for line in axes.get_lines()]  # type: ignore[index, arg-type]
    if ends:
        low = min(ends)
        axes.set_ylim(max(0.0, low - 3 * max(max(ends) - low, 2.0)), min(100.5, max(ends) + 1))


def _text(text: str) -> str:
    short = text if len(text) <= 28 else text[:27] + "…"
    return short.replace("$", r"\$")  # a pair of dollars would be read as mathematics


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', svg, count=1
    )
    for role, color in COLORS.items():
        svg = svg.replace(color, f"var(--{role.replace('_', '-')})")
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    # Without the namespace of links, href alone refers to the same page's definitions.
    return svg.replace("xlink:href", "href").replace(" font-family: sans-serif", " font-family: inherit")
