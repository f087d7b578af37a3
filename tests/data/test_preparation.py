"""Preparation: Pillow's resize, then the model's own normalization."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import RecipeError

PLAIN = Normalization.none(1)


@pytest.mark.parametrize("size", [(5, 7), (20, 13), (41, 6), (12, 30)])
def test_the_resize_is_pillows_bilinear(size: tuple[int, int]) -> None:
    """Smaller, larger, and one of each: Pillow's own implementation of the same filter, on float pixels."""
    image = np.random.default_rng(0).random((16, 24), dtype=np.float32)
    expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    found = Preparation(PLAIN, size)(torch.from_numpy(image)[None, None])
    assert found.shape == (1, 1, *size)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-5)


def test_a_shrunk_image_keeps_its_mean() -> None:
    """Without antialias every third pixel of a fine pattern would be picked: all of one color."""
    stripes = (torch.arange(24) % 3 == 0).float().expand(1, 1, 24, 24)
    found = Preparation(PLAIN, (8, 8))(stripes)
    torch.testing.assert_close(found[..., 1:-1], torch.full((1, 1, 8, 6), 1 / 3), atol=0.05, rtol=0)


def test_the_size_comes_before_the_normalization() -> None:
    normalization = Normalization((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    found = Preparation(normalization, (2, 2))(torch.ones(4, 3, 6, 6))
    assert found.shape == (4, 3, 2, 2)
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_inputs_of_the_right_size_are_left_as_they_are() -> None:
    inputs = torch.rand(2, 1, 8, 8)
    assert torch.equal(Preparation(PLAIN, (8, 8))(inputs), inputs)
    assert torch.equal(Preparation(PLAIN)(inputs), inputs)
    assert Preparation(PLAIN).shape((5,)) == (5,)


def test_stages_of_other_sizes_have_other_keys() -> None:
    told = [json.dumps(Preparation(PLAIN, size).to_dict()) for size in (None, (8, 8), (8, 9))]
    assert len(set(told)) == 3
    assert Preparation(PLAIN, (8, 8)) == Preparation(PLAIN, (8, 8))


def test_what_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(RecipeError, match="normalization has 3 channels, the data 1"):
        Preparation(Normalization((0.5,) * 3, (0.5,) * 3)).shape((1, 8, 8))
    with pytest.raises(RecipeError, match="input_size is for images"):
        Preparation(PLAIN, (8, 8)).shape((12,))
