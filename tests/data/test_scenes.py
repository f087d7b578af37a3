"""Scenes and the patches of them: addresses, counts, what they are worth as a split."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.batches import batches
from limbeck.data.data import few_labels
from limbeck.data.duplicates import common, within
from limbeck.data.normalization import Normalization
from limbeck.data.scenes import IGNORED, Region, Scene, SceneSplit, labels
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import DataError, LimbeckError, RecipeError

CLASSES = ("a", "b", "c")


def scene(seed: int, size: tuple[int, int] = (10, 14), group: str | None = None, channels: int = 3) -> Scene:
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(rng.integers(0, 256, (channels, *size)).astype(np.uint8))
    mask = torch.from_numpy(rng.choice([0, 1, 2, IGNORED], size).astype(np.uint8))
    return Scene.of(f"{group or 'x'}/{seed}", picture, mask, len(CLASSES), group)


def split(*scenes: Scene, name: str = "train", **options: Any) -> SceneSplit:
    return SceneSplit([Region.whole(one) for one in scenes], CLASSES, name, **{"patch": (4, 6), **options})


def test_every_pixel_of_a_sample_is_the_scenes() -> None:
    scenes = [scene(0), scene(1, (9, 7))]
    found = split(*scenes, step=(3, 6))
    inputs, target = found.fetch(torch.arange(len(found)))
    assert (inputs.dtype, target.dtype) == (torch.float32, torch.int64)
    assert len(found) == 3 * 3 + 3 * 2
    for at, (number, top, left) in enumerate(found.rows.tolist()):
        picture, mask = scenes[number].read()
        for row in range(4):
            for column in range(6):
                pixel = picture[:, top + row, left + column]
                assert torch.equal(inputs[at, :, row, column], pixel.float() / 255)
                label = int(mask[top + row, left + column])
                assert target[at, row, column] == (-1 if label == IGNORED else label)


def test_counts_are_of_pixels_and_of_each_pixel_once() -> None:
    scenes = [scene(0), scene(1, (9, 7))]
    found = split(*scenes, step=(1, 1))
    masks = np.concatenate([one.read()[1].numpy().ravel() for one in scenes])
    assert found.class_counts().tolist() == [int((masks == one).sum()) for one in range(3)]
    assert found.ignored == int((masks == IGNORED).sum())
    assert torch.equal(torch.stack(found.region_counts()).sum(0), found.class_counts())
    assert found.labeled == len(found)
    assert found.targets.tolist() == [-1] * len(found)
    part = SceneSplit([Region(scenes[0], 2, 3, (4, 6))], CLASSES, "train", patch=(4, 6))
    inside = scenes[0].read()[1][2:6, 3:9]
    assert part.class_counts().tolist() == [int((inside == one).sum()) for one in range(3)]
    assert torch.equal(part.fetch(torch.tensor([0]))[1][0], labels(inside))


def test_a_selection_keeps_its_patches_and_their_regions() -> None:
    whole = split(scene(0, group="g"), scene(1), scene(2))
    index = torch.tensor([20, 2, 3])
    part = whole.subset(index, "few")
    assert part.name == "few"
    assert [one.scene.name for one in part.regions] == ["g/0", "x/2"]
    assert all(map(torch.equal, part.fetch(torch.arange(3)), whole.fetch(index)))
    assert part.groups == ("x/2", "g", "g")
    assert part.names == tuple((whole.names or ())[at] for at in index.tolist())
    assert int(part.class_counts().sum()) + part.ignored == 2 * 140
    parted = whole.parted([2, 0], "test", step=(2, 3))
    assert [one.scene.name for one in parted.regions] == ["x/2", "g/0"]
    assert len(parted) == 2 * 4 * 4
    assert parted.dense


def test_a_fingerprint_changes_with_all_that_a_sample_depends_on() -> None:
    scenes = [scene(0), scene(1)]
    picture, mask = (one.clone() for one in scenes[1].read())
    picture[0, 0, 0] ^= 1
    brighter = Scene.of("x/1", picture, mask, 3)
    mask[0, 0] = (mask[0, 0] + 1) % 3
    other = Scene.of("x/1", scenes[1].read()[0], mask, 3)
    plain = split(*scenes)
    assert split(*scenes, name="other").fingerprint() == plain.fingerprint()
    changed = [
        split(scenes[0], brighter),
        split(scenes[0], other),
        split(scenes[1], scenes[0]),
        split(*scenes, patch=(6, 4)),
        split(*scenes, step=(2, 6)),
        plain.subset(torch.arange(3)),
        SceneSplit(plain.regions, ("a", "b", "d"), "train", patch=(4, 6)),
    ]
    assert len({one.fingerprint() for one in [plain, *changed]}) == 8


def test_equal_patches_are_found_in_two_splits() -> None:
    one, two = split(scene(0), scene(1)), split(scene(2), scene(1), name="test")
    assert common({"train": one, "test": two}) == {("train", "test"): [(at, at) for at in range(9, 18)]}
    assert within(one) == (0, 0)
    assert within(split(scene(0), scene(0))) == (9, 0)


def test_normalization_is_of_the_samples() -> None:
    found = split(scene(0, (8, 12)), scene(1, (8, 12)))
    pixels = np.concatenate([one.scene.read()[0].reshape(3, -1).numpy() for one in found.regions], axis=1) / 255
    measured = Normalization.measure(found)
    np.testing.assert_allclose(measured.mean, pixels.mean(1), atol=1e-6)
    np.testing.assert_allclose(measured.std, pixels.std(1), atol=1e-6)


def test_batches_are_the_same_in_other_processes_and_any_size() -> None:
    found = split(scene(0, (8, 12)), scene(1, (8, 12)), patch=(4, 4))
    views = Views(flip=True, quarter_turns=True, shift=1)
    here = list(batches(found, batch_size=5, seed=3, views=views))
    there = list(batches(found, batch_size=5, seed=3, views=views, workers=1))
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.target, two.target)
    single = {int(one.index): one for one in batches(found, batch_size=1, seed=3, views=views)}
    for one in here:
        for at, address in enumerate(one.index.tolist()):
            assert torch.equal(one.inputs[at], single[address].inputs[0])
            assert torch.equal(one.target[at], single[address].target[0])


def test_a_split_travels_to_other_processes() -> None:
    found = pickle.loads(pickle.dumps(split(scene(0))))  # noqa: S301
    assert all(map(torch.equal, found.fetch(torch.arange(3)), split(scene(0)).fetch(torch.arange(3))))
    assert copy.copy(found).fingerprint() == split(scene(0)).fingerprint()


def mixed(**views: Any) -> Any:
    return next(batches(split(scene(0)), batch_size=2, views=Views(**views)))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: split(), DataError, "split 'train' holds no picture"),
        (lambda: split(scene(0), scene(1, channels=1)), DataError, "x/0 has 3 channels, x/1 1"),
        (lambda: split(scene(0), patch=(12, 4), edges="drop"), DataError, "a patch of 12×4: the largest is 10×14"),
        (lambda: split(scene(0), step=(0, 1)), RecipeError, "data.overlap is 5 and a patch 4×6"),
        (lambda: split(scene(0), edges="none"), RecipeError, "data.edges is 'none'"),
        (lambda: split(scene(0)).without_labels([0]), DataError, "leave student.labels out"),
        (lambda: few_labels(split(scene(0)), 3, seed=0), RecipeError, "student.labels is about samples with one label"),
        (lambda: split(scene(0)).joined(Split(torch.zeros(2, 3, 4, 6), None, CLASSES, "unlabeled")), DataError,
         "samples of split 'unlabeled' can not be put beside its patches\n  cure: leave unlabeled out"),
        (lambda: next(batches(split(scene(0)), batch_size=2, sampling="balanced")), RecipeError,
         "sampling is 'balanced', which is for samples with one label"),
        (lambda: mixed(mixup=0.2), RecipeError, "views.mixup is for samples with one label"),
        (lambda: mixed(cutmix=1.0), RecipeError, "views.cutmix is for samples with one label"),
        (lambda: mixed(randaugment={"ops": 1}), RecipeError, "views.randaugment is for samples with one label"),
    ],
)  # fmt: skip
def test_what_masks_can_not_have_is_refused_by_name(call: Any, kind: type[LimbeckError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
