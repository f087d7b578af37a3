"""A whole run on two made classes, one rare: metric, operating point, draw of the samples, and the file that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn import metrics as sk

import limbeck
from limbeck.compress import predict_images
from limbeck.compress.export.onnx import run_onnx
from limbeck.data import Data, Split
from limbeck.data.about import About
from limbeck.errors import DataError, RecipeError
from limbeck.evaluation.operating import probability
from limbeck.evaluation.predict import predict
from limbeck.pipeline.experiment import from_recipe
from limbeck.pipeline.fits import check_metrics
from limbeck.pipeline.run import execute
from limbeck.pipeline.sweep import sweep
from limbeck.recipe.recipe import Recipe

CLASSES = ["benign", "malignant"]


def pictures(size: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Noise; about one in five has a brighter square that is not always easy to see."""
    dice = np.random.default_rng(seed)
    labels = (dice.random(size) < 0.2).astype(np.int64)
    images = dice.normal(110, 45, (size, 1, 8, 8))
    images[:, :, 2:6, 2:6] += (labels * dice.normal(45, 20, size))[:, None, None, None]
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "two.npz"
    parts: dict[str, Any] = {"classes": np.array(CLASSES)}
    for seed, (name, size) in enumerate([("train", 500), ("validation", 200), ("test", 200)]):
        parts[f"x_{name}"], parts[f"y_{name}"] = pictures(size, seed)
    np.savez(path, **parts)
    return path


def recipe(archive: Path, **changes: Any) -> Recipe:
    model = {"model": "limbeck/digits_student", "epochs": 3, "batch_size": 32, "optimizer": {"lr": 0.01}}
    asked: dict[str, Any] = {
        "name": "two",
        "data": {"source": "arrays", "path": str(archive)},
        "teacher": {**model, "epochs": 6},
        "student": model,
        "metric": "auc",
        "positive": "malignant",
        "specificity": 0.9,
        "seeds": 2,
    }
    return Recipe.parse({**asked, **changes})


