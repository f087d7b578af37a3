"""Recipes with pretrained or given weights, and models with an input size of their own, from the recipe to the file."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm.models._builder
import torch
import yaml

import limbeck
from limbeck.compress.export.onnx import run_onnx
from limbeck.errors import LimbeckError, ModelError, RecipeError
from limbeck.evaluation.predict import predict
from limbeck.files import read_tensors, write_tensors
from limbeck.models import DigitsStudent, DigitsTeacher, load_weights
from limbeck.pipeline.experiment import Candidate, from_recipe
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe

STUDENT = {"model": "limbeck/digits_student", "epochs": 2}


def recipe(teacher: dict[str, Any] | None = None, student: dict[str, Any] | None = None, **more: Any) -> Recipe:
    return Recipe.parse(
        {
            "name": "moved",
            "seeds": 1,
            "teacher": {"model": "limbeck/digits_student", "epochs": 1, **(teacher or {})},
            "student": {**STUDENT, **(student or {})},
            "controls": {"hard_labels": False},
            **more,
        }
    )


def refusal(**changes: Any) -> str:
    with pytest.raises(LimbeckError) as caught:
        from_recipe(recipe(**changes).to_dict())
    return str(caught.value)


def candidate(**changes: Any) -> Candidate:
    found = from_recipe(recipe(**changes).to_dict())
    assert isinstance(found.teachers, list)
    return found.teachers[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Trained elsewhere, on seven classes."""
    torch.manual_seed(4)
    return write_tensors(tmp_path / "seven.safetensors", DigitsStudent(classes=7).state_dict())


def test_a_transfer_begins_with_the_weights_and_a_new_head_and_says_so(weights: Path) -> None:
    one = candidate(teacher={"weights": str(weights), "transfer": {}})
    start, given = one.make(3).state_dict(), read_tensors(weights)[0]
    assert all(torch.equal(start[key], given[key]) for key in given if key.startswith("features"))
    assert start["classifier.1.weight"].shape == (10, 128)
    assert torch.equal(one.make(3).state_dict()["classifier.1.weight"], start["classifier.1.weight"])
    assert not torch.equal(one.make(4).state_dict()["classifier.1.weight"], start["classifier.1.weight"])
    assert one.settings is not None
    assert (one.settings.transfer.freeze, one.settings.transfer.rate) == (1, 0.1)  # type: ignore[union-attr]
    assert one.notes == (
        "the head 'classifier.1' of limbeck/digits_student starts anew: seven.safetensors has 7 outputs there, "
        "the data 10 classes",
    )


def test_weights_without_transfer_are_taken_as_they_are_or_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'classifier\.1\.weight' is \(7, 128\), the model has \(10, 128\)"):
        candidate(teacher={"weights": str(weights)}).make(0)
    ten = write_tensors(tmp_path / "ten.safetensors", DigitsStudent().state_dict())
    assert candidate(teacher={"weights": str(ten)}).settings is None
    assert candidate(teacher={"weights": str(ten), "transfer": {}}).notes == ()  # everything fits: nothing to say


def test_what_else_does_not_fit_is_refused_by_key(tmp_path: Path) -> None:
    state = DigitsStudent(classes=7).state_dict()
    state["features.0.weight"] = torch.zeros(9, 1, 3, 3)
    state["features.9.weight"] = torch.zeros(1)
    file = write_tensors(tmp_path / "odd.safetensors", state)
    told = refusal(teacher={"weights": str(file), "transfer": {}})
    for key in ("'features.0.weight' is (9, 1, 3, 3), the model has (8, 1, 3, 3)", "'features.9.weight' is not in the"):
        assert key in told
    assert "classifier" not in told


def test_weights_without_a_head_begin_with_a_new_one(tmp_path: Path) -> None:
    state = {key: value for key, value in DigitsStudent().state_dict().items() if key.startswith("features")}
    file = write_tensors(tmp_path / "body.safetensors", state)
    one = candidate(teacher={"weights": str(file), "transfer": {}})
    assert "starts anew: body.safetensors lacks it" in one.notes[0]
    assert torch.equal(one.make(0).state_dict()["features.0.weight"], state["features.0.weight"])


def test_a_head_that_is_not_there_is_answered_with_the_nearest(weights: Path) -> None:
    told = refusal(teacher={"weights": str(weights), "transfer": {"head": "classifer"}})
    assert "did you mean 'classifier'" in told


