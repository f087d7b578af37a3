"""The doctor over data with masks: pictures on both sides, missing classes, and models that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.scenery import COLORS, scenery, segmenting
from torch import Tensor, nn

import limbeck
from limbeck.data import Data, load
from limbeck.data.normalization import Normalization
from limbeck.data.scenes import IGNORED, Region, Scene, SceneSplit
from limbeck.doctor.finding import Finding
from limbeck.doctor.scenes import about_scenes
from limbeck.doctor.splits import groups
from limbeck.models.unet import UNet
from limbeck.pipeline.examine import examine_recipe
from limbeck.teachers import ModuleTeacher

CLASSES = ("land", "road", "water")


def scene(name: str, *, group: str | None = None, classes: Sequence[int] = (0, 1, 2), ignored: int = 0) -> Scene:
    """A picture of 100 pixels in rows of its classes, the first ones without a label."""
    mask = torch.tensor(classes).repeat(100)[:100].byte()
    mask[:ignored] = IGNORED
    return Scene.of(name, torch.zeros(3, 10, 10).byte(), mask.view(10, 10), 3, group)


def split(name: str, *regions: Scene | Region) -> SceneSplit:
    whole = [Region.whole(one) if isinstance(one, Scene) else one for one in regions]
    return SceneSplit(whole, CLASSES, name, patch=(5, 5))


def about(*splits: SceneSplit) -> list[tuple[str, str]]:
    found = about_scenes({one.name: one for one in splits})
    assert all(one.message and one.cause and one.cure for one in found)
    return [(one.code, one.severity) for one in found]


def codes(found: list[Finding]) -> list[str]:
    return [one.code for one in found if one.code != "data_split_made"]


def test_splits_of_other_pictures_with_all_classes_are_healthy() -> None:
    made = [
        split("train", scene("a"), scene("b", ignored=20)),
        split("validation", scene("c")),
        split("test", scene("d")),
    ]
    assert about(*made) == []
    assert groups({one.name: one for one in made}) == []


def test_patches_of_one_picture_on_both_sides_leak() -> None:
    shared, own = scene("a", group="tile 1"), scene("b", group="tile 2")
    train = split("train", Region(shared, 0, 0, (5, 10)), own)
    test = split("test", Region(shared, 5, 0, (5, 5)), Region(shared, 5, 5, (5, 5)), scene("c", group="tile 1"))
    found = about_scenes({"train": train, "test": test})
    assert [(one.code, one.severity) for one in found] == [("split_leaky", "warning")]  # and not the tile too
    evidence = {"splits": ["train", "test"], "pictures": 1, "regions": 2, "examples": ["a"]}
    assert found[0].evidence == evidence


def test_pictures_of_a_tile_on_both_sides_are_told_as_what_they_are() -> None:
    train = split("train", scene("a", group="tile 1"), scene("b", group="tile 2"))
    test = split("test", scene("c", group="tile 1"))
    assert about(train, test) == [("group_overlap", "info")]
    assert about(train, split("test", scene("c", group="tile 3"))) == []
    folder = [split(name, scene(name, group="all")) for name in ("train", "test")]
    assert about(*folder) == []  # a folder that holds everything is no group
    assert groups({"train": train, "test": test}) == []  # told once


def test_a_class_that_a_split_lacks() -> None:
    train, test = split("train", scene("a", classes=[0, 1])), split("test", scene("b", classes=[2, 0]))
    found = about_scenes({"train": train, "test": test})
    assert [(one.code, one.severity) for one in found] == [("class_absent", "warning"), ("class_absent", "info")]
    assert [one.evidence["classes"] for one in found] == [["water"], ["road"]]
    assert "water: it can not be learned" in found[0].message


@pytest.mark.parametrize(("ignored", "told"), [(20, []), (21, [("many_ignored", "warning")])])
def test_more_than_a_fifth_without_a_label(ignored: int, told: list[Any]) -> None:
    assert about(split("train", scene("a", ignored=ignored))) == told


# ---------------------------------------------------------------- whole experiments, before they are run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenery(tmp_path_factory.mktemp("scenery"))


@pytest.fixture(scope="module")
def data(root: Path) -> Data:
    return load("segmentation_folder", root=root, colors=COLORS, patch=16, validation=1, test=1)


class Seeing(nn.Module):
    """Tells the classes of the scenery by their colors: the nearest of three."""

    def __init__(self) -> None:
        super().__init__()
        colors = torch.tensor([[60.0, 140, 60], [40, 60, 180], [190, 70, 50]]) / 255
        self.layer = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.layer.weight.copy_(40 * colors[:, :, None, None])
            self.layer.bias.copy_(-20 * (colors**2).sum(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class Softmaxed(Seeing):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).softmax(1)


def unet(width: int = 2, classes: int = 3) -> UNet:
    torch.manual_seed(width)
    return UNet((3, 16, 16), classes, width=width)


def examined(teacher: Any, data: Data, student: Any = None) -> list[Finding]:
    return limbeck.examine(ModuleTeacher(teacher, Normalization.none(3)), student or unet(), data)


def test_a_teacher_that_sees_and_one_that_says_one_class(data: Data) -> None:
    assert "teacher_near_majority" not in codes(examined(Seeing(), data))
    blind = Seeing()
    with torch.no_grad():
        blind.layer.bias.copy_(torch.tensor([1000.0, 0.0, 0.0]))
    found = examined(blind, data)
    assert {"constant_predictor", "teacher_near_majority"} <= set(codes(found))
    assert "100.0 % of the validation pixels" in next(one for one in found if one.code == "constant_predictor").message


def test_a_teacher_that_ends_in_a_softmax_is_refused(data: Data) -> None:
    found = examined(Softmaxed(), data)
    assert found[0].severity == "error"
    assert "ends in a softmax" in found[0].message


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_another_number_of_classes_is_an_error(data: Data, role: str) -> None:
    wrong = unet(classes=5)
    found = examined(wrong, data) if role == "teacher" else examined(Seeing(), data, wrong)
    assert (found[0].code, found[0].severity) == ("class_count", "error")
    assert found[0].message == f"the {role} gives 5 logits, the data have 3 classes"


def test_a_recipe_with_a_student_as_large_as_its_teacher(root: Path) -> None:
    found = examine_recipe(segmenting(root, **{"student.options": {"width": 3}}))
    assert {"student_not_smaller", "teacher_untrained"} <= set(codes(found))
    assert [one for one in found if one.severity == "error"] == []
    assert "student_not_smaller" not in codes(examine_recipe(segmenting(root)))


def test_a_recipe_divided_by_patches_is_leaky(root: Path) -> None:
    found = examine_recipe(segmenting(root, **{"data.split_by": "patch"}))
    assert codes(found).count("split_leaky") >= 1
    assert "split_leaky" not in codes(examine_recipe(segmenting(root)))


def test_a_picture_that_two_splits_hold_is_found(root: Path, tmp_path: Path) -> None:
    """One picture in two files; and pictures of one color alone, which are alike patch by patch."""
    other = tmp_path / "twice"
    shutil.copytree(root, other)
    for folder in ("images", "masks"):
        shutil.copy(other / folder / "0.png", other / folder / "copy.png")
    held = {"validation": ["1"], "test": ["copy"]}
    found = examine_recipe(segmenting(other, **{"data.held_out": held, "data.validation": None, "data.test": None}))
    twice = next(one for one in found if one.code == "overlap")
    assert twice.evidence["splits"] == ["train", "test"]
    assert twice.evidence["samples"] == 4  # patches of 16 x 16 in a picture of 32 x 32
    assert twice.severity == "warning"


def test_a_mask_of_one_class_leaves_the_others_out(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "land"
    shutil.copytree(root, other)
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(other / "masks" / "5.png")
    held = {"validation": ["1"], "test": ["5"]}
    found = examine_recipe(segmenting(other, **{"data.held_out": held, "data.validation": None, "data.test": None}))
    lacking = next(one for one in found if one.code == "class_absent")
    assert (lacking.evidence["split"], lacking.evidence["classes"]) == ("test", ["water", "roof"])
