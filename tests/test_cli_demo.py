"""``limbeck demo``: which recipe runs where, and the demo of segmentation on fewer pictures, to its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limbeck import cli
from limbeck.data.sources import composed
from limbeck.errors import RecipeError
from limbeck.evaluation.sizes import parameters
from limbeck.models.unet import UNet
from limbeck.pipeline import run
from limbeck.recipe.recipe import Recipe


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", *args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_task_chooses_recipe_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[dict[str, Any], Path]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["limbeck.cli.app"], "show", lambda result, as_json: None)
    monkeypatch.setattr(run, "execute", lambda recipe, folder, **_: calls.append((recipe, folder)) or SimpleNamespace())
    assert leave("--task", "classification") == 0
    assert leave("--task", "segmentation") == 0
    assert leave("--task", "segmentation", "--quick", "--out", "here") == 0
    found = [(recipe["task"], recipe["data"]["source"], recipe["seeds"], str(folder)) for recipe, folder in calls]
    assert found == [
        ("classification", "digits", 5, "runs/demo"),
        ("segmentation", "segmentation_digits", 3, "runs/demo-segmentation"),
        ("segmentation", "segmentation_digits", 1, "here"),
    ]


def test_another_task_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--task", "segmentatoin") == RecipeError.exit_code
    said = capsys.readouterr().err
    assert "--task segmentatoin; did you mean 'segmentation'?" in said
    assert "one of classification, segmentation" in said


def test_the_recipe_says_how_large_its_models_are() -> None:
    recipe = Recipe.load("segmentation_digits")
    sizes = [
        parameters(UNet((3, 64, 64), len(composed.CLASSES), **one.options))
        for one in (*recipe.teachers, recipe.student)
    ]
    text = (Path(cli.__file__).parents[1] / "recipes" / "segmentation_digits.yaml").read_text(encoding="utf-8")
    assert f"({sizes[0]:,} parameters)" in text
    assert 3.9 < sizes[0] / sizes[1] < 4.1


def test_the_quick_one_on_fewer_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(composed, "PICTURES", {"train": 16, "validation": 6, "test": 6})
    settings = ["threads=1", "teacher.options.width=2", "student.options.width=2"]
    changes = [part for one in settings for part in ("--set", one)]
    assert leave("--task", "segmentation", "--quick", "--quiet", "--out", str(tmp_path / "run"), *changes) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["models"]) == ["teacher", "control", "student"]
    assert (summary["metric"], summary["data"]["classes"]) == ("mean_iou", list(composed.CLASSES))
    assert (tmp_path / "run" / "student.onnx").stat().st_size > 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "mean IoU" in page
