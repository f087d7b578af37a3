"""What leaves a run of segmentation: student.json, the exported file held against the model, sizes and speed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.compress.shipped.opening import open_onnx
from limbeck.compress.shipped.windows import Windows
from limbeck.data import Data, Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.errors import ExportError
from limbeck.evaluation.dense.reading import read_module
from limbeck.files import sha256, write_tensors
from limbeck.objective import Objective
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.ship import export, measure, ship
from limbeck.pipeline.stages import Context, Trained
from limbeck.tasks.segmentation import segmentation_task

NAMES, PATCH = ("land", "water"), (16, 16)
COLORS = {"land": ["#00FF00", "#00F000"], "water": [0, 0, 255], "void": "#000000"}
PREPARED = Preparation(Normalization((0.5, 0.4, 0.3), (0.25, 0.25, 0.5)))


def split(name: str, seed: int) -> SceneSplit:
    dice, found = np.random.default_rng(seed), []
    for size in ((33, 20), (16, 16)):
        pixels = dice.integers(0, 256, (3, *size), dtype=np.uint8)
        mask = (pixels[2] > 128).astype(np.uint8)  # water is blue
        found.append(Region.whole(Scene.of(f"{name}{size}", torch.from_numpy(pixels), torch.from_numpy(mask), 2)))
    return SceneSplit(found, NAMES, name, patch=PATCH)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))


@pytest.fixture
def run(tmp_path: Path) -> tuple[Context, Trained]:
    data = Data(split("train", 0), split("validation", 1), split("test", 2), classes=NAMES, normalization="none")
    student = Candidate("user/conv", lambda seed: module(), PREPARED)
    recipe = {"data": {"colors": COLORS, "ignore": ["void"]}}
    experiment = Experiment(
        "scenery", data, [], student, Objective.of(None), task=segmentation_task(NAMES), recipe=recipe
    )
    context: Any = SimpleNamespace(experiment=experiment, run=SimpleNamespace(path=tmp_path))
    trained = Trained("student", 0, student, tmp_path / "models", {"selected_epoch": 3})
    write_tensors(trained.file(), module().state_dict())
    return context, trained


def test_student_json_says_how_it_is_run(run: tuple[Context, Trained], tmp_path: Path) -> None:
    ship(*run)
    told = json.loads((tmp_path / "student.json").read_text())
    wanted = {
        "task": "segmentation", "classes": list(NAMES), "shape": [3, 16, 16], "patch": [16, 16], "overlap": 0.25,
        "colors": [[0, 255, 0], [0, 0, 255]], "fit": "windows", "range": "bytes", "threshold": None,
        "sha256": sha256(tmp_path / "student.safetensors"), "epoch": 3, **PREPARED.to_dict(),
    }  # fmt: skip
    assert {key: told[key] for key in wanted} == wanted
    assert "windows" in told["resize"]


def test_the_exported_file_is_scored_on_whole_pictures(run: tuple[Context, Trained], tmp_path: Path) -> None:
    context, trained = run
    data = context.experiment.data
    said = read_module(trained.module(), PREPARED, data.test)
    found = export(context, trained, said)
    assert (found["path"], found["format"], found["sizes"]) == ("student.onnx", "onnx", "any, from the window's up")
    assert found["sha256"] == sha256(tmp_path / "student.onnx")
    assert found["bytes"] == (tmp_path / "student.onnx").stat().st_size
    assert found["max_abs_difference"] < 1e-4
    assert found["agreement"] > 0.99
    assert found["windows"] == 3 * 2 + 1  # rows 0, 12, 17 and columns 0, 4; one
    assert found["direct"] == [29, 42]
    assert found["latency_ms"] > 0
    expected = context.experiment.task.metrics(said, data.test, NAMES)
    assert found["metrics"]["test"]["mean_iou"] == pytest.approx(expected["mean_iou"], abs=5e-3)
    signature = open_onnx(tmp_path / "student.onnx")[1]
    assert signature.windows == Windows(0.25, 1, ((0, 255, 0), (0, 0, 255)))
    assert (signature.shape, signature.use.fit) == ((3, 16, 16), "windows")


def test_an_export_that_says_something_else_fails(run: tuple[Context, Trained]) -> None:
    """The model was read with other weights than those of the file that ships."""
    context, trained = run
    other = module()
    with torch.no_grad():
        other[2].bias += torch.tensor([3.0, 0.0])  # type: ignore[operator, union-attr]
    said = read_module(other, PREPARED, context.experiment.data.test)
    with pytest.raises(ExportError, match=r"student\.onnx differs from the model"):
        export(context, trained, said)


def test_sizes_and_speed_are_of_patches(run: tuple[Context, Trained]) -> None:
    context, trained = run
    found = measure(context, {"student": trained})["student"]
    assert found["parameters"] == 4 * 27 + 4 + 2 * 36 + 2
    assert found["macs"] == 256 * (4 * 27 + 2 * 36)
    assert found["throughput"]["batch"] == 32
    assert found["throughput"]["samples_per_second"] > 0
    assert found["latency"]["batch"] == 1
