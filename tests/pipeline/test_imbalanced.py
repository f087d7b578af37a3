"""A run on imbalanced arrays with MixUp, balanced sampling and balanced class weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.files import sha256
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe


def arrays(folder: Path, rare: int = 24) -> Path:
    """Two classes, told apart by which half is light; one in ten is rare."""
    generator = np.random.default_rng(0)
    labels = np.r_[np.zeros(216, dtype=np.int64), np.ones(rare, dtype=np.int64)]
    images = generator.integers(0, 120, (len(labels), 1, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, slice(0, 4) if label else slice(4, 8)] += 100
    path = folder / "arrays.npz"
    np.savez(path, x=images, y=labels)
    return path


def recipe(path: Path, **student: Any) -> Recipe:
    model = {"model": "limbeck/digits_student", "epochs": 2, "batch_size": 32}
    return Recipe.parse(
        {
            "name": "imbalanced",
            "data": {"source": "arrays", "path": str(path), "validation": 0.2, "test": 0.2},
            "teacher": {**model, "sampling": "balanced"},
            "student": {**model, "views": {"shift": 1, "mixup": 0.2, "cutmix": 1.0}, "sampling": "balanced", **student},
            "objective": {"supervised": {"weight": 0.5, "class_weights": "balanced"}, "kl": 0.5},
            "controls": {"hard_labels": True},
            "seeds": 1,
            "export": [],
        }
    )


def manifest(folder: Path, role: str) -> Any:
    return json.loads((folder / f"models/{role}/seed0/manifest.json").read_text(encoding="utf-8"))


def test_a_run_says_its_weights_in_numbers_and_trains_all_roles(tmp_path: Path) -> None:
    path = arrays(tmp_path)
    execute(recipe(path), tmp_path / "run", quiet=True, score_test=False)
    summary = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert set(summary["models"]) == {"teacher", "control", "control_hard_labels", "student"}
    weights = summary["objective"]["supervised"]["class_weights"]
    assert summary["recipe"]["objective"]["supervised"]["class_weights"] == "balanced"
    assert weights[1] == pytest.approx(9 * weights[0], rel=0.1)
    common, rare = (1 / (2 * weight) for weight in weights)
    assert common + rare == pytest.approx(1)  # of n / (2 n_c)


def test_sampling_and_weights_are_part_of_what_a_stage_depends_on(tmp_path: Path) -> None:
    path = arrays(tmp_path)
    keys: list[dict[str, str]] = []
    plain = recipe(path, sampling="none")
    changes = {"sampling": recipe(path), "plain": plain, "views": recipe(path, sampling="none", views={"shift": 1})}
    for name, one in changes.items():
        folder = tmp_path / name
        execute(one, folder, quiet=True, score_test=False)
        keys.append({role: manifest(folder, role)["key"] for role in ("teacher", "student")})
    assert len({one["student"] for one in keys}) == 3
    assert len({one["teacher"] for one in keys}) == 1
    weights = [sha256(tmp_path / name / "models/student/seed0/last.safetensors") for name in changes]
    assert len(set(weights)) == 3
