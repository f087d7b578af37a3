"""The page of compression: its recipe is one, and its table names the targets that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import limbeck
from limbeck.recipe.recipe import Recipe
from limbeck.recipe.stages_schema import PruneSpec, RecoverSpec

ROOT = Path(limbeck.__file__).parents[2]
PAGES = [ROOT / "docs" / "compression.md", ROOT / "README.md"]
pytestmark = pytest.mark.skipif(not PAGES[0].exists(), reason="installed without the documentation")


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_its_stages_are_a_recipes(page: Path) -> None:
    blocks = re.findall(r"^```yaml\n(stages:.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    assert len(blocks) == 1
    given = yaml.safe_load(blocks[0])["stages"]
    changed = Recipe.load("digits").changed({"stages": given})
    kinds = ["prune" if one.prune else "distill" for one in changed.spec.stages]
    assert kinds == [next(iter(one)) for one in given]


def test_keys_and_defaults_are_those_of_the_schema() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    for key in ("macs", "channels", "sparsity", "importance", "scope", "keep", "batches", "round_to"):
        assert key in PruneSpec.model_fields
        assert re.search(rf"`{key}[`:]", text), key
    for key in ("epochs", "batch_size", "optimizer", "schedule", "clip", "views", "control", "teacher", "sparsity"):
        assert key in RecoverSpec.model_fields
        assert re.search(rf"\b{key}\b", text), key
    assert "{final: 0.75, begin: 0, end: 0.75, every: 100}" in text
