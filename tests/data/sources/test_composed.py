"""Pictures composed of digits: their masks are exact, no digit is in two splits, and all of it can be drawn again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from limbeck.data.data import Data
from limbeck.data.scenes import SceneSplit
from limbeck.data.sources import composed as module
from limbeck.data.sources.composed import CLASSES, composed, enlarged
from limbeck.data.sources.named import load
from limbeck.errors import RecipeError

GROUPS = {"closed": {0, 6, 8, 9}, "straight": {1, 4, 7}, "open": {2, 3, 5}}
DIGITS: Any = load_digits()
IMAGES, LABELS = DIGITS.images / 16.0, DIGITS.target


@pytest.fixture(scope="module")
def data() -> Data:
    return load("segmentation_digits")


def test_the_set_is_what_its_page_says(data: Data) -> None:
    assert data.classes == CLASSES == ("background", *GROUPS)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 300, "validation": 60, "test": 120}
    assert data.shape == (3, 64, 64)
    assert isinstance(data.train, SceneSplit)
    for split in data.splits.values():
        inputs, target = split.fetch(torch.arange(4))
        assert (tuple(inputs.shape), tuple(target.shape)) == ((4, 3, 64, 64), (4, 64, 64))
        shares = split.class_counts() / split.class_counts().sum()
        assert split.class_counts().sum() == len(split) * 64 * 64  # every pixel has a label
        assert 0.7 < shares[0] < 0.9
        assert (shares[1:] > 0.03).all()


def test_no_digit_is_in_two_splits() -> None:
    rows = module._digits(0)[2]
    assert {name: len(one) for name, one in rows.items()} == {"test": 540, "validation": 252, "train": 1005}
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(1797))
    for one in rows.values():  # as often as in all of them
        assert np.abs(np.bincount(LABELS[one]) / len(one) - np.bincount(LABELS) / 1797).max() < 0.005


def test_a_seed_draws_the_same_set_again_and_another_one_another(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PICTURES", {"train": 5, "validation": 1, "test": 1})
    again, other = module.compose(0), module.compose(1)
    few = data.train.subset(torch.arange(5))
    assert torch.equal(again["train"].fetch(torch.arange(5))[0], few.fetch(torch.arange(5))[0])
    assert torch.equal(again["train"].fetch(torch.arange(5))[1], few.fetch(torch.arange(5))[1])
    assert other["train"].fingerprint() != again["train"].fingerprint() == module.compose(0)["train"].fingerprint()
    assert not torch.equal(again["validation"].fetch(torch.tensor([0]))[0], few.fetch(torch.tensor([0]))[0])


def test_a_mask_is_where_ink_is_and_nowhere_else() -> None:
    """The same address with blank paper instead of digits shows what the digits changed."""
    rows, inside = np.arange(1797), 0
    for at in range(20):
        picture, mask = composed(IMAGES, LABELS, rows, (3, 0, at))
        blank, none = composed(np.zeros_like(IMAGES), LABELS, rows, (3, 0, at))
        changed = (picture != blank).any(axis=0)
        assert not none.any()
        assert not (changed & (mask == 0)).any()
        assert changed[mask > 0].mean() > 0.95  # by chance a color is the background's
        inside += int((mask > 0).sum())
    assert inside > 20 * 300


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_has_the_class_of_its_shape(digit: int) -> None:
    expected = next(CLASSES.index(name) for name, digits in GROUPS.items() if digit in digits)
    picture, mask = composed(IMAGES, LABELS, np.flatnonzero(digit == LABELS), (0, 0, 1))
    assert (picture.shape, picture.dtype, mask.shape, mask.dtype) == ((3, 64, 64), np.uint8, (64, 64), np.uint8)
    assert set(np.unique(mask).tolist()) == {0, expected}


@pytest.mark.parametrize("side", [16, 17, 28])
def test_enlarging_is_torchs(side: int) -> None:
    wanted = interpolate(torch.from_numpy(IMAGES[:3])[None], size=(side, side), mode="bilinear")[0]
    for image, one in zip(IMAGES, wanted, strict=False):
        np.testing.assert_allclose(enlarged(image, side), one.numpy(), atol=1e-12)


def test_its_splits_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PICTURES", {"train": 2, "validation": 1, "test": 1})
    with pytest.raises(RecipeError, match=r"data.test is 0.5, but 'segmentation_digits' has a test split of its own"):
        load("segmentation_digits", test=0.5)
