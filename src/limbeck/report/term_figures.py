"""Figures of an objective's terms over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limbeck.report.drawing import INK, PANEL, TERMS, canvas, short, svg
from limbeck.report.numbers import percent
from limbeck.report.terms import Terms

_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.4)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (1, 1)))
_WIDE = 4.3  # inches: three stand side by side, with letters of a readable size
_FEW = 12  # epochs that are marked one by one


def values(terms: Terms) -> str:
    """The value of each weighted term, each with an axis of its own: their sizes differ by orders."""
    across = min(len(terms.names), 2)
    down = -(-len(terms.names) // across)
    with canvas(f"terms-values-{terms.role}", (_WIDE, 0.5 + 1.2 * down)) as figure:
        every = list(figure.subplots(down, across, sharex=True, squeeze=False).flat)
        for number, (axes, name) in enumerate(zip(every, terms.names, strict=False)):
            _line(axes, number, terms.epochs, terms.values[name])
            axes.set_title(_named(name), fontsize=10, loc="left")
            axes.tick_params(labelsize=9, labelbottom=True)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            _epochs(axes)
            known = [one for one in terms.values[name] if one is not None]
            if known and min(known) >= 0:
                axes.set_ylim(0, max(known) * 1.08 or 1.0)
        for axes in every[len(terms.names) :]:
            axes.set_visible(False)
        figure.supxlabel("epoch", fontsize=10)
        return svg(figure, f"weight times value of each term by epoch: {_ends(terms, terms.values)}")


def shares(terms: Terms, declared: Mapping[str, float]) -> str:
    """The terms' shares of the gradient, stacked; where all are balanced, dotted lines are the declared shares."""
    with canvas(f"terms-shares-{terms.role}", (_WIDE, 3.0)) as figure:
        axes = figure.subplots()
        first, last = terms.epochs[0], terms.epochs[-1]
        at = {epoch: place for place, epoch in enumerate(terms.epochs)}
        edges = [epoch - 0.5 for epoch in range(first, last + 2)]
        base = [0.0] * (last - first + 1)
        patches = []
        for number, name in enumerate(terms.names):
            own = [
                100 * (terms.shares[name][at[epoch]] or 0.0) if epoch in at else 0.0 for epoch in range(first, last + 1)
            ]
            top = [low + one for low, one in zip(base, own, strict=True)]
            patches.append(axes.stairs(top, edges, baseline=base, fill=True, color=TERMS[number % len(TERMS)]))
            axes.stairs(top, edges, baseline=None, color=PANEL, lw=1.4 if last - first < 40 else 0.5)
            base = top
        if set(declared) == set(terms.names):
            heights = [100 * sum(declared[name] for name in terms.names[:many]) for many in range(1, len(declared))]
            axes.hlines(heights, edges[0], edges[-1], color=INK, lw=1.2, ls=(0, (1, 2)))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 100)
        axes.grid(visible=False)
        _epochs(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel("share of the gradient, %")
        _legend(figure, patches, terms.names)
        told = _ends(terms, terms.shares, share=True)
        return svg(figure, f"share of the gradient of each term by epoch: {told}")


def weights(terms: Terms) -> str:
    """The terms' weights, where one of them changes."""
    with canvas(f"terms-weights-{terms.role}", (_WIDE, 3.0)) as figure:
        axes = figure.subplots()
        lines = [_line(axes, number, terms.epochs, terms.weights[name]) for number, name in enumerate(terms.names)]
        known = [one for values in terms.weights.values() for one in values if one is not None]
        if known and min(known) > 0 and max(known) > 30 * min(known):
            axes.set_yscale("log")
        elif known:
            axes.set_ylim(0, max(known) * 1.08 or 1.0)
        _epochs(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel("weight at the epoch's end")
        _legend(figure, lines, terms.names)
        return svg(figure, f"weight of each term by epoch: {_ends(terms, terms.weights)}")


def _named(name: str) -> str:
    return short(name if len(name) <= 20 else f"{name[:19]}…")


def _line(axes: Axes, number: int, epochs: Sequence[int], values: Sequence[float | None]) -> Any:
    style = {
        "color": TERMS[number % len(TERMS)],
        "ls": _DASHES[(number + number // len(TERMS)) % len(_DASHES)],
        "lw": 1.7,
    }
    marked: dict[str, Any] = {"marker": "o", "ms": 4} if len(epochs) <= _FEW else {}
    return axes.plot(epochs, [float("nan") if one is None else one for one in values], **style, **marked)[0]


def _epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    across = min(len(names), 3 if max(map(len, names)) <= 10 else 2)
    order = [one for column in range(across) for one in range(column, len(names), across)]  # it is filled by columns
    entries = [handles[one] for one in order], ["."] * len(order)
    legend = figure.legend(*entries, loc="outside upper center", ncols=across, fontsize=9, columnspacing=1.2)
    for text, one in zip(legend.get_texts(), order, strict=True):
        text.set_text(_named(names[one]))  # as a label a name with an underscore before it would be left out


def _ends(terms: Terms, series: Mapping[str, Sequence[float | None]], *, share: bool = False) -> str:
    """For those who do not see the figure: where each term begins and ends."""

    def shown(value: float | None) -> str:
        return percent(value, 1) if share else "unknown" if value is None else f"{value:.4g}"

    told = []
    for name, values in series.items():
        known = [one for one in values if one is not None]
        if known:
            told.append(f"{name} from {shown(known[0])} to {shown(known[-1])}")
    return f"{'; '.join(told)}; epochs {terms.epochs[0]} to {terms.epochs[-1]}"
