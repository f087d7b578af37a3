"""Which channels are cut: against a count in numpy, and what must hold of every choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.compress.prune.choice import choose, search
from limbeck.compress.prune.groups import Group
from limbeck.errors import RecipeError

WIDTHS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def groups_of(widths: list[int], seed: int, parts: int = 1) -> list[Group]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Group(f"g{number}", (f"g{number}",), parts, torch.rand(width, generator=generator))
        for number, width in enumerate(widths)
    ]


@settings(max_examples=60, deadline=None)
@given(
    WIDTHS, st.integers(0, 99), st.floats(0, 0.99), st.sampled_from([1, 4, 8]), st.sampled_from(["global", "uniform"])
)
def test_what_holds_of_every_choice(widths: list[int], seed: int, ratio: float, round_to: int, scope: str) -> None:
    groups = groups_of(widths, seed)
    found = choose(groups, ratio, scope=scope, round_to=round_to, most=0.9)
    for group in groups:
        gone = found.get(group.name, [])
        left = len(group) - len(gone)
        assert left >= 1
        assert len(set(gone)) == len(gone)
        assert left % round_to == 0 or left == len(group)
        worth = group.scores.numpy()
        rest = np.delete(worth, gone)
        assert not gone or worth[gone].max() <= rest.min()


@settings(max_examples=40, deadline=None)
@given(WIDTHS, st.integers(0, 99), st.floats(0, 0.6))
def test_everywhere_is_a_rank_in_numpy(widths: list[int], seed: int, ratio: float) -> None:
    groups = groups_of(widths, seed)
    scores = np.concatenate([one.scores.numpy() for one in groups])
    count = round(ratio * len(scores))
    edge = np.sort(scores)[count - 1] if count else -1.0
    found = choose(groups, ratio, most=1.0)
    for group in groups:
        asked = int((group.scores.numpy() <= edge).sum())
        assert len(found.get(group.name, [])) == min(asked, len(group) - 1)


def test_more_is_cut_of_what_was_cut_before() -> None:
    groups, before = groups_of([20, 30, 8], 5), dict[str, list[int]]()
    for ratio in np.linspace(0, 0.9, 19):
        now = choose(groups, float(ratio))
        assert all(set(gone) <= set(now[name]) for name, gone in before.items())
        before = now
    assert sum(map(len, before.values())) >= 50


def test_each_part_loses_the_same() -> None:
    (group,) = groups_of([6], 1, parts=3)
    least = int(group.scores.argmin())
    assert choose([group], 0.17, scope="uniform") == {"g0": [least, 6 + least, 12 + least]}


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_would_empty_everything_is_refused(ratio: float) -> None:
    with pytest.raises(RecipeError, match=r"in \[0, 1\)"):
        choose(groups_of([4], 0), ratio)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.5, 3))
def test_the_search_ends_just_within_the_target(target: float, power: float) -> None:
    tried: list[float] = []

    def made(ratio: float) -> tuple[float, float]:
        tried.append(ratio)
        return ratio, (1 - ratio) ** power

    if (1 - 0.95) ** power > target:
        with pytest.raises(RecipeError, match="is asked for"):
            search(made, target)
        return
    found = search(made, target, steps=20)
    assert (1 - found) ** power <= target
    assert (1 - (found - 1e-5)) ** power > target or found < 1e-5
    assert len(tried) == 21