@pytest.fixture(scope="module")
def folder(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "two"
    execute(recipe(archive), path, quiet=True)
    return path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def scores(folder: Path, archive: Path, split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Probability of the positive class by the shipped ONNX file, and truth."""
    inputs, labels = (np.load(archive)[f"{kind}_{split}"] for kind in "xy")
    logits = run_onnx(folder / "student.onnx", Split(inputs, labels, CLASSES, split))
    return probability(logits, 1).numpy(), labels


def test_models_are_compared_by_the_declared_metric(folder: Path) -> None:
    summary = read(folder, "summary.json")
    assert (summary["metric"], summary["positive"], summary["difference"]["metric"]) == ("auc", "malignant", "auc")
    gain = summary["verdict"].removesuffix(summary["sampling_note"])
    assert "AUC" in gain
    assert "accuracy" not in gain
    students = summary["models"]["student"]
    runs = [one["metrics"]["selected"]["test"] for one in students["runs"]]
    assert students["metrics"]["test"]["auc"] == pytest.approx(sum(one["auc"] for one in runs) / 2)
    assert summary["intervals"]["student"]["mean"] == pytest.approx(students["metrics"]["test"]["auc"])
    best = max(students["runs"], key=lambda one: one["metrics"]["selected"]["validation"]["auc"])
    assert summary["shipped_seed"] == best["seed"]
    for name in ("balanced_accuracy", "f1", "sensitivity", "specificity", "average_precision", "majority_baseline"):
        assert 0 <= students["metrics"]["test"][name] <= 1


def test_the_epoch_is_selected_by_it(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "models/student/seed0/metrics.jsonl").read_text().splitlines()]
    chosen = read(folder, "summary.json")["models"]["student"]["runs"][0]["selected_epoch"]
    assert max(lines, key=lambda line: line["validation"]["auc"])["epoch"] == chosen


def test_what_is_told_is_what_the_shipped_file_gives(folder: Path, archive: Path) -> None:
    summary = read(folder, "summary.json")
    told = read(folder, f"evaluation/student-seed{summary['shipped_seed']}.json")["selected"]["test"]
    shares, truth = scores(folder, archive, "test")
    assert told["auc"] == pytest.approx(sk.roc_auc_score(truth, shares), abs=1e-3)
    assert told["average_precision"] == pytest.approx(sk.average_precision_score(truth, shares), abs=1e-2)
    assert told["pr"]["malignant"]["average_precision"] == told["average_precision"]
    assert set(told["roc"]) == {"malignant"}
    assert sum(one["count"] for one in told["reliability"]["bins"]) == 200
    for name in ("accuracy", "balanced_accuracy", "f1", "auc", "sensitivity"):
        assert told["sampling"][name]["low"] <= told[name] <= told["sampling"][name]["high"], name


def test_the_threshold_ships_and_decides_alike(folder: Path, archive: Path, tmp_path: Path) -> None:
    summary, described = read(folder, "summary.json"), read(folder, "student.json")
    point = summary["operating_point"]["models"]["student"]
    kept = {one.key: one.value for one in onnx.load(folder / "student.onnx").metadata_props}
    assert kept["positive"] == described["positive"] == summary["operating_point"]["positive"] == "malignant"
    assert float(kept["threshold"]) == described["threshold"] == point["threshold"]
    assert summary["exports"][0]["decisions_agree"] == 1.0
    shares, truth = scores(folder, archive, "validation")
    assert np.mean(shares[truth == 0] < point["threshold"]) >= 0.9
    lower = shares[shares < point["threshold"]].max()
    assert np.mean(shares[truth == 0] < lower) < 0.9  # no smaller threshold would do
    shares, truth = scores(folder, archive, "test")
    assert point["sensitivity"] == pytest.approx(np.mean(shares[truth == 1] >= point["threshold"]))
    assert point["specificity"] == pytest.approx(np.mean(shares[truth == 0] < point["threshold"]))
    assert point["chosen_on"] == "validation"
    assert point["sampling"]["sensitivity"]["low"] < point["sensitivity"]
    inputs = np.load(archive)["x_test"][:40]
    files = []
    for number, image in enumerate(inputs):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image[0]).save(files[-1])
    found = predict_images(folder / "student.onnx", files)
    assert [one["decision"] for one in found] == (shares[:40] >= point["threshold"]).tolist()
    assert {one["decision"] for one in found} == {True, False}
    assert {one["positive"] for one in found} == {"malignant"}
    card = (folder / "MODEL_CARD.md").read_text()
    assert "It calls malignant where" in card


def test_the_models_weights_decide_as_the_file_does(folder: Path, archive: Path) -> None:
    summary = read(folder, "summary.json")
    experiment = from_recipe(summary["recipe"])
    module = experiment.student.make(0)
    module.load_state_dict(load_file(folder / "student.safetensors"))
    logits, _ = predict(module, experiment.student.preparation, experiment.data.test)
    threshold = summary["operating_point"]["models"]["student"]["threshold"]
    shares, _ = scores(folder, archive, "test")
    assert (probability(logits, 1).numpy() >= threshold).tolist() == (shares >= threshold).tolist()


def test_the_draw_of_the_samples_is_told(folder: Path) -> None:
    summary = read(folder, "summary.json")
    drawn = summary["sampling"]["student"]
    assert (drawn["metric"], drawn["split"], drawn["samples"]) == ("auc", "test", 200)
    assert drawn["low"] < drawn["value"] < drawn["high"]
    half = 50 * (drawn["high"] - drawn["low"])
    chosen = read(folder, f"evaluation/student-seed{summary['shipped_seed']}.json")["selected"]["test"]["sampling"]
    other = 50 * (chosen["accuracy"]["high"] - chosen["accuracy"]["low"])
    moved = f"AUC by ± {half:.1f} points and accuracy by ± {other:.1f} points"
    note = f"The test split has 200 samples: its draw alone moves {moved}."
    assert summary["sampling_note"] == note
    assert summary["verdict"].endswith(note)
    paired = summary["sampling_difference"]
    shipped = summary["shipped_seed"]
    scored = {
        role: next(
            one["metrics"]["selected"]["test"]["auc"]
            for one in summary["models"][role]["runs"]
            if one["seed"] == shipped
        )
        for role in ("student", "control")
    }
    assert paired["mean"] == pytest.approx(scored["student"] - scored["control"])
    assert paired["low"] <= paired["mean"] <= paired["high"]
    assert (paired["against"], paired["samples"]) == ("control", 200)


def test_json_holds_no_nan(folder: Path) -> None:
    for file in [*folder.glob("*.json"), *(folder / "evaluation").glob("*.json")]:
        json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in a JSON file"))


def test_a_sweep_chooses_by_the_declared_metric(archive: Path, tmp_path: Path) -> None:
    short = recipe(archive, seeds=1).changed({"student.epochs": 1, "teacher.epochs": 1, "export": []})
    found = sweep(short, {"objective.kl.temperature": [1, 4]}, tmp_path / "s", quiet=True)
    assert found["metric"] == "auc"
    best = max(found["points"], key=lambda one: one["student"]["mean"])
    assert found["best"]["values"] == best["values"]
    first = tmp_path / "s" / found["points"][0]["folder"] / "summary.json"
    told = json.loads(first.read_text())
    run = told["models"]["student"]["runs"][0]["metrics"]["selected"]["validation"]
    assert found["points"][0]["student"]["seeds"] == [run["auc"]]
    assert told["sampling"]["student"]["split"] == "validation"
    assert told["sampling_difference"] is None
    assert "validation AUC" in (tmp_path / "s" / "sweep.svg").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positive": None, "specificity": None, "metric": "f1"}, "metric is f1.*'positive'.*\n.*benign, malignant"),
        ({"positive": None}, "specificity is 0.9.*'positive'.*\n.*benign, malignant"),
        ({"positive": "malignent"}, "positive is 'malignent'.*did you mean 'malignant'"),
    ],
)
def test_a_positive_class_is_asked_for_by_name(archive: Path, tmp_path: Path, changes: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        execute(recipe(archive, **changes), tmp_path / "r", quiet=True)


def test_a_metric_that_chooses_epochs_is_checked_before_training(archive: Path, tmp_path: Path) -> None:
    asked = recipe(archive, positive=None, specificity=None)
    with pytest.raises(RecipeError, match="select is f1, which is of one class"):
        execute(asked.changed({"student.select": "f1"}), tmp_path / "r", quiet=True)
    assert not list((tmp_path / "r").rglob("*.safetensors"))
    with pytest.raises(RecipeError, match=r"student\.select.*balanced_accuracy"):
        asked.changed({"student.select": "balanced_acuracy"})
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 2
    mlp = limbeck.models.MLP((1, 8, 8), 2, hidden=[4])
    with pytest.raises(RecipeError, match="did you mean 'accuracy'"):
        limbeck.distill(mlp, mlp, (x, y), run=tmp_path / "d", select="acuracy", quiet=True)


def test_a_metric_that_a_split_does_not_define_is_named(archive: Path) -> None:
    experiment = from_recipe(recipe(archive).to_dict())
    experiment.data.test.targets = torch.zeros_like(experiment.data.test.targets)
    with pytest.raises(DataError, match="AUC is not defined on split 'test', which has no sample of class malignant"):
        check_metrics(experiment, ["auc"])


def test_a_loss_is_better_when_it_is_smaller(archive: Path, tmp_path: Path) -> None:
    asked = recipe(archive, metric="loss", positive=None, specificity=None, export=[])
    summary = execute(asked, tmp_path / "r", quiet=True).summary
    best = min(summary["models"]["student"]["runs"], key=lambda one: one["metrics"]["selected"]["validation"]["loss"])
    assert summary["shipped_seed"] == best["seed"]
    assert summary["difference"]["better"] == "lower"
    assert summary["operating_point"] is None
    assert "moves accuracy by ±" in summary["sampling_note"]  # a loss is no share
    gain = summary["verdict"].removesuffix(summary["sampling_note"])
    assert "in loss" in gain
    assert "points" not in gain


def test_slices_and_groups_reach_the_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    splits = []
    for name, size in (("train", 120), ("validation", 60), ("test", 60)):
        about = About(
            groups=tuple(f"{name}{at // 3}" for at in range(size)),
            slices={"site": tuple("north" if at < 45 else "south" for at in range(size))},
        )
        targets = torch.arange(size) % 2
        inputs = torch.rand(size, 1, 8, 8) + 0.3 * targets[:, None, None, None]
        splits.append(Split(inputs, targets, ("a", "b"), name, about))
    data = Data(*splits)
    mlp = limbeck.models.MLP((1, 8, 8), 2, hidden=[4])
    result = limbeck.distill(
        mlp, mlp, data, run=tmp_path / "r", epochs=1, positive="b", specificity=0.8, export=(), quiet=True
    )
    told = read(tmp_path / "r", "evaluation/student-seed0.json")["selected"]["test"]
    north, south = told["slices"]["site"]
    assert (north["value"], north["samples"], north["few"]) == ("north", 45, False)
    assert (south["samples"], south["few"]) == (15, True)
    assert {"sensitivity", "specificity", "majority_baseline", "operating_point"} <= set(south)
    assert told["sampling"]["accuracy"]["method"] == "bootstrap of groups"
    assert result.summary["sampling_difference"]["groups"] == 20
    assert read(tmp_path / "r", "student.json")["range"] == "raw"  # floats beyond 1
