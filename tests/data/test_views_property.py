"""Whatever the views: a picture depends on seed, sample and view, and on nothing else, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.batches import batches
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.data.views.views import _TOGETHER

KINDS: dict[str, dict[str, Any]] = {
    "shift": {"shift": 3},
    "flip": {"flip": True},
    "vertical_flip": {"vertical_flip": True},
    "rotate": {"rotate": 40},
    "scale": {"scale": 0.3},
    "shear": {"shear": 25},
    "resized_crop": {"resized_crop": (0.1, 1.0)},
    "color": {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}},
    "randaugment": {"randaugment": {"ops": 3, "magnitude": 15}},
    "erase": {"erase": 0.8},
}
ALL = {key: value for kind in KINDS.values() for key, value in kind.items()}
MIXING: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.3},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.3, "cutmix": 1.0},
    "all": {**ALL, "mixup": 0.3, "cutmix": 1.0},
}
SHAPES = [(1, 7, 9), (3, 12, 12), (3, 5, 16)]


def pictures(size: int, shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    return torch.rand(size, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [*KINDS, "all"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_view_does_not_depend_on_its_batch(kind: str, data: st.DataObject) -> None:
    views = Views(**KINDS.get(kind, ALL))
    shape, seed = data.draw(st.sampled_from(SHAPES)), data.draw(st.integers(0, 2**31 - 1))
    size = data.draw(st.integers(1, 40))
    inputs = pictures(size, shape, seed)
    samples = np.array(data.draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size)))
    numbers = np.array(data.draw(st.lists(st.integers(0, 2**34), min_size=size, max_size=size)))
    before = inputs.clone()
    whole = views(inputs, seed=seed, sample=samples, view=numbers)
    assert torch.equal(inputs, before)
    assert whole.shape == inputs.shape
    assert whole.dtype == torch.float32
    some = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    part = views(inputs[some], seed=seed, sample=samples[some], view=numbers[some])
    assert torch.equal(part, whole[some])


@pytest.mark.parametrize("kind", MIXING)
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    sampling=st.sampled_from(["none", "balanced"]),
)
def test_a_mixed_view_does_not_depend_on_its_batch(
    kind: str, seed: int, epoch: int, sizes: tuple[int, int], sampling: str
) -> None:
    split = Split(pictures(40, (3, 6, 8), 1), torch.arange(40) % 7 // 5 - (torch.arange(40) == 3).long(), "ab", "train")

    def seen(batch_size: int) -> list[torch.Tensor]:
        arguments: dict[str, Any] = {"seed": seed, "epoch": epoch, "views": Views(**MIXING[kind]), "sampling": sampling}
        found = list(batches(split, batch_size=batch_size, **arguments))
        mixed = [one.mixed for one in found if one.mixed]
        parts = [[one.inputs for one in found], [one.share for one in mixed], [one.partner for one in mixed]]
        return [torch.cat(part) for part in parts]

    for one, other in zip(*map(seen, sizes), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_pictures_that_are_computed_apart_or_by_several_threads_are_the_same(kind: str) -> None:
    """Pictures so large that only a few are computed at once, and that torch divides among threads."""
    views, inputs = Views(**KINDS.get(kind, ALL)), pictures(5, (3, 200, 170), 0)
    assert 5 * inputs[0].numel() > _TOGETHER > 2 * inputs[0].numel()
    arguments: dict[str, Any] = {"seed": 0, "view": 1}
    whole = views(inputs, sample=np.arange(5), **arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for at in range(5):
            assert torch.equal(whole[at : at + 1], views(inputs[at : at + 1], sample=np.array([at]), **arguments))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_does_not_change_the_numbers_of_another(kind: str) -> None:
    """Only a mirrored picture, or half of the others, differs when flips are added."""
    inputs, arguments = pictures(30, (1, 9, 9), 2), {"seed": 4, "sample": np.arange(30), "view": 2}
    flips = {"flip": True} if kind != "flip" else {"vertical_flip": True}
    axis = 3 if kind != "flip" else 2
    one = Views(**KINDS[kind])(inputs, **arguments)
    both = Views(**KINDS[kind], **flips)(inputs, **arguments)
    if kind in ("shift", "flip", "vertical_flip", "rotate", "scale", "shear", "resized_crop"):  # before the mirror
        same = [torch.equal(a, b) or torch.equal(a, b.flip(axis - 1)) for a, b in zip(one, both, strict=True)]
        assert all(same)
    untouched = Views(**flips)(inputs, **arguments) == inputs
    keep = untouched.flatten(1).all(1)
    assert 5 < int(keep.sum()) < 25
    assert torch.equal(one[keep], both[keep])
