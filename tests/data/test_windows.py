"""Windows over a picture: every pixel is covered, or left out as asked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data.windows import blending, places, starts

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.data())
def test_windows_cover_a_side_and_stay_in_it(length: int, window: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, window))
    found = starts(length, window, step)
    seen = np.zeros(max(length, window), dtype=int)
    for at in found:
        seen[at : at + window] += 1
    assert (seen > 0).all()
    assert found == sorted(set(found))
    assert found[-1] == max(length - window, 0)
    if length % window == 0 and step == window:
        assert (seen == 1).all()


@given(SIDES, SIDES, st.data())
def test_what_is_no_whole_window_is_dropped(length: int, window: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, window))
    found = starts(length, window, step, "drop")
    assert found == [at for at in range(0, length, step) if at + window <= length]
    assert len(starts(length, window, step)) - len(found) in {0, 1}


def test_places_go_row_by_row() -> None:
    assert places((5, 7), (2, 3), (2, 3)) == [(r, c) for r in (0, 2, 3) for c in (0, 3, 4)]
    assert places((5, 7), (2, 3), (2, 3), "drop") == [(0, 0), (0, 3), (2, 0), (2, 3)]
    assert places((5, 7), (6, 3), (6, 3), "drop") == []


def test_the_middle_of_a_window_counts_most() -> None:
    weights = blending((5, 4))
    assert weights.shape == (5, 4)
    assert (weights > 0).all()
    assert weights.max() == weights[2, 1] == weights[2, 2] == 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    np.testing.assert_allclose(weights[:, 1], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], rtol=1e-6)
