"""Runs with a teacher that is no module: an ONNX file, an estimator, a mixed ensemble, labels in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from tests.teachers.onnx_files import linear

import limbeck as lb
from limbeck.data.data import Data
from limbeck.data.sources.named import load
from limbeck.errors import ModelError
from limbeck.evaluation.predict import predict
from limbeck.files import read_json, sha256, write_tensors
from limbeck.models import MLP, DigitsStudent
from limbeck.pipeline.examine import examine_recipe as examine
from limbeck.pipeline.experiment import from_recipe
from limbeck.pipeline.run import execute, finished
from limbeck.recipe.recipe import Recipe

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]  # of the teacher's own labels
SHORT = {"model": "limbeck/digits_student", "epochs": 1, "batch_size": 256}


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def estimator(digits: Data) -> LogisticRegression:
    inputs, targets = digits.train.fetch(torch.arange(len(digits.train)))
    return LogisticRegression(max_iter=500).fit(inputs.flatten(1).numpy(), targets.numpy())


@pytest.fixture(scope="module")
def expected(digits: Data, estimator: LogisticRegression) -> float:
    """Test accuracy by scikit-learn's own prediction."""
    inputs, targets = digits.test.fetch(torch.arange(len(digits.test)))
    return float(estimator.score(inputs.flatten(1).numpy(), targets.numpy()))


@pytest.fixture
def file(tmp_path: Path, estimator: LogisticRegression) -> Path:
    """The estimator as an ONNX file of gray images, channels last, its labels in another order."""
    path = tmp_path / "teacher.onnx"
    linear(path, (8, 8, 1), 10)
    model = onnx.load_model(path)
    matrix = np.ascontiguousarray(estimator.coef_.T[:, ORDER]).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(matrix, "weights"))
    model.graph.initializer.append(numpy_helper.from_array(estimator.intercept_[ORDER].astype(np.float32), "bias"))
    model.graph.node[-1].output[0] = "product"
    model.graph.node.append(helper.make_node("Add", ["product", "bias"], ["scores"]))
    path.write_bytes(model.SerializeToString())
    return path


def recipe(teacher: Any, **more: Any) -> Recipe:
    return Recipe.parse({"teacher": teacher, "student": SHORT, "seeds": 1, "export": [], "threads": 1, **more})


def test_a_run_from_an_onnx_file(tmp_path: Path, file: Path, expected: float) -> None:
    teacher = {"weights": str(file), "class_order": ORDER}
    result = execute(recipe(teacher), tmp_path / "run", quiet=True)
    model = result.summary["models"]["teacher"]
    assert model["metrics"]["test"]["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert (model["model"], model["parameters"], model["macs"]) == ("teacher.onnx", 650, None)
    assert model["latency"]["runtime"] == "ONNX Runtime"
    assert model["latency_ms"] > 0
    assert model["weights_bytes"] == file.stat().st_size
    kept = tmp_path / "run" / model["runs"][0]["file"]
    assert sha256(kept) == model["runs"][0]["sha256"] == sha256(file)
    assert "teacher.onnx" in (tmp_path / "run" / "report.html").read_text()
    assert not [one for one in result.summary["findings"] if one["severity"] == "error"]
    assert any("matched to the data by name" in one["message"] for one in result.summary["findings"])
    with pytest.raises(AttributeError, match=r"the teacher is no module: teacher\.onnx"):
        _ = finished(tmp_path / "run", from_recipe(recipe(teacher).to_dict())).teacher


def test_the_students_depend_on_the_files_content(tmp_path: Path, file: Path) -> None:
    """A file of other weights is another teacher: nothing of what the first one taught is taken from before."""
    same, other = tmp_path / "same.onnx", tmp_path / "other.onnx"
    same.write_bytes(file.read_bytes())
    model = onnx.load_model(file)
    weights = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(2 * weights, "weights"))
    other.write_bytes(model.SerializeToString())
    digests = []
    for one in (file, same, other):
        run = tmp_path / one.stem
        asked = recipe({"weights": str(one), "class_order": ORDER}, controls={"control": False})
        execute(asked, run, quiet=True, shared=tmp_path / "shared", score_test=False)
        digests.append(read_json(run / "summary.json")["models"]["student"]["runs"][0]["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_the_doctor_sees_an_order_that_is_not_declared(file: Path) -> None:
    found = next(one for one in examine(recipe({"weights": str(file)})) if one.code == "label_order")
    assert f"class_order: {ORDER}" in found.cure
    assert "label_order" not in [one.code for one in examine(recipe({"weights": str(file), "class_order": ORDER}))]


def test_an_ensemble_of_a_file_and_a_module(tmp_path: Path, file: Path) -> None:
    teachers = [{"weights": str(file), "class_order": ORDER}, {"model": "limbeck/digits_teacher", "epochs": 1}]
    result = execute(recipe(teachers), tmp_path / "run", quiet=True, score_test=False)
    assert result.summary["models"]["teacher"]["metrics"]["validation"]["accuracy"] > 0.8
    assert (tmp_path / "run/models/teacher/seed0/teacher.onnx").exists()
    assert (tmp_path / "run/models/teacher2/seed0/selected.safetensors").exists()


def test_a_run_from_an_estimator(tmp_path: Path, digits: Data, estimator: Any, expected: float) -> None:
    options: dict[str, Any] = {"epochs": 1, "export": (), "quiet": True, "control": False}
    result = lb.distill(estimator, DigitsStudent(), digits, run=tmp_path / "run", **options)
    model = result.summary["models"]["teacher"]
    assert model["metrics"]["test"]["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert model["model"] == "LogisticRegression"
    assert model["latency"]["runtime"] == "scikit-learn"
    assert "LogisticRegression" in (tmp_path / "run" / "report.html").read_text()


def test_class_order_of_a_module_in_a_recipe(
    tmp_path: Path, digits: Data, estimator: LogisticRegression, expected: float
) -> None:
    state = {
        "1.weight": torch.from_numpy(estimator.coef_[ORDER]),
        "1.bias": torch.from_numpy(estimator.intercept_[ORDER]),
    }
    module = MLP((1, 8, 8), 10, hidden=[])
    weights = {key: value.float() for key, value in zip(module.state_dict(), state.values(), strict=True)}
    write_tensors(tmp_path / "t.safetensors", weights)
    teacher = {
        "model": "limbeck/mlp_784",
        "options": {"hidden": []},
        "weights": str(tmp_path / "t.safetensors"),
        "class_order": ORDER,
        "normalization": "none",
    }
    experiment = from_recipe(recipe(teacher).to_dict())
    one = experiment.candidates[0]
    logits, targets = predict(one.make(0), one.preparation, digits.test)
    assert float((logits.argmax(1) == targets).double().mean()) == pytest.approx(expected, abs=1e-6)
    assert experiment.notes == [
        "teacher 'limbeck/mlp_784' has its labels in another order: they are matched to the data by name"
    ]
    asked = recipe(teacher, controls={"control": False})
    said = execute(asked, tmp_path / "run", quiet=True, score_test=False).summary["models"]["teacher"]
    assert said["metrics"]["validation"]["accuracy"] > 0.9


def test_a_teacher_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (3, 8, 8), 10)
    with pytest.raises(ModelError, match=r"takes inputs \[batch, 3, 8, 8\], the data give \[batch, 1, 8, 8\]"):
        execute(recipe({"weights": str(tmp_path / "t.onnx")}), tmp_path / "run", quiet=True)
