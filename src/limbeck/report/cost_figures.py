"""Figures of what the teacher cost: seconds of every epoch, and a plan beside what the run took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from limbeck.report.costs import KINDS
from limbeck.report.drawing import COLORS, DASHES, FAINT, INK, canvas, short, svg
from limbeck.report.read import NAMES
from limbeck.store.plan import in_words

_WIDE = 4.3  # inches: letters of a readable size on a phone
_FEW = 16  # epochs that are marked one by one
_COLOR = {"control": "control", "online": "teacher", "building": "teacher", "stored": "student"}


def epochs(seconds: Mapping[str, Mapping[int, Sequence[float]]], online: float | None) -> str:
    """Seconds of every epoch: a line a seed, a color a role; dotted, what the live teacher was planned to cost."""
    with canvas("cost-epochs", (_WIDE, 2.9)) as figure:
        axes = figure.subplots()
        for role, seeds in seconds.items():
            for number, each in enumerate(seeds.values()):
                name = NAMES.get(role, role) if number == 0 else None
                style = {"color": COLORS.get(role, INK), "ls": DASHES.get(role, (0, (5, 1.5, 1.5, 1.5)))}
                marked = {"marker": "o", "ms": 3.2} if len(each) <= _FEW else {}
                axes.plot(range(1, len(each) + 1), each, lw=1.3, label=name, **style, **marked)  # type: ignore[arg-type]
        if online is not None:
            axes.axhline(online, color=COLORS["teacher"], lw=1.3, ls=DASHES["teacher"], label="live teacher, planned")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("seconds of the epoch")
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        return svg(figure, f"seconds of every epoch: {_ends(seconds)}")


def planned(both: Mapping[str, tuple[float | None, float | None]]) -> str:
    """By kind of epoch a bar of what was planned, and one of what it took."""
    with canvas("cost-plan", (_WIDE, 0.9 + 0.5 * len(both))) as figure:
        axes = figure.subplots()
        for place, (kind, (plan, took)) in enumerate(both.items()):
            for value, shift, color, edge in (
                (plan, -0.19, FAINT, INK),
                (took, 0.19, COLORS[_COLOR[kind]], COLORS[_COLOR[kind]]),
            ):
                if value is not None:
                    axes.barh(place + shift, value, height=0.34, color=color, edgecolor=edge, lw=0.8)
                    text = f"{in_words(value)}{' planned' if color == FAINT else ''}"
                    end = (value, place + shift)
                    axes.annotate(text, end, (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(both)), [short(KINDS[kind]) for kind in both])
        axes.set_ylim(len(both) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.4)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("seconds of an epoch")
        return svg(figure, f"seconds of an epoch, planned and taken: {_pairs(both)}")


def _ends(seconds: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """For those who do not see the figure: where the first seed of each role begins and ends."""
    firsts = {role: next(iter(seeds.values())) for role, seeds in seconds.items()}
    return "; ".join(f"{NAMES[role]} from {in_words(one[0])} to {in_words(one[-1])}" for role, one in firsts.items())


def _pairs(both: Mapping[str, tuple[float | None, float | None]]) -> str:
    return "; ".join(
        f"{KINDS[kind]} {', '.join(in_words(one) for one in pair if one is not None)}" for kind, pair in both.items()
    )


__all__ = ["epochs", "planned"]
