"""The doctor over whole experiments: each fault planted in a setup that is otherwise healthy."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck.data import Data, load
from limbeck.data.normalization import Normalization
from limbeck.doctor import Finding
from limbeck.errors import ModelError, RecipeError
from limbeck.files import write_tensors
from limbeck.models import DigitsStudent
from limbeck.objective import Objective, supervised, term
from limbeck.pipeline.examine import examine_recipe, refuse
from limbeck.recipe.recipe import Recipe


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def teacher(data: Data) -> nn.Module:
    """A teacher that knows the digits: 97 % after a second."""
    torch.manual_seed(0)
    module = limbeck.models.MLP((1, 8, 8), 10, hidden=[800])
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    inputs, targets = data.normalization(data.train.inputs), data.train.targets
    for step in range(100):
        at = torch.arange(step * 64, step * 64 + 64) % len(targets)
        loss = nn.functional.cross_entropy(module(inputs[at]), targets[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


def student() -> nn.Module:
    return DigitsStudent()


def codes(findings: list[Finding]) -> list[str]:
    assert all(one.message and (one.cause or one.code in ("teacher_untrained", "refused")) for one in findings)
    return [one.code for one in findings]


def test_a_healthy_setup_has_no_finding(data: Data, teacher: nn.Module) -> None:
    assert limbeck.examine(teacher, student, data) == []
    assert limbeck.examine(teacher, student, data, labels=200) == []
    assert limbeck.examine([teacher, teacher], student, data) == []
    assert limbeck.examine(lambda inputs: teacher(inputs), student, data,
                           teacher_normalization=data.normalization) == []  # fmt: skip


def test_the_demo_has_no_finding_but_that_its_teacher_is_to_be_trained() -> None:
    found = examine_recipe("digits")
    assert [(one.code, one.severity) for one in found] == [("teacher_untrained", "info")]


def test_looking_changes_nothing(data: Data, teacher: nn.Module) -> None:
    before, target = copy.deepcopy(teacher.state_dict()), student()
    start, state = copy.deepcopy(target.state_dict()), torch.get_rng_state()
    limbeck.examine(teacher, target, data)
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(torch.equal(start[key], value) for key, value in target.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


# ---------------------------------------------------------------- planted before the run


class Reordered(nn.Module):
    """A teacher that learned the classes in another order."""

    def __init__(self, module: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.module, self.order = module, order

    def forward(self, inputs: Tensor) -> Tensor:
        return self.module(inputs)[:, self.order]


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(10.0) - 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.bias.expand(len(inputs), 10)


def detached(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.detach() - teacher).square().mean(dim=1)


def test_another_order_of_labels(data: Data, teacher: nn.Module) -> None:
    order = [0, 1, 3, 2, 4, 5, 6, 7, 9, 8]
    found = limbeck.examine(Reordered(teacher, order), student, data)
    assert codes(found) == ["label_order"]  # and not that it is near chance, which is its consequence
    assert found[0].evidence["class_order"] == [str(one) for one in order]


def test_another_normalization(data: Data, teacher: nn.Module) -> None:
    found = limbeck.examine(teacher, student, data, teacher_normalization=Normalization((-2.0,), (0.5,)))
    assert "normalization" in codes(found)
    evidence = next(one for one in found if one.code == "normalization").evidence
    assert evidence["tried"]["measured on these data"] > 0.9


def test_an_untrained_teacher(data: Data) -> None:
    found = limbeck.examine(limbeck.models.MLP((1, 8, 8), 10, hidden=[800]), student, data)
    assert "teacher_near_majority" in codes(found)
    assert "label_order" not in codes(found)


def test_a_teacher_that_says_the_same_for_everything(data: Data) -> None:
    found = limbeck.examine(Constant(), student, data)
    assert found[0].code == "constant_predictor"
    assert found[0].severity == "error"


def test_teacher_and_student_exchanged(data: Data, teacher: nn.Module) -> None:
    found = limbeck.examine(student(), teacher, data)
    assert {"student_not_smaller", "warm_start"} <= set(codes(found))


def test_a_student_that_starts_from_what_it_learned_here(data: Data, teacher: nn.Module) -> None:
    assert {"student_not_smaller", "warm_start"} <= set(codes(limbeck.examine(teacher, teacher, data)))


def test_another_number_of_classes(data: Data) -> None:
    found = limbeck.examine(limbeck.models.MLP((1, 8, 8), 12, hidden=[200]), student, data)
    assert [(one.code, one.severity) for one in found] == [("class_count", "error")]
    found = limbeck.examine(lambda inputs: inputs.flatten(1)[:, :12], student, data)
    assert "class_count" in codes(found)


def test_a_model_that_does_not_take_the_data_or_ends_in_a_softmax(data: Data, teacher: nn.Module) -> None:
    found = limbeck.examine(teacher, limbeck.models.MLP((3, 8, 8), 10, hidden=[8]), data)
    assert codes(found) == ["refused"]
    found = limbeck.examine(nn.Sequential(teacher, nn.Softmax(dim=1)), student, data)
    assert codes(found) == ["refused"]
    assert "softmax" in found[0].message
    assert codes(limbeck.examine(lambda inputs: teacher(inputs).softmax(1), student, data)) == ["refused"]


def linear(data: Data, *, bytes_: bool) -> Any:
    """A linear classifier of raw pixels, in [0, 1] or in bytes."""
    from sklearn.linear_model import LogisticRegression

    rows = data.train.inputs.flatten(1).numpy() * (255 if bytes_ else 1)
    return LogisticRegression(max_iter=60, tol=1e-2).fit(rows, [data.classes[one] for one in data.train.targets])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_is_a_teacher_like_others(data: Data) -> None:
    estimator = linear(data, bytes_=False)
    assert codes(limbeck.examine(estimator, student, data)) == []
    estimator.classes_ = estimator.classes_[[1, 0, *range(2, 10)]]
    assert codes(limbeck.examine(estimator, student, data)) == ["label_order"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_onnx_file_that_was_trained_on_bytes_is_told_so(data: Data, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    from limbeck.teachers import OnnxTeacher

    estimator = linear(data, bytes_=True)
    values = {"w": estimator.coef_.T.astype("float32"), "b": 3 * estimator.intercept_.astype("float32")}
    values["b"] += torch.linspace(-4, 4, 10).numpy()  # what the pixels say must count
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "t.onnx").write_bytes(model.SerializeToString())
    told = limbeck.examine(OnnxTeacher(tmp_path / "t.onnx"), student, data)
    assert {one.code: one for one in told}["normalization"].evidence["better"] == "bytes (0 to 255)"
    right = OnnxTeacher(tmp_path / "t.onnx", normalization=Normalization((0.0,), (1 / 255,)))
    assert "normalization" not in codes(limbeck.examine(right, student, data))


def test_a_soft_term_without_gradient_and_one_that_is_drowned(data: Data, teacher: nn.Module) -> None:
    found = limbeck.examine(teacher, student, data, objective=[supervised(0.1), term(detached, 0.9)])
    assert codes(found) == ["no_gradient"]
    drowned = Objective([supervised(0.5), term("kl", 0.5, temperature=40.0, square=False)])
    found = limbeck.examine(teacher, student, data, objective=drowned)
    assert codes(found) == ["term_drowned"]
    assert found[0].evidence["terms"] == ["supervised", "kl"]


def test_samples_in_two_splits(data: Data, teacher: nn.Module) -> None:
    train = data.train.joined(data.test.subset(torch.arange(20)))
    leaking = Data(train, data.validation, data.test, normalization=data.normalization)
    found = limbeck.examine(teacher, student, leaking)
    assert codes(found) == ["overlap"]
    assert found[0].evidence["samples"] == 20


def test_splits_that_can_not_be_looked_into_are_no_obstacle(data: Data, teacher: nn.Module) -> None:
    arrays = torch.utils.data.TensorDataset(data.normalization(data.train.inputs), data.train.targets)
    loader = torch.utils.data.DataLoader(arrays, batch_size=64, shuffle=True)
    given = [(data.normalization(split.inputs), split.targets) for split in (data.validation, data.test)]
    assert limbeck.examine(teacher, student, Data(loader, *given)) == []


# ---------------------------------------------------------------- in a run


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda teacher: (Reordered(teacher, [1, 0, *range(2, 10)]), None), ModelError, "another order"),
        (lambda teacher: (Constant(), None), ModelError, "do not depend on the input"),
        (lambda teacher: (teacher, [supervised(0.1), term(detached, 0.9)]), RecipeError, "no gradient"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_before_a_student_is_trained(
    data: Data, teacher: nn.Module, tmp_path: Path, make: Callable[..., Any], kind: type[Exception], words: str
) -> None:
    given, objective = make(teacher)
    with pytest.raises(kind, match=words) as caught:
        limbeck.distill(given, student, data, objective=objective, run=tmp_path / "r", quiet=True)
    assert caught.value.cure  # type: ignore[attr-defined]
    assert not (tmp_path / "r" / "models" / "student").exists()


def test_what_is_found_stands_in_the_summary_with_evidence_cause_and_cure(
    data: Data, teacher: nn.Module, tmp_path: Path
) -> None:
    train = data.train.joined(data.test.subset(torch.arange(20)))
    leaking = Data(train, data.validation, data.test, normalization=data.normalization)
    result = limbeck.distill(teacher, student, leaking, epochs=1, run=tmp_path / "r", export=(), quiet=True,
                             control=False, objective={"supervised": 0.5, "kl": {"weight": 1e-4}})  # fmt: skip
    found = {one["code"]: one for one in json.loads((tmp_path / "r" / "summary.json").read_text())["findings"]}
    assert {"overlap", "term_drowned", "no_control"} <= set(found)
    assert found["overlap"]["evidence"]["samples"] == 20
    assert all(set(one) == {"code", "severity", "message", "evidence", "cause", "cure"} for one in found.values())
    assert result.summary["objective_search"] is None


def test_errors_are_refused_and_the_rest_is_not() -> None:
    refuse([Finding("a", "warning", "x"), Finding("b", "info", "y")])
    with pytest.raises(ModelError, match="in another order"):
        refuse([Finding("label_order", "error", "in another order", cure="class_order")])


# ---------------------------------------------------------------- from a recipe, on the command line


def leave(*args: str) -> Any:
    from limbeck.cli import main

    with pytest.raises(SystemExit) as left:
        main(list(args))
    return left.value.code


def test_the_command_tells_what_it_found_and_leaves_with_its_code(
    data: Data, teacher: nn.Module, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave("doctor", "digits", "-q") == 0
    assert "teacher_untrained" in capsys.readouterr().out
    write_tensors("good.safetensors", teacher.state_dict())
    model = ["--set", "teacher.model=limbeck/mlp_784", "--set", "teacher.options={hidden: [800]}", "-q"]
    given = [*model, "--set", "teacher.weights=good.safetensors"]
    assert leave("doctor", "digits", *given) == 0
    assert capsys.readouterr().out.strip() == "The doctor found nothing."
    assert leave("doctor", "digits", *given, "--set", "teacher.normalization={mean: [-2], std: [0.5]}") == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("warning normalization", "evidence:", "cause:", "cure: set normalization:"):
        assert words in out
    worse = {key: value[[1, 0, *range(2, 10)]] if len(value) == 10 else value for key, value in
             teacher.state_dict().items()}  # fmt: skip
    write_tensors("worse.safetensors", worse)
    assert leave("doctor", "digits", *model, "--set", "teacher.weights=worse.safetensors", "--json") == 9
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["code"] for one in found] == ["label_order"]
    assert found[0]["evidence"]["class_order"][:3] == ["1", "0", "2"]


def test_a_wrong_recipe_is_a_wrong_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("doctor", "digitz") == 2
    assert leave("doctor", "digits", "--set", "objective=automatic") == 2
    assert "auto" in capsys.readouterr().err


def test_a_recipe_with_a_pretrained_model_and_other_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published statistics are those of the weights' own description; nothing is fetched here."""
    from limbeck.pipeline import examine, experiment

    recipe = Recipe.load("digits").changed({"student.model": "torchvision/resnet18", "student.options": {}})
    plan = experiment.from_recipe(recipe.to_dict())
    asked = copy.deepcopy(recipe.to_dict())
    asked["student"]["pretrained"] = True
    monkeypatch.setattr(examine, "published_normalization", lambda *given: Normalization((0.449,), (0.226,)))
    found = examine._published(replace(plan, recipe=asked))
    assert codes(found) == ["normalization_published"]
    assert examine._published(plan) == []
