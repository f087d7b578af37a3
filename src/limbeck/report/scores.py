"""Figures of scores: reliability, precision and recall, ROC; the models on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from limbeck.report.drawing import COLORS, DASHES, FAINT, INK, canvas, svg
from limbeck.report.read import NAMES

_SIZE = (4.2, 3.8)


def reliability(role: str, bins: Sequence[Mapping[str, float]], unit: str = "samples") -> str:
    """Accuracy against confidence, a dot a bin, its gap to the diagonal, and how many samples (or else) it holds."""
    confidence, accuracy, count = ([one[key] for one in bins] for key in ("confidence", "accuracy", "count"))
    most = max(count)
    with canvas(f"reliability-{role}", (4.2, 4.2)) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=INK, lw=0.8)
        top.vlines(confidence, confidence, accuracy, color=COLORS[role], lw=3, alpha=0.35)
        areas = [14 + 90 * (one / most) ** 0.5 for one in count]
        top.scatter(confidence, accuracy, s=areas, color=COLORS[role], linewidths=0, zorder=3)
        _shares(top, "y")
        top.set_ylim(-0.03, 1.03)
        top.set_ylabel("accuracy, %")
        bottom.bar(confidence, count, width=1 / 18, color=COLORS[role])
        bottom.set_ylabel(unit)
        bottom.set_xlabel("confidence, %")
        bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        _shares(bottom, "x")
        bottom.set_xlim(min(0.45, *confidence) - 0.05, 1.03)
        return svg(figure, f"reliability of the {NAMES[role]}")


def precision_recall(number: int, curves: Mapping[str, Mapping[str, Any]], prevalence: float | None) -> str:
    """Precision against recall of one class, a line a model, as steps: their area is the average precision.

    Args:
        number: of the class, to keep figures apart.
        curves: by role ``precision``, ``recall``, ``average_precision``.
        prevalence: the class's share of the samples: the precision of a guess.
    """
    with canvas(f"pr-{number}", _SIZE) as figure:
        axes = figure.subplots()
        for role, one in curves.items():
            # Before the first hit there is no recall, and so no step.
            steps = [(r, p) for r, p in zip(one["recall"], one["precision"], strict=True) if r > 0]
            recall, precision = zip((0.0, steps[0][1]), *steps, strict=True)
            label = f"{NAMES[role]}, {100 * one['average_precision']:.1f} %"
            line = {"color": COLORS[role], "ls": DASHES[role], "lw": 1.6, "label": label}
            axes.plot(recall, precision, drawstyle="steps-pre", **line)
        if prevalence is not None:
            axes.axhline(prevalence, color=INK, lw=0.8, ls=":", label=f"guessing, {100 * prevalence:.1f} %")
        _square(axes, "recall, %", "precision, %")
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        return svg(figure, f"precision against recall, class number {number + 1}")


def roc(curves: Mapping[str, Mapping[str, Any]], points: Mapping[str, Mapping[str, Any]]) -> str:
    """True against false positive rate, a line a model, with the operating point of each.

    Args:
        curves: by role ``fpr``, ``tpr``, ``auc``.
        points: by role ``sensitivity`` and ``specificity`` at the threshold.
    """
    with canvas("roc", _SIZE) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        for role, one in curves.items():
            label = f"{NAMES[role]}, {100 * one['auc']:.1f} %"
            axes.plot(one["fpr"], one["tpr"], color=COLORS[role], ls=DASHES[role], lw=1.6, label=label)
        for role, one in points.items():
            if one.get("sensitivity") is not None and one.get("specificity") is not None:
                at = (1 - one["specificity"], one["sensitivity"])
                axes.scatter(*at, s=52, color=COLORS[role], edgecolors=INK, linewidths=1, zorder=4)
        _square(axes, "false positive rate, %", "true positive rate, %")
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        return svg(figure, "true against false positive rate")


def _square(axes: Axes, across: str, up: str) -> None:
    _shares(axes, "x")
    _shares(axes, "y")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=FAINT)


def _shares(axes: Axes, which: str) -> None:
    """Ticks of an axis of shares, told in percent."""
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    (axes.set_xticks if which == "x" else axes.set_yticks)(ticks, [f"{100 * one:.0f}" for one in ticks])
