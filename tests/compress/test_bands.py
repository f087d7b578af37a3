"""Whole pictures from windows, band by band: the same as all at once, and no more held than a band."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from tests.compress.segmenters import WINDOW, convolved, kernel, whole

from limbeck.compress.shipped.bands import bands, softmax, stepped, windows_of
from limbeck.data.windows import blending, places
from limbeck.evaluation.dense.stitching import OVERLAP, stitched

WEIGHTS = kernel()
SIZES = [(16, 24), (17, 25), (5, 7), (40, 9), (9, 61), (41, 67)]


def picture(size: tuple[int, int], seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8)


def say(inputs: Any) -> Any:
    """Logits that depend on the place in the window, so that windows disagree where they overlap."""
    return (convolved(WEIGHTS, inputs) + np.linspace(0, 2, inputs.shape[3])).astype(np.float32)


def joined(call: Any, pixels: Any, overlap: float = OVERLAP) -> Any:
    found = list(bands(call, pixels, WINDOW, overlap))
    assert [top for top, _ in found] == list(np.cumsum([0, *(one.shape[1] for _, one in found)])[:-1])
    return np.concatenate([one for _, one in found], axis=1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bands_are_the_whole_bit_for_bit(size: tuple[int, int]) -> None:
    """The same sums in the same order, with everything held at once."""
    pixels, weight = picture(size), blending(WINDOW)
    filled = np.zeros((3, max(size[0], WINDOW[0]), max(size[1], WINDOW[1])), np.float32)
    filled[:, : size[0], : size[1]] = pixels
    total, weights = np.zeros_like(filled), np.zeros(filled.shape[1:], np.float32)
    for top, left in places(size, WINDOW, stepped(WINDOW, OVERLAP)):
        part = np.s_[..., top : top + WINDOW[0], left : left + WINDOW[1]]
        total[part] += softmax(say(filled[None][part] / np.float32(255)))[0] * weight
        weights[part] += weight
    np.testing.assert_array_equal(joined(say, pixels), (total / weights)[:, : size[0], : size[1]])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_bands_are_what_evaluation_stitches_and_what_plain_numpy_says(size: tuple[int, int], overlap: float) -> None:
    pixels = picture(size, 1)
    evaluated = stitched(lambda x: torch.from_numpy(say(x.numpy())), torch.from_numpy(pixels), WINDOW, overlap=overlap)
    np.testing.assert_allclose(joined(say, pixels, overlap), evaluated.numpy(), atol=1e-6)
    plain = joined(lambda x: convolved(WEIGHTS, x).astype(np.float32), pixels, overlap)
    np.testing.assert_allclose(plain, whole(WEIGHTS, pixels, overlap), atol=1e-6)


def test_a_band_is_given_before_later_windows_are_run() -> None:
    run: list[int] = []
    found = bands(lambda x: run.append(len(x)) or say(x), picture((64, 50)), WINDOW, OVERLAP)  # type: ignore[func-returns-value]
    next(found)
    assert sum(run) == 3  # of one row: at 0, 18 and 26
    assert windows_of((64, 50), WINDOW, OVERLAP) == 15
    assert len(list(found)) == 4
    assert sum(run) == 15


def test_no_more_is_held_than_a_band() -> None:
    """A tall picture of 8 classes: all its probabilities at once would be 8 MB."""
    pixels = picture((8192, 32))
    flat = np.zeros((1, 8, *WINDOW), np.float32)
    tracemalloc.start()
    try:
        for _, shares in bands(lambda x: np.broadcast_to(flat, (len(x), 8, *WINDOW)), pixels, WINDOW, OVERLAP):
            assert shares.shape[1] <= WINDOW[0]
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


def test_it_is_told_how_far_it_is() -> None:
    told: list[int] = []
    list(bands(say, picture((40, 50)), WINDOW, OVERLAP, told.append))
    assert told[-1] == windows_of((40, 50), WINDOW, OVERLAP)
    assert told == sorted(set(told))