def test_a_run_with_transfer_and_an_input_size_ships_what_was_scored(weights: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "teacher": {"model": "limbeck/digits_teacher", "input_size": 12, "normalization": "none"},
        "student": {"weights": str(weights), "transfer": {"freeze": 1}, "input_size": [10, 16]},
    }
    asked = recipe(**changes).changed({"student.weights": str(wide(tmp_path))})
    result = execute(asked, tmp_path / "run", quiet=True)
    summary, folder = result.summary, result.folder
    assert "model_begins" in [one["code"] for one in summary["findings"]]
    export = summary["exports"][0]
    assert export["agreement"] == 1.0
    described = json.loads((folder / "student.json").read_text(encoding="utf-8"))
    assert (described["shape"], described["input_size"]) == ([1, 8, 8], [10, 16])
    experiment = from_recipe(asked.to_dict())
    module = DigitsStudent((1, 10, 16))
    load_weights(module, folder / "student.safetensors", name="student")
    logits, _ = predict(module, experiment.student.preparation, experiment.data.test)
    torch.testing.assert_close(run_onnx(folder / "student.onnx", experiment.data.test), logits, atol=1e-4, rtol=1e-4)
    plain, _ = predict(DigitsTeacher((1, 12, 12)), experiment.teachers[0].preparation, experiment.data.test)  # type: ignore[index]
    assert plain.shape == (540, 10)
    # the control began with the same weights: its backbone stood still in the first epoch, as the student's
    lines = {role: (folder / f"models/{role}/seed0/metrics.jsonl").read_text() for role in ("student", "control")}
    assert len({json.loads(line.splitlines()[0])["rate"] for line in lines.values()}) == 1
    assert summary["models"]["student"]["macs"] > summary["models"]["student"]["parameters"]


def wide(folder: Path) -> Path:
    """Weights on five classes, for inputs of 10×16."""
    torch.manual_seed(6)
    return write_tensors(folder / "wide.safetensors", DigitsStudent((1, 10, 16), classes=5).state_dict())


def test_a_pretrained_model_has_its_published_normalization_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    state = timm.create_model("resnet10t", num_classes=1000).state_dict()
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *a, **k: dict(state))
    one = candidate(teacher={"model": "timm/resnet10t", "pretrained": True, "transfer": {}})
    assert one.preparation.normalization.mean == pytest.approx((0.449,))
    assert "normalized as its published weights were trained" in one.notes[0]
    module = one.make(0)
    assert torch.equal(module.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert one.frame is not None
    assert not torch.equal(one.frame().layer1[0].conv1.weight, state["layer1.0.conv1.weight"])  # nothing is fetched
    declared = {"mean": [0.5], "std": [0.25]}
    own = candidate(teacher={"model": "timm/resnet10t", "pretrained": True, "normalization": declared})
    assert (own.preparation.normalization.mean, own.notes) == ((0.5,), ())


@pytest.mark.parametrize(
    ("part", "spec", "told"),
    [
        ("teacher", {"transfer": {}}, "transfer needs weights to start from"),
        ("student", {"weights": "w.pth"}, "add 'transfer: {}' to start from them"),
        ("student", {"weights": "w.pth", "transfer": {"freeze": 3}}, r"freeze of at most epochs \(2\), found 3"),
        ("student", {"weights": "w.pth", "transfer": {"freez": 3}}, "did you mean 'freeze'"),
        ("student", {"weights": "w.pth", "transfer": {"rate": 0}}, "more than 0"),
        ("student", {"weights": "w.pth", "transfer": {"head": "a b"}}, "name of a module"),
        ("student", {"input_size": 0}, "side of a square"),
        ("student", {"input_size": [8, 8, 3]}, "side of a square"),
        ("student", {"input_size": True}, "side of a square"),
    ],
)
def test_a_mistake_in_the_recipe_is_told(part: str, spec: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(**{part: spec})


def test_a_recipe_with_transfer_can_be_written_and_shortened() -> None:
    long = recipe(student={"weights": "w.pth", "transfer": {"freeze": 5}, "epochs": 30, "input_size": [8, 9]})
    assert Recipe.parse(json.loads(json.dumps(long.to_dict()))) == long
    quick = long.quick().student
    assert quick.transfer is not None
    assert (quick.epochs, quick.transfer.freeze) == (2, 1)


def test_a_normalization_for_other_channels_is_refused_before_training() -> None:
    told = refusal(teacher={"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    assert "normalization has 3 channels, the data 1" in told


def test_the_error_about_a_size_names_the_key() -> None:
    from limbeck.pipeline.fits import check_fits

    experiment = from_recipe(recipe(teacher={"model": "timm/vit_tiny_patch16_224"}).to_dict())
    one = experiment.teachers[0]  # type: ignore[index]
    with pytest.raises(ModelError, match="input_size"):
        check_fits(one.make(0), one, experiment.data)


PAGE = Path(limbeck.__file__).parents[2] / "docs" / "transfer.md"


def test_the_page_on_transfer_is_right() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
    asked = Recipe.parse(yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.S)[0]))
    transfer = asked.teachers[0].transfer
    assert transfer == type(transfer)()  # the defaults are what the page says
