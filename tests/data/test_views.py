"""Views: by-hand pictures, and independence of the batch to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from limbeck.data.order import uniform
from limbeck.data.views import Views
from limbeck.errors import RecipeError

ALL = Views(shift=2, flip=True, rotate=25, scale=0.2, erase=0.7)


def one(views: Views, image: Tensor, sample: int, view: int = 0, seed: int = 0) -> Tensor:
    return views(image[None], seed=seed, sample=torch.tensor([sample]), view=view)[0]


@pytest.mark.parametrize(
    "views",
    [Views(shift=3), Views(flip=True), Views(rotate=30), Views(scale=0.3), Views(erase=1.0), ALL],
    ids=["shift", "flip", "rotate", "scale", "erase", "all"],
)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 13)])
def test_a_view_does_not_depend_on_its_batch_to_the_last_bit(views: Views, shape: tuple[int, ...]) -> None:
    inputs, samples = torch.rand(67, *shape), torch.randperm(1000)[:67]
    whole = views(inputs, seed=5, sample=samples, view=3)
    assert whole.shape == inputs.shape
    assert whole.dtype == torch.float32
    assert not torch.equal(whole, inputs)
    alone = [views(inputs[i : i + 1], seed=5, sample=samples[i : i + 1], view=3) for i in range(67)]
    assert torch.equal(whole, torch.cat(alone))
    mixed = torch.randperm(67)
    assert torch.equal(whole[mixed], views(inputs[mixed], seed=5, sample=samples[mixed], view=3))
    several = views(inputs, seed=5, sample=samples, view=torch.arange(67) % 5)
    assert torch.equal(several[3::5], whole[3::5])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(whole, views(inputs, seed=5, sample=samples, view=3))
    finally:
        torch.set_num_threads(threads)


def test_views_differ_by_seed_sample_and_view_and_leave_the_input_alone() -> None:
    image = torch.rand(1, 12, 12)
    before = image.clone()
    seen = [one(ALL, image, sample, view, seed) for sample in (0, 1) for view in (0, 1) for seed in (0, 1)]
    assert len({tuple(view.flatten().tolist()) for view in seen}) == 8
    assert torch.equal(image, before)


def test_a_shift_moves_whole_pixels_and_fills_with_black() -> None:
    image = torch.arange(1.0, 10.0).reshape(1, 3, 3)
    expected = {  # (right, down) -> the picture
        (0, 0): [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        (1, 0): [[0, 1, 2], [0, 4, 5], [0, 7, 8]],
        (-1, 0): [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        (0, 1): [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        (0, -1): [[4, 5, 6], [7, 8, 9], [0, 0, 0]],
        (1, 1): [[0, 0, 0], [0, 1, 2], [0, 4, 5]],
        (-1, -1): [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
        (1, -1): [[0, 4, 5], [0, 7, 8], [0, 0, 0]],
        (-1, 1): [[0, 0, 0], [2, 3, 0], [5, 6, 0]],
    }
    seen = {tuple(one(Views(shift=1), image, sample).flatten().tolist()) for sample in range(200)}
    assert seen == {tuple(float(v) for row in picture for v in row) for picture in expected.values()}


def test_a_shift_is_the_one_that_its_address_says() -> None:
    """Stored teacher outputs rest on this: channel 0 is right, channel 1 is down, whole pixels of a uniform number."""
    image = torch.zeros(1, 9, 9)
    image[0, 4, 4] = 1
    for sample in range(10):
        right, down = (int(7 * float(uniform(2, sample, 5, channel))) - 3 for channel in (0, 1))
        assert one(Views(shift=3), image, sample, view=5, seed=2)[0].nonzero().tolist() == [[4 + down, 4 + right]]


def test_every_shift_is_equally_likely_and_channels_move_together() -> None:
    marker = torch.zeros(3600, 2, 5, 5)
    marker[:, :, 2, 2] = 1
    moved = Views(shift=1)(marker, seed=0, sample=torch.arange(3600), view=0)
    assert torch.equal(moved[:, 0], moved[:, 1])
    counts = moved[:, 0].sum(0)[1:4, 1:4]
    assert counts.sum() == 3600
    assert ((counts - 400) ** 2 / 400).sum() < 26.1  # 8 degrees of freedom, once in a thousand


def test_a_shift_beyond_the_picture_is_black() -> None:
    pictures = Views(shift=9)(torch.ones(300, 1, 2, 2), seed=0, sample=torch.arange(300), view=0)
    assert pictures.sum(dim=(1, 2, 3)).min() == 0


def test_a_flip_mirrors_half_of_the_pictures_left_and_right() -> None:
    image = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    views = Views(flip=True)(image.expand(2000, 1, 2, 3), seed=0, sample=torch.arange(2000), view=0)
    mirrored = (views == torch.tensor([[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]])).flatten(1).all(1)
    same = (views == image).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 880 < int(mirrored.sum()) < 1120


@pytest.mark.parametrize("views", [Views(rotate=40), Views(scale=0.4), Views(rotate=90, scale=0.3)])
@pytest.mark.parametrize("shape", [(15, 15), (9, 16)])
def test_affine_is_what_scipy_gives(views: Views, shape: tuple[int, int]) -> None:
    """Bilinear sampling at the rotated place about the center, in pixels, so that a wide picture is not sheared."""
    image = np.random.default_rng(0).random(shape)
    center = (np.array(shape) - 1) / 2
    for sample in range(5):
        angle = math.radians(views.rotate) * (2 * float(uniform(0, sample, 0, 3)) - 1)
        size = 1 + views.scale * (2 * float(uniform(0, sample, 0, 4)) - 1)
        found = one(views, torch.tensor(image, dtype=torch.float32)[None], sample)[0].numpy()
        fits = []
        for sign in (1, -1):  # clockwise or not is nobody's promise
            cos, sin = math.cos(angle) / size, sign * math.sin(angle) / size
            matrix = np.array([[cos, sin], [-sin, cos]])
            picture = ndimage.affine_transform(
                image, matrix, center - matrix @ center, order=1, mode="grid-constant", cval=0.0
            )
            fits.append(np.abs(found - picture).max())
        assert min(fits) < 1e-4


def test_erasing_blackens_one_rectangle_of_a_part_of_the_pictures() -> None:
    views = Views(erase=0.25)(torch.ones(2000, 2, 20, 20), seed=0, sample=torch.arange(2000), view=0)
    assert torch.equal(views[:, 0], views[:, 1])
    gone = views[:, 0] == 0
    hit = gone.flatten(1).any(1)
    assert abs(int(hit.sum()) - 500) < 80
    tall = gone.any(2).sum(1) > gone.any(1).sum(1)
    wide = gone.any(2).sum(1) < gone.any(1).sum(1)
    assert min(int(tall.sum()), int(wide.sum())) > 150
    for picture in gone[hit]:
        rows, columns = picture.any(1), picture.any(0)
        assert torch.equal(picture, rows[:, None] & columns)
        for side in (rows, columns):  # in one piece
            assert int((side[1:] != side[:-1]).sum()) <= 2
        assert 0.01 < float(picture.float().mean()) < 0.25


def test_one_kind_of_view_does_not_change_the_draws_of_another() -> None:
    image = torch.rand(1, 8, 8)
    for sample in range(20):
        both, shift = one(Views(shift=2, flip=True), image, sample), one(Views(shift=2), image, sample)
        assert torch.equal(both, shift) or torch.equal(both, shift.flip(2))


def test_no_views_give_the_input_itself() -> None:
    image = torch.rand(2, 5)
    assert Views()(image, seed=0, sample=torch.arange(2), view=0) is image
    assert Views().identity
    assert not ALL.identity


@pytest.mark.parametrize(
    "wrong",
    [
        {"shift": -1}, {"shift": 1.5}, {"shift": True}, {"shift": "2"}, {"flip": 1}, {"flip": "yes"}, {"rotate": 181},
        {"rotate": -1}, {"rotate": math.nan}, {"scale": 1.0}, {"scale": "0.1"}, {"erase": 1.1}, {"erase": None},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"views.{next(iter(wrong))}"):
        Views(**wrong)


def test_views_of_vectors_are_refused() -> None:
    with pytest.raises(RecipeError, match="images"):
        Views(shift=1)(torch.rand(3, 7), seed=0, sample=torch.arange(3), view=0)
