"""What all figures share: style, colors that the page's themes replace, and clean SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

# Okabe and Ito's colors, safe for the color-blind; drawn so, and then handed to the page's variables.
COLORS = {"teacher": "#cc79a7", "control": "#d55e00", "control_hard_labels": "#009e73", "student": "#0072b2"}
DASHES: dict[str, Any] = {"teacher": (0, (6, 2)), "control": (0, (2, 1.4)), "student": "-"}  # told apart without color
INK, FAINT, PANEL = "#010203", "#040506", "#070809"
TERMS = tuple(f"#0a0b0{number}" for number in range(1, 7))  # of an objective's terms: the page's --term-1 to --term-6
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def canvas(salt: str, size: tuple[float, float]) -> Iterator[Figure]:
    """An empty figure in the page's style; ``salt`` keeps the ids of one figure apart from those of the others."""
    with rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield Figure(figsize=size, layout="constrained")


def short(text: str) -> str:
    """A name that fits beside an axis and is no mathematics.

    Example:
        >>> short("a$b$"), len(short("x" * 50))
        ('a\\\\$b\\\\$', 28)
    """
    cut = text if len(text) <= 28 else text[:27] + "…"
    return cut.replace("$", r"\$")  # a pair of dollars would be read as mathematics


def svg(figure: Figure, title: str) -> str:
    """The figure as an SVG element for the page; ``title`` is what a screen reader says."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    label = html.escape(title)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        lambda found: f'<svg viewBox="{found[1]}" role="img" aria-label="{label}">',
        text,
        count=1,
    )
    for role, color in COLORS.items():
        text = text.replace(color, f"var(--{role.replace('_', '-')})")
    for number, color in enumerate(TERMS, start=1):
        text = text.replace(color, f"var(--term-{number})")
    text = text.replace(INK, "currentColor").replace(FAINT, "var(--faint)").replace(PANEL, "var(--panel)")
    text = re.sub(r" font-family: [^;\"]*", " font-family: inherit", text)
    # Without the namespace of links, href alone refers to the same page's definitions.
    return text.replace("xlink:href", "href")
