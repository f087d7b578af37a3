"""A recipe's keys about data: each mistake is answered in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.errors import RecipeError
from limbeck.recipe.recipe import Recipe

MODEL = {"model": "limbeck/cnn5", "epochs": 1}


def recipe(**data: Any) -> Recipe:
    whole = {"source": "image_csv", "root": "a", "table": "a.csv", "size": 32, **data}
    given = {key: value for key, value in whole.items() if value is not None}
    return Recipe.parse({"name": "a", "task": "classification", "data": given, "teacher": MODEL, "student": MODEL})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "image_fodler"}, "did you mean 'image_folder'?"),
        ({"root": None}, "source image_csv needs the key 'root'"),
        ({"table": None}, "source image_csv needs the key 'table'"),
        ({"size": None}, "source image_csv needs the key 'size'"),
        ({"source": "cifar10", "root": None, "table": None, "size": None}, "cifar-10-batches-bin or -py"),
        ({"source": "image_folder"}, "source image_folder has no key 'table'; it is for image_csv"),
        ({"source": "digits", "table": None}, "source digits has no key 'size'; it is for image_csv and image_folder"),
        ({"size": [1, 2, 3]}, "expected the side of a square"),
        ({"size": 0}, "expected the side of a square"),
        ({"columns": {"lable": "a"}}, "data.columns.lable: unknown key; did you mean 'label'?"),
        ({"splits": {"tets": "a"}}, "data.splits.tets: unknown key; did you mean 'test'?"),
        ({"channels": 2}, "expected 1, 3 or 4"),
        ({"skip": 1.0}, "expected less than 1"),
        ({"duplicates": "keep"}, "expected 'report', 'drop' or 'refuse'"),
        ({"cache": 1}, "expected auto, true or false"),
        ({"fit": "stretch"}, "expected 'crop' or 'whole'"),
        ({"slices": "scanner"}, "expected a list"),
        ({"group": ""}, "data.group"),
    ],
)
def test_a_mistake_about_pictures_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**change)
    assert message in str(caught.value)


def test_what_is_said_in_full_is_the_same_recipe() -> None:
    brief = recipe(splits={"test": "val"}, columns={"label": "class"}, size=[32, 40])
    full = brief.to_dict()
    assert Recipe.parse(full).to_dict() == full
    assert full["data"]["columns"] == {"file": "file", "label": "class", "split": None}
    assert (full["data"]["skip"], full["data"]["duplicates"], full["data"]["fit"]) == (0.001, "report", "crop")


def test_the_examples_of_the_page_on_data_are_recipes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    found = [yaml.safe_load(block) for block in blocks]
    whole = [block["data"] for block in found if "data" in block]
    assert [one["source"] for one in whole] == ["image_folder", "image_csv"]
    for one in [*whole, {**whole[0], **found[1]}]:
        Recipe.parse({"name": "a", "task": "classification", "data": one, "teacher": MODEL, "student": MODEL})


def masked(**data: Any) -> Recipe:
    colors = {"land": "#8429F6", "water": [226, 169, 41]}
    whole = {"source": "segmentation_folder", "root": "a", "colors": colors, **data}
    given = {key: value for key, value in whole.items() if value is not None}
    unet = {"model": "limbeck/unet", "epochs": 1}
    return Recipe.parse({"name": "a", "task": "segmentation", "data": given, "teacher": unet, "student": unet})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "segmentation_folders"}, "did you mean 'segmentation_folder'?"),
        ({"root": None}, "source segmentation_folder needs the key 'root': the folder of pictures and masks"),
        ({"colors": None}, "source segmentation_folder needs the key 'colors'"),
        ({"colors": {"land": "#000000"}}, "source segmentation_folder needs the key 'colors'"),
        ({"colors": {"a": "#00000", "b": 1}}, "data.colors.a"),
        ({"colors": {"a": [0, 0, 256], "b": 1}}, "data.colors.a"),
        ({"colors": {"a": -1, "b": 1}}, "data.colors.a"),
        ({"patch": [1, 2, 3]}, "data.patch: expected the side of a square"),
        ({"overlap": -1}, "data.overlap: expected at least 0"),
        ({"edges": "cut"}, "data.edges: expected 'cover' or 'drop'"),
        ({"split_by": "tile"}, "data.split_by: expected 'image', 'patch' or 'group'"),
        ({"held_out": {"tets": ["a"]}}, "data.held_out.tets: unknown key; did you mean 'test'?"),
        ({"held_out": {"test": []}}, "data.held_out.test"),
        ({"mask_suffix": ""}, "data.mask_suffix"),
        ({"size": 32}, "source segmentation_folder has no key 'size'"),
        ({"skip": 0.5}, "source segmentation_folder has no key 'skip'"),
        ({"source": "segmentation_digits", "root": None}, "source segmentation_digits has no key 'colors'"),
    ],
)
def test_a_mistake_about_masks_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        masked(**change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch", 64),
        ("overlap", 8),
        ("mask_suffix", "_mask"),
        ("edges", "drop"),
        ("split_by", "patch"),
        ("images", "a"),
    ],
)
def test_keys_of_masks_are_of_masks_only(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"source image_csv has no key '{key}'; it is for segmentation_folder"):
        recipe(**{key: value})
    assert masked(**{key: value}).to_dict()["data"][key] == value


def test_what_is_said_of_masks_in_full_is_the_same_recipe() -> None:
    brief = masked(held_out={"test": ["*_3"]}, ignore=["water"], cache=False, workers=2, colors={
        "land": ["#8429F6", [1, 2, 3]], "water": "9b9b9b", "wood": [0, 0, 1]})  # fmt: skip
    full = brief.to_dict()
    assert Recipe.parse(full).to_dict() == full
    assert full["data"]["colors"]["land"] == ["#8429F6", [1, 2, 3]]
    assert full["data"]["held_out"] == {"validation": None, "test": ["*_3"]}
    assert (full["data"]["patch"], full["data"]["edges"], full["data"]["split_by"]) == (256, "cover", "image")
    digits = {"source": "segmentation_digits", "root": None, "colors": None}
    assert masked(**digits).to_dict()["data"]["source"] == "segmentation_digits"
