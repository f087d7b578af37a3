"""A whole run on pictures that a table lists, with groups, slices, a gray one, a broken one, and decoding workers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck.compress.export.onnx import run_onnx
from limbeck.data.sources.named import load
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    rows = []
    for at in range(120):
        name = ("round", "long")[at % 2]
        pixels = rng.integers(0, 120, (20, 26, 3)).astype(np.uint8)
        pixels[..., at % 2] += 100
        Image.fromarray(pixels).convert("L" if at == 8 else "RGB").save(root / f"{at}.png")
        rows.append([f"{at}.png", name, f"patient {at // 4}", ("north", "south")[at // 4 % 2]])
    (root / "11.png").write_bytes((root / "11.png").read_bytes()[:300])
    rng.shuffle(rows)
    with (root / "cells.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "label", "patient", "site"], *rows])
    model = {"model": "limbeck/cnn5", "options": {"width": 4}, "epochs": 1, "batch_size": 16}
    recipe = Recipe.parse(
        {
            "name": "cells",
            "task": "classification",
            "data": {
                "source": "image_csv", "root": str(root), "table": str(root / "cells.csv"), "size": [16, 20],
                "group": "patient", "slices": ["site"], "skip": 0.01, "cache": False,
            },
            "teacher": {**model, "options": {"width": 8}, "workers": 1},
            "student": {**model, "views": {"flip": True}},
            "export": ["onnx"],
        }
    )  # fmt: skip
    execute(recipe, root / "run", command="limbeck run cells.yaml", quiet=True)
    return root, root / "run"


def summary(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_what_was_made_of_the_pictures_is_among_the_findings(made: tuple[Path, Path]) -> None:
    _, folder = made
    found = summary(folder)
    assert found["data"]["classes"] == ["long", "round"]
    assert sum(found["data"]["splits"].values()) == 119
    told = " ".join(finding["message"] for finding in found["findings"])
    for part in ("1 of 120 pictures can not be read and were left out: 11.png", "the first: 8.png", "whole groups"):
        assert part in told


def test_the_exported_file_is_given_what_the_training_was(made: tuple[Path, Path]) -> None:
    root, folder = made
    options = summary(folder)["recipe"]["data"]
    data = load(options.pop("source"), **{**options, "normalization": "auto"})
    files = [root / name for name in data.test.names or ()]
    answers = limbeck.predict_images(folder / "student.onnx", files)
    truth = run_onnx(folder / "student.onnx", data.test).softmax(1)
    for one, row in zip(answers, truth, strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)
