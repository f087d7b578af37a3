"""Whole pictures from windows against a second implementation in numpy, and what must not depend on windows at all."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.errors import ModelError, NumericsError
from limbeck.evaluation.dense.reading import read, read_module, read_teacher
from limbeck.evaluation.dense.stitching import bands, stitched
from limbeck.teachers import ModuleTeacher

SIZES = [(8, 8), (9, 8), (8, 9), (19, 23), (5, 30), (3, 2), (16, 17), (25, 7)]


def picture(size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randint(256, (3, *size), generator=torch.Generator().manual_seed(seed)).byte()


def own(x: Tensor) -> Tensor:
    """Logits of a pixel from the pixel alone."""
    return torch.stack([x[:, 0] * 3 - 1, x[:, 1] * 2, x[:, 2] - x[:, 0]], dim=1)


def placed(x: Tensor) -> Tensor:
    """Logits that depend on the place in the window: windows disagree where they overlap."""
    down, across = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return torch.stack([x[:, 0] * down, x[:, 1] * across.float(), x.mean(1)], dim=1)


def by_hand(call: Callable[[Tensor], Tensor], pixels: Tensor, window: tuple[int, int], overlap: float) -> Any:
    """Window by window in numpy; the weight falls linearly from the middle to the edges."""
    high, wide = pixels.shape[1:]
    tall, broad = max(high, window[0]), max(wide, window[1])
    padded = np.zeros((3, tall, broad), dtype=np.float32)
    padded[:, :high, :wide] = pixels.numpy() / np.float32(255)
    step = [max(round(side * (1 - overlap)), 1) for side in window]
    tops = sorted({min(at, tall - window[0]) for at in range(0, tall - 1 + step[0], step[0])})
    lefts = sorted({min(at, broad - window[1]) for at in range(0, broad - 1 + step[1], step[1])})
    down, across = (np.array([min(at + 1, side - at) for at in range(side)]) for side in window)
    weight, total, weights = np.outer(down, across), 0.0, np.zeros((tall, broad))
    for top in tops:
        for left in lefts:
            part = padded[:, top : top + window[0], left : left + window[1]]
            logits = call(torch.from_numpy(part[None].copy()))[0].double().numpy()
            shares = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
            whole = np.zeros((len(shares), tall, broad))
            whole[:, top : top + window[0], left : left + window[1]] = shares * weight
            total = total + whole
            weights[top : top + window[0], left : left + window[1]] += weight
    return (total / weights)[:, :high, :wide]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", SIZES)
def test_stitching_is_what_numpy_gives_window_by_window(size: tuple[int, int], overlap: float) -> None:
    window = (8, 7)
    found = stitched(placed, picture(size), window, overlap=overlap)
    assert found.shape == (3, *size)
    assert found.numpy() == pytest.approx(by_hand(placed, picture(size), window, overlap), abs=2e-6)
    assert found.sum(0).numpy() == pytest.approx(1.0, abs=1e-5)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.0, 0.25, 0.6]))
@settings(max_examples=15, deadline=None)
def test_a_model_of_single_pixels_gives_what_it_gives_for_the_whole(
    high: int, wide: int, tall: int, broad: int, overlap: float
) -> None:
    pixels = picture((high, wide), seed=high * 31 + wide)
    whole = torch.softmax(own(pixels[None] / 255), dim=1)[0]
    assert torch.allclose(stitched(own, pixels, (tall, broad), overlap=overlap), whole, atol=1e-6)
    parts = list(bands(own, pixels, (tall, broad), overlap=overlap))
    assert [top for top, _ in parts] == np.cumsum([0, *(one.shape[1] for _, one in parts)])[:-1].tolist()
    assert max(one.shape[1] for _, one in parts) <= tall


def test_a_convolution_gives_what_it_gives_for_the_whole_wherever_windows_see_its_surroundings() -> None:
    """A window's outermost row is seen without its neighbors; a share of the blend it has all the same."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    pixels, window = picture((8, 22)), (8, 10)
    with torch.no_grad():
        whole = torch.softmax(layer(pixels[None] / 255), dim=1)[0]
        found = stitched(layer, pixels, window, overlap=0.4)  # windows begin at 0, 6, 12
    sees = [at for at in range(22) if all(at not in (left - 1 + 1, left + 9) or at in (0, 21) for left in (0, 6, 12))]
    assert sees == [*range(6), 7, 8, 10, 11, 13, 14, *range(16, 22)]
    assert torch.allclose(found[:, :, sees], whole[:, :, sees], atol=1e-6)
    assert not torch.allclose(found, whole, atol=1e-4)


