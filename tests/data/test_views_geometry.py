"""Shear, crop, mirror and RandAugment's movements against scipy, torchvision and pictures by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as reference

from limbeck.data.order import uniform
from limbeck.data.views import RandAugment, Views, channels, randaugment
from limbeck.data.views.geometry import window
from limbeck.errors import RecipeError


def moved(image: np.ndarray, matrix: Any, offset: Any = (0, 0), mode: str = "grid-constant") -> np.ndarray:
    """Pixel p of the result is the input at M (p - middle) + middle + offset; (row, column)."""
    matrix, middle = np.asarray(matrix, dtype=float), (np.array(image.shape) - 1) / 2
    start = middle - matrix @ middle + np.asarray(offset, dtype=float)
    return ndimage.affine_transform(image, matrix, start, order=1, mode=mode, cval=0.0)


def image(shape: tuple[int, int] = (11, 16)) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def seen(views: Views, picture: np.ndarray, sample: int) -> np.ndarray:
    inputs = torch.tensor(picture, dtype=torch.float32)[None, None]
    return views(inputs, seed=0, sample=np.array([sample]), view=0)[0, 0].numpy()


@pytest.mark.parametrize("sample", range(4))
def test_shear_slants_about_the_middle_before_turning(sample: int) -> None:
    tan = math.tan(math.radians(30) * (2 * float(uniform(0, sample, 0, channels.SHEAR)) - 1))
    found = seen(Views(shear=30), image(), sample)
    np.testing.assert_allclose(found, moved(image(), [[1, 0], [tan, 1]]), atol=1e-5)
    angle = math.radians(50) * (2 * float(uniform(0, sample, 0, channels.ROTATE)) - 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # rows, columns
    both = moved(image(), turn @ np.array([[1, 0], [tan, 1]]))
    np.testing.assert_allclose(seen(Views(shear=30, rotate=50), image(), sample), both, atol=1e-4)


@pytest.mark.parametrize("shape", [(20, 20), (12, 30)])
def test_a_resized_crop_is_a_part_enlarged(shape: tuple[int, int]) -> None:
    """Bilinear sampling at the pixels' middles of a part, by scipy; its border continues as it is."""
    views, picture = Views(resized_crop=(0.2, 0.9)), image(shape)
    inputs = torch.tensor(picture, dtype=torch.float32)[None, None]
    for sample in range(8):
        area = 0.2 + 0.7 * float(uniform(0, sample, 0, channels.CROP_AREA))
        others = (channels.CROP_RATIO, channels.CROP_X, channels.CROP_Y)
        ratio, x, y = (uniform(0, [sample], 0, channel) for channel in others)
        middle, half = (one[0].numpy() for one in window(inputs, np.array([area]), ratio, (x, y)))
        height, width = shape
        assert half.prod() == pytest.approx(area)
        assert (np.abs(middle) + half <= 1 + 1e-12).all()
        sides = half * (width, height)
        if shape[0] == shape[1]:
            assert 3 / 4 - 1e-9 <= sides[0] / sides[1] <= 4 / 3 + 1e-9
        rows = ((np.arange(height) + 0.5) / height * 2 - 1) * half[1] + middle[1]
        columns = ((np.arange(width) + 0.5) / width * 2 - 1) * half[0] + middle[0]
        at = np.meshgrid((rows + 1) * height / 2 - 0.5, (columns + 1) * width / 2 - 0.5, indexing="ij")
        expected = ndimage.map_coordinates(picture, at, order=1, mode="nearest")
        np.testing.assert_allclose(seen(views, picture, sample), expected, atol=1e-5)


def test_a_crop_of_whole_pixels_is_torchvisions_resized_crop() -> None:
    """Away from the part's own border, where torchvision does not look at what lies beside it."""
    picture = torch.rand(1, 2, 12, 12)
    from limbeck.data.views.geometry import turned, warp

    part = torch.tensor([[(3 + 3) / 6 - 1, (2 + 3) / 6 - 1]]), torch.tensor([[0.5, 0.5]])  # left 3, top 2, 6 × 6
    found = warp(picture, turned(np.zeros(1)), None, part)
    expected = reference.resized_crop(picture, 2, 3, 6, 6, [12, 12], antialias=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (20, 64), (64, 20)])
def test_areas_and_places_of_crops_are_spread_over_their_range(shape: tuple[int, int]) -> None:
    inputs, samples = torch.zeros(4000, 1, *shape), np.arange(4000)
    area = 0.1 + 0.8 * uniform(0, samples, 0, channels.CROP_AREA)
    numbers = [uniform(0, samples, 0, channel) for channel in (channels.CROP_RATIO, channels.CROP_X, channels.CROP_Y)]
    middle, half = (one.numpy() for one in window(inputs, area, numbers[0], (numbers[1], numbers[2])))
    np.testing.assert_allclose(half.prod(1), area)
    assert half.max() <= 1
    assert (np.abs(middle) + half).max() <= 1 + 1e-12
    ratio = np.log(half[:, 0] * shape[1] / (half[:, 1] * shape[0]))
    if shape[0] == shape[1]:
        small = ratio[area < 0.7]  # every shape fits
        assert abs(small.mean()) < 0.02
        assert small.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.05)
    whole = window(inputs[:1], np.ones(1), np.array([0.5]), (np.zeros(1), np.zeros(1)))
    assert whole[1].tolist() == [[1.0, 1.0]]
    assert whole[0].abs().max() == 0


