"""The page of methods: what its table says is what the losses declare, and its objectives are such."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import limbeck
from limbeck.losses import TABLE, declared
from limbeck.objective import Objective
from limbeck.objective.signatures import EMPTY, built, called
from limbeck.recipe.reading import read_text
from limbeck.recipe.recipe import Recipe

PAGE = Path(limbeck.__file__).parents[2] / "docs" / "methods.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
ROWS = {
    match[1]: [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in TEXT.splitlines()
    if (match := re.match(r"\| `(\w+)` \|", line))
}
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.S | re.M)


def needs(name: str) -> str:
    """What a loss needs, in the table's words, from what it declares and takes."""
    loss, says, takes = TABLE[name], declared(TABLE[name]), called(TABLE[name])
    found = ["no teacher"] if "teacher" not in takes else []
    found += ["labels"] if "target" in takes and takes["target"].default is EMPTY else []
    found += ["index"] if "index" in takes else []
    found += [f"{says.classes} classes"] if says.classes > 2 else []
    found += ["maps"] if says.dense else []
    found += ["adapter"] if says.adapted else []
    found += [f"batch of {says.batch}" if says.batch > 1 else "batch"] if says.relational else []
    found += ["trained parts"] if built(loss) else []
    found += ["memory"] if hasattr(loss, "after_step") else []
    return ", ".join(found) or "–"


def test_the_table_names_every_loss_in_the_order_of_recipes() -> None:
    assert list(ROWS) == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_row_says_what_the_loss_declares(name: str) -> None:
    _, method, site, weight, need, cost, _ = ROWS[name]
    assert site == declared(TABLE[name]).site
    assert weight.startswith(f"{declared(TABLE[name]).weight:g}: ")
    assert need == needs(name)
    assert cost
    papers = re.findall(r"\[(\d{4}\.\d{4,5})\]\(https://arxiv.org/abs/(\d{4}\.\d{4,5})\)", method)
    assert papers or name == "hard_labels"
    for said, linked in papers:
        assert said == linked
        assert said in inspect.getdoc(TABLE[name])


@pytest.mark.parametrize("block", BLOCKS)
def test_an_objective_is_one(block: str) -> None:
    given = read_text(block).data
    of_pixels = any(name in TABLE and declared(TABLE[name]).dense for name in given["objective"])
    net, task = ("unet", "segmentation") if of_pixels else ("mlp_784", "classification")
    models = {role: {"model": f"limbeck/{net}"} for role in ("teacher", "student")}
    masks = {"source": "segmentation_folder", "root": ".", "colors": {"no": "#000000", "yes": "#FFFFFF"}}
    data = masks if of_pixels else {"source": "digits"}
    asked = Recipe.parse({"data": data, "task": task, **models, **given}).to_dict()["objective"]
    Objective.from_recipe(Objective.from_recipe(asked).to_recipe())


def test_the_objectives_name_what_they_are_said_to_show() -> None:
    shown = {str(term) for block in BLOCKS for term in read_text(block).data["objective"]}
    assert shown >= {"kl", "dkd", "fitnet", "attention_transfer", "rkd_distance", "crd", "review", "simkd", "balance"}
    assert len(BLOCKS) >= 14


def test_the_numbers_on_the_page_are_right() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 6
    assert result.failed == 0
