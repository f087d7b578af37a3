"""Which channels are cut: the least worth, over the whole model or the same share of every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from limbeck.compress.prune.groups import Group
from limbeck.errors import RecipeError

MOST = 0.95  # of a layer's channels
STEPS = 8

T = TypeVar("T")


def choose(
    groups: Sequence[Group], ratio: float, *, scope: str = "global", round_to: int = 1, most: float = MOST
) -> dict[str, list[int]]:
    """The channels to be cut, by the name of their group.

    What is left of a layer is rounded to the nearest multiple that hardware likes, never to nothing and never to more
    than there was.

    Args:
        groups: with their scores.
        ratio: of all channels (``global``) or of every group's (``uniform``), in [0, 1).
        scope: ``global``: scores of all groups are compared with each other; ``uniform``: within each group alone.
        round_to: channels of a part that are left are a multiple of this.
        most: share of a group that may be cut at most.

    Raises:
        RecipeError: if the ratio is not in [0, 1).

    Example:
        >>> a, b = torch.tensor([0.1, 3.0, 0.2, 2.0]), torch.tensor([1.0, 0.3])
        >>> groups = [Group("a", ("a",), 1, a), Group("b", ("b",), 1, b)]
        >>> choose(groups, 0.5), choose(groups, 0.5, scope="uniform")
        ({'a': [0, 2], 'b': [1]}, {'a': [0, 2], 'b': [1]})
        >>> choose(groups, 0.34)
        {'a': [0, 2]}
    """
    if not 0 <= ratio < 1:
        raise RecipeError(f"expected a share of the channels in [0, 1), found {ratio:g}")
    counts = _everywhere(groups, ratio) if scope == "global" else [round(ratio * len(one)) for one in groups]
    found = {}
    for group, count in zip(groups, counts, strict=True):
        left = _rounded(len(group) - min(count, int(most * len(group))), len(group), round_to)
        least = torch.argsort(group.scores, stable=True)[: len(group) - left]
        if len(least):
            found[group.name] = group.channels(least.tolist())
    return found


def rounding(groups: Sequence[Group]) -> int:
    """The largest multiple that hardware likes of which the narrowest layer has two: 8, 4, 2 or 1.

    Vector units work on blocks of channels; ``benchmarks/compression.py`` shows what multiples are worth.

    Example:
        >>> [rounding([Group("a", (), 1, torch.ones(width))]) for width in (28, 8, 3)]
        [8, 4, 1]
    """
    narrow = min(len(one) for one in groups)
    return next((one for one in (8, 4, 2) if 2 * one <= narrow), 1)


def _everywhere(groups: Sequence[Group], ratio: float) -> list[int]:
    """How many channels each group loses, where those of all are ranked together."""
    scores = torch.cat([one.scores for one in groups])
    owner = torch.cat([torch.full((len(one),), number) for number, one in enumerate(groups)])
    least = torch.argsort(scores, stable=True)[: round(ratio * len(scores))]
    return torch.bincount(owner[least], minlength=len(groups)).tolist()


def _rounded(left: int, whole: int, round_to: int) -> int:
    """The nearest multiple, at least one and at most the whole.

    Example:
        >>> _rounded(5, 12, 8), _rounded(3, 12, 8), _rounded(11, 12, 8), _rounded(0, 12, 1), _rounded(5, 6, 8)
        (8, 8, 8, 1, 6)
    """
    near = max(round(left / round_to), 1) * round_to
    return min(near, whole)


def search(made: Callable[[float], tuple[T, float]], target: float, *, most: float = MOST, steps: int = STEPS) -> T:
    """The least pruned model that reaches a target.

    Args:
        made: a ratio's model, and what it costs as a share of the whole model's cost.
        target: share of the cost that is allowed.
        most: the largest ratio.
        steps: how often the interval of ratios is halved.

    Raises:
        RecipeError: if even the largest ratio does not reach it, with what it reaches.

    Example:
        >>> search(lambda ratio: (ratio, (1 - ratio) ** 2), 0.25, steps=12)  # half of the channels
        0.5000...
    """
    best, cost = made(most)
    if cost > target:
        raise RecipeError(
            f"pruning {most:.0%} of the channels leaves {cost:.1%} of the cost; {target:.1%} is asked for",
            cure="ask for less, keep fewer layers whole, or begin with a smaller student",
        )
    low, high = 0.0, most
    for _ in range(steps):
        middle = (low + high) / 2
        found, cost = made(middle)
        if cost <= target:
            best, high = found, middle
        else:
            low = middle
    return best


__all__ = ["MOST", "choose", "rounding", "search"]