def test_a_constant_model_gives_the_constant_for_every_size() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0]).view(1, 3, 1, 1)
    for size in SIZES:
        found = stitched(lambda x: logits.expand(len(x), 3, *x.shape[2:]), picture(size), (8, 8))
        assert torch.allclose(found, torch.softmax(logits, 1)[0].expand(3, *size), atol=1e-6)


# ---------------------------------------------------------------- splits


def split(*sizes: tuple[int, int], patch: tuple[int, int] = (8, 8), classes: int = 3) -> SceneSplit:
    scenes = []
    for number, size in enumerate(sizes):
        mask = torch.randint(classes, size, generator=torch.Generator().manual_seed(number)).byte()
        scenes.append(Scene.of(f"p{number}", picture(size, number), mask, classes))
    return SceneSplit([Region.whole(one) for one in scenes], [f"c{at}" for at in range(classes)], "test", patch=patch)


def test_a_reading_has_the_labels_of_every_region_whatever_its_size() -> None:
    made = split(*SIZES)
    said = read(own, made)
    for number, region in enumerate(made.regions):
        pixels, mask = region.read()
        guess = own(pixels[None] / 255)[0].argmax(0)
        assert torch.equal(said.labels[number].long(), guess)
        assert int(said.tally.margins[number, 0].sum()) == int((guess == mask).sum())
        assert int(said.tally.margins[number, 1].sum()) == mask.numel()
    assert read(own, made, labels=False).labels == []


class Viewing(nn.Module):
    """Refuses channels-last; normalizes by its batch in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.first(inputs.view(-1).view(inputs.shape)))


def test_a_module_is_asked_in_eval_mode_with_its_preparation_and_left_as_it_was() -> None:
    module, made = Viewing().train(), split((9, 12))
    said = read_module(module, lambda x: 2 * x, made)
    assert module.training
    assert module.norm.num_batches_tracked == 0
    with torch.no_grad():
        expected = module.eval()(2 * (made.regions[0].read()[0][None] / 255))[0].argmax(0)
    assert torch.equal(said.labels[0].long(), expected)
    heard = read_teacher(ModuleTeacher(module, lambda x: 2 * x), made)  # type: ignore[arg-type]
    assert torch.equal(heard.labels[0], said.labels[0])


def test_what_is_not_a_number_names_its_region() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x.mean(dim=(1, 2, 3), keepdim=True) > 0, torch.full_like(x, torch.nan), x)

    made = split((8, 8), (9, 9))
    with pytest.raises(NumericsError, match="not finite for p0 of split 'test'"):
        read(broken, made)


def test_other_classes_and_answers_for_whole_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="tells 2 classes apart, split 'test' has 3"):
        read(lambda x: x[:, :2], split((8, 8)))
    with pytest.raises(ModelError, match=r"gives logits \(1, 3\), not one a pixel"):
        read(lambda x: x.mean(dim=(2, 3)), split((8, 8)))
    with pytest.raises(ModelError, match=r"gives logits \(1, 3, 4, 4\)"):
        read(lambda x: x[..., ::2, ::2], split((8, 8)))


# ---------------------------------------------------------------- memory


def numbers_kept(said: Any) -> int:
    return sum(one.numel() * one.element_size() for one in said.tensors().values())


def test_of_a_picture_is_kept_a_byte_a_pixel_and_three_counts_a_class() -> None:
    few, many = (read(own, split(*[(16, 16)] * count)) for count in (2, 6))
    assert numbers_kept(many) - numbers_kept(few) == 4 * (16 * 16 + 3 * 3 * 8 + 8)
    bare = [numbers_kept(read(own, split(*[(16, 16)] * count), labels=False)) for count in (2, 6)]
    assert bare[1] - bare[0] == 4 * (3 * 3 * 8 + 8)


def test_no_logits_stay_behind() -> None:
    """While a model is asked, at most its last answer is alive."""
    answers, alive = list[weakref.ref[Tensor]](), list[int]()

    def watching(x: Tensor) -> Tensor:
        alive.append(sum(one() is not None for one in answers))
        found = own(x)
        answers.append(weakref.ref(found))
        return found

    read(watching, split(*[(8, 8)] * 6))
    assert max(alive) <= 1
    assert len(alive) == 6


def test_bands_of_a_tall_picture_hold_no_more_than_a_window_s_rows() -> None:
    shapes = [tuple(one.shape) for _, one in bands(own, picture((200, 9)), (8, 8))]
    assert len(shapes) > 20
    assert max(rows for _, rows, _ in shapes) == 8
    assert sum(rows for _, rows, _ in shapes) == 200
