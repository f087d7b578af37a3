"""Changes of color against torchvision's functions, one picture at a time, and what they refuse."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from limbeck.data.order import uniform
from limbeck.data.views import Color, RandAugment, Views, channels, color, randaugment
from limbeck.errors import RecipeError

FACTORS = np.array([0.0, 0.1, 0.7, 1.0, 1.3, 1.9])


def pictures(depth: int, *, size: tuple[int, int] = (11, 14)) -> Tensor:
    """Of 6, as decoded bytes: noise, a ramp, one color, black, white, and two values."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (6, depth, *size), generator=generator)
    noise[1] = torch.linspace(0, 255, size[0] * size[1]).reshape(size).long()
    noise[2:5] = torch.tensor([77, 0, 255])[:, None, None, None]
    noise[5] = 40 + 100 * (noise[5] > 128)
    return noise.float() / 255


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("own", "other"),
    [
        (color.brightness, reference.adjust_brightness),
        (color.contrast, reference.adjust_contrast),
        (color.saturation, reference.adjust_saturation),
        (randaugment.sharpness, reference.adjust_sharpness),
    ],
    ids=["brightness", "contrast", "saturation", "sharpness"],
)
def test_factors_do_what_torchvision_does(depth: int, own: Callable[..., Tensor], other: Callable[..., Tensor]) -> None:
    inputs = pictures(depth)
    expected = torch.stack([other(one, float(factor)) for one, factor in zip(inputs, FACTORS, strict=True)])
    torch.testing.assert_close(own(inputs, FACTORS), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.31, 0.0, 0.05, 1 / 3, 0.5])
def test_hue_is_torchvisions_and_pythons(turns: float) -> None:
    inputs = pictures(3)
    found = color.hue(inputs, np.full(6, turns))
    torch.testing.assert_close(found, reference.adjust_hue(inputs, turns), rtol=0, atol=1e-5)
    for place in range(10):
        red, green, blue = inputs[0, :, place, place].tolist()
        angle, part, value = colorsys.rgb_to_hsv(red, green, blue)
        by_hand = torch.tensor(colorsys.hsv_to_rgb((angle + turns) % 1, part, value))
        torch.testing.assert_close(found[0, :, place, place], by_hand, rtol=0, atol=1e-5)


def test_hue_of_gray_is_the_picture() -> None:
    assert torch.equal(color.hue(pictures(1), np.full(6, 0.3)), pictures(1))
    flat = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(color.hue(flat, np.array([0.3])), flat)


@pytest.mark.parametrize("depth", [1, 3])
def test_posterize_solarize_autocontrast_and_equalize_are_torchvisions(depth: int) -> None:
    inputs = pictures(depth)
    for bits in (4, 5, 6, 7, 8):
        expected = reference.posterize(inputs, bits)
        torch.testing.assert_close(randaugment.posterize(inputs, np.full(6, bits)), expected, rtol=0, atol=1e-7)
    for threshold in (0.0, 0.25, 0.5, 1.0):
        found = randaugment.solarize(inputs, np.full(6, threshold))
        torch.testing.assert_close(found, reference.solarize(inputs, threshold), rtol=0, atol=0)
    torch.testing.assert_close(randaugment.autocontrast(inputs), reference.autocontrast(inputs), rtol=0, atol=1e-6)
    for size in ((11, 14), (40, 37)):  # fewer pixels than 256 leave most pictures as they are
        larger = pictures(depth, size=size)
        expected = torch.stack([reference.equalize((one * 255).round().byte()) for one in larger]).float() / 255
        torch.testing.assert_close(randaugment.equalize(larger), expected, rtol=0, atol=1e-7)


def test_the_mean_of_a_large_picture_is_exact_in_any_batch() -> None:
    """A sum over many pixels is divided among threads when there is one picture and not when there are many."""
    inputs = torch.rand(3, 3, 300, 300)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole = color.contrast(inputs, np.full(3, 0.3))
        alone = [color.contrast(inputs[one : one + 1], np.full(1, 0.3)) for one in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole, torch.cat(alone))
    mean = color.gray(inputs).double().mean((1, 2, 3))
    found = color.contrast(inputs, np.zeros(3))[:, 0, 0, 0]
    torch.testing.assert_close(found.double(), mean, rtol=0, atol=1e-7)


def test_color_draws_its_factors_from_its_channels_in_this_order() -> None:
    inputs, samples = pictures(3), np.arange(6)
    found = Views(color=Color(0.4, 0.3, 0.5, 0.1))(inputs, seed=3, sample=samples, view=2)

    def drawn(channel: int) -> np.ndarray:
        return 2 * uniform(3, samples, 2, channel) - 1

    expected = []
    for at, one in enumerate(inputs):
        one = reference.adjust_brightness(one, 1 + 0.4 * float(drawn(channels.BRIGHTNESS)[at]))
        one = reference.adjust_contrast(one, 1 + 0.3 * float(drawn(channels.CONTRAST)[at]))
        one = reference.adjust_saturation(one, 1 + 0.5 * float(drawn(channels.SATURATION)[at]))
        expected.append(reference.adjust_hue(one, 0.1 * float(drawn(channels.HUE)[at])))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=2e-5)


@pytest.mark.parametrize("views", [Views(color={"hue": 0.1}), Views(randaugment={"ops": 1})], ids=["color", "rand"])
def test_colors_of_other_pictures_are_refused(views: Views) -> None:
    arguments: dict[str, Any] = {"seed": 0, "sample": np.arange(2), "view": 0}
    with pytest.raises(RecipeError, match="4 channels"):
        views(torch.rand(2, 4, 5, 5), **arguments)
    with pytest.raises(RecipeError, match=r"in \[0, 1\], found values from -1"):
        views(torch.rand(2, 3, 5, 5) * 2 - 1.5, **arguments)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"color": {"hue": 0.6}}, "views.color.hue is 0.6, expected 0 to 0.5"),
        ({"color": {"brightness": "0.4"}}, "views.color.brightness"),
        ({"color": {"blueness": 1}}, "views.color is .*brightness, contrast, saturation, hue"),
        ({"color": 0.4}, "views.color is 0.4"),
        ({"randaugment": {"ops": 0}}, "views.randaugment.ops is 0"),
        ({"randaugment": {"ops": 1.5}}, "views.randaugment.ops is 1.5, expected a whole number"),
        ({"randaugment": {"magnitude": 31}}, "views.randaugment.magnitude is 31, expected 0 to 30"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Views(**wrong)


def test_a_mapping_is_as_good_as_the_object_and_no_change_is_none() -> None:
    assert Views(color={"hue": 0.1}) == Views(color=Color(hue=0.1))
    assert Views(randaugment={}) == Views(randaugment=RandAugment(2, 9))
    assert Views(color={}).identity
    assert not Views(randaugment={"magnitude": 0}).identity