def test_a_crop_of_the_whole_is_the_picture() -> None:
    inputs = torch.rand(5, 3, 9, 13)
    found = Views(resized_crop=(1.0, 1.0))(inputs, seed=0, sample=np.arange(5), view=0)
    torch.testing.assert_close(found, inputs, rtol=0, atol=1e-6)


def test_a_cropped_border_is_not_darkened() -> None:
    found = Views(resized_crop=(0.05, 0.2))(torch.ones(200, 1, 16, 16), seed=0, sample=np.arange(200), view=0)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-6)


def test_flips_are_exact_and_independent_of_each_other() -> None:
    inputs = torch.rand(1, 2, 5, 7).expand(2000, 2, 5, 7)
    found = Views(flip=True, vertical_flip=True)(inputs, seed=0, sample=np.arange(2000), view=0)
    kinds = [inputs[0], inputs[0].flip(2), inputs[0].flip(1), inputs[0].flip(1).flip(2)]
    counts = [int((found == kind).flatten(1).all(1).sum()) for kind in kinds]
    assert sum(counts) == 2000
    assert sum((count - 500) ** 2 / 500 for count in counts) < 16.3  # 3 degrees of freedom, once in a thousand


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_randaugments_movements_are_what_scipy_gives(strength: float) -> None:
    picture = image()
    inputs, one = torch.tensor(picture, dtype=torch.float32)[None, None], np.array([strength])
    angle = math.radians(30) * strength
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    expected = {
        "shear_x": moved(picture, [[1, 0], [0.3 * strength, 1]]),
        "shear_y": moved(picture, [[1, 0.3 * strength], [0, 1]]),
        "translate_x": moved(picture, np.eye(2), (0, 150 / 331 * 16 * strength)),
        "translate_y": moved(picture, np.eye(2), (150 / 331 * 11 * strength, 0)),
        "rotate": moved(picture, turn),
    }
    for name, by_scipy in expected.items():
        found = randaugment.KINDS[name](inputs, one)[0, 0].numpy()
        np.testing.assert_allclose(found, by_scipy, atol=1e-5, err_msg=name)


def test_randaugment_draws_each_operation_equally_often_and_in_both_directions() -> None:
    inputs, samples, found = torch.rand(1, 3, 6, 6).expand(2800, 3, 6, 6), np.arange(2800), {}
    views = RandAugment(1, 20)(inputs, lambda channel: uniform(0, samples, 0, channel))
    for name, operation in randaugment.KINDS.items():
        for sign in (-1.0, 1.0):
            picture = operation(inputs[:1], np.array([sign * 20 / 30]))
            found[name, sign] = int((views == picture).flatten(1).all(1).sum())
    directed = ["shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast"]
    directed.append("sharpness")
    counts = [found[name, -1.0] + (found[name, 1.0] if name in directed else 0) for name in randaugment.KINDS]
    assert sum(counts) == 2800
    assert sum((count - 200) ** 2 / 200 for count in counts) < 34.6  # 13 degrees of freedom, once in a thousand
    assert all(min(found[name, -1.0], found[name, 1.0]) > 60 for name in directed)


def test_randaugments_operations_follow_each_other() -> None:
    inputs, samples = torch.rand(40, 3, 8, 8), np.arange(40)
    found = Views(randaugment={"ops": 3, "magnitude": 12})(inputs, seed=1, sample=samples, view=4)
    names = list(randaugment.KINDS)
    for at in range(40):
        one = inputs[at : at + 1]
        for number in range(3):
            kind, sign = (float(uniform(1, at, 4, channels.RANDAUGMENT + 2 * number + more)) for more in (0, 1))
            one = randaugment.KINDS[names[int(kind * 14)]](one, np.array([0.4 if sign >= 0.5 else -0.4]))
        assert torch.equal(found[at], one[0])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shear": 61}, "views.shear is 61"),
        ({"vertical_flip": 1}, "views.vertical_flip is 1"),
        ({"resized_crop": 0.5}, r"views.resized_crop is 0.5, expected \[least, most\]"),
        ({"resized_crop": [0.5]}, "views.resized_crop"),
        ({"resized_crop": [0.9, 0.1]}, "smaller share first"),
        ({"resized_crop": [0.0, 1.0]}, "views.resized_crop is 0.0, expected 0.01 to 1"),
        ({"mixup": -0.1}, "views.mixup is -0.1"),
        ({"cutmix": math.nan}, "views.cutmix is nan"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Views(**wrong)
