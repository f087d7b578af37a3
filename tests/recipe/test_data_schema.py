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
