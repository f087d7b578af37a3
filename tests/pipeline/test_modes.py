"""Weighted ensembles, chains of assistants and generations, on digits and tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import limbeck
from limbeck.data import Data, load
from limbeck.data.split import Split
from limbeck.errors import ModelError, RecipeError
from limbeck.files import sha256, write_tensors
from limbeck.models import MLP
from limbeck.pipeline import stages
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe

SHORT: dict[str, Any] = {"export": (), "quiet": True, "batch_size": 32, "fast": False}


def net(size: int) -> MLP:
    return MLP((1, 8, 8), 10, hidden=[size])


def some(count: int = 240) -> Data:
    digits = load("digits").train
    x = torch.stack([digits.fetch(torch.tensor([one]))[0][0] for one in range(count)])
    return Data((x, digits.targets[:count]))


@pytest.fixture(scope="module")
def data() -> Data:
    return some()


@pytest.fixture(scope="module")
def teacher(data: Data) -> nn.Module:
    torch.manual_seed(0)
    module = net(48)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    x, y = data.normalization(batch(data.train)), data.train.targets
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module.eval()


def batch(split: Split) -> Tensor:
    """All samples of a split from 0 to 1."""
    return split.fetch(torch.arange(len(split)))[0].float()


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# ---------------------------------------------------------------- weighted ensembles


def test_a_recipe_weighs_teachers_of_other_sizes_normalizations_and_label_orders(tmp_path: Path) -> None:
    """The student's target is 3/4 of the first teacher's softened probabilities and 1/4 of the second's."""
    torch.manual_seed(1)
    first, second = MLP((1, 8, 8), 10, hidden=[6]), MLP((1, 4, 4), 10, hidden=[6])
    for number, module in enumerate((first, second)):
        write_tensors(tmp_path / f"{number}.safetensors", module.state_dict())
    names = [str(digit) for digit in range(10)]
    recipe = Recipe.load("digits", ["seeds=1", "student.epochs=1", "export=[]"]).to_dict()
    plain = {"model": "limbeck/mlp_784", "options": {"hidden": [6]}}
    recipe["teacher"] = [
        {**plain, "weights": str(tmp_path / "0.safetensors"), "weight": 3},
        {
            **plain,
            "weights": str(tmp_path / "1.safetensors"),
            "input_size": 4,
            "normalization": "none",
            "class_order": names[::-1],
        },
    ]
    recipe["student"] = {"model": "limbeck/mlp_784", "options": {"hidden": [4]}, "epochs": 1}
    recipe["controls"] = {"control": False, "hard_labels": False}
    recipe["objective"] = {"kl": {"weight": 1.0, "temperature": 4}}
    found = execute(Recipe.parse(recipe), tmp_path / "r", quiet=True, score_test=False)
    kept = load_file(found.folder / "models/teacher_outputs/validation.safetensors")
    split, normalization = load("digits").validation, load("digits").normalization
    x = batch(split)
    with torch.no_grad():
        one = first(normalization(x)).double().numpy()
        small = nn.functional.interpolate(x, size=(4, 4), mode="bilinear", antialias=True, align_corners=False)
        other = second(small).double().numpy()[:, ::-1]
    for temperature in (1.0, 4.0):
        mean = 0.75 * softmax(one / temperature) + 0.25 * softmax(other / temperature)
        said = limbeck.Outputs(kept["logits"], {}, kept["members"], kept["weights"]).logits_at(temperature)
        np.testing.assert_allclose(softmax(said.double().numpy() / temperature), mean, atol=1e-5)


def test_a_weight_is_for_a_teacher_among_several() -> None:
    one = {"model": "limbeck/cnn5", "weight": 2}
    with pytest.raises(RecipeError, match="'weight' is for a teacher among several"):
        Recipe.parse({"teacher": one, "student": {"model": "limbeck/cnn5"}})
    with pytest.raises(RecipeError, match="weight"):
        Recipe.parse({"teacher": [{**one, "weight": 0}, one], "student": {"model": "limbeck/cnn5"}})


def test_an_ensemble_with_weights_from_python_is_kept_member_by_member(
    tmp_path: Path, data: Data, teacher: nn.Module
) -> None:
    ensemble = limbeck.Ensemble([teacher, net(5)], weights=[9, 1])
    found = limbeck.distill(ensemble, net(4), data, run=tmp_path / "r", epochs=1, **SHORT)
    assert found.summary["recipe"]["teacher_weights"] == pytest.approx([0.9, 0.1])
    assert (found.folder / "models/teacher2/seed0/selected.safetensors").exists()
    kept = load_file(found.folder / "models/teacher_outputs/test.safetensors")
    assert kept["weights"].tolist() == pytest.approx([0.9, 0.1])
    p = torch.softmax(kept["members"], dim=2)
    torch.testing.assert_close(torch.softmax(kept["logits"], dim=1), 0.9 * p[0] + 0.1 * p[1])


# ---------------------------------------------------------------- assistants


def chain(folder: Path, data: Data, teacher: nn.Module, **more: Any) -> limbeck.Result:
    torch.manual_seed(3)
    models = [teacher, net(24), net(12), net(4)]
    return limbeck.chain(models, data, epochs=[1, 2, 3], run=folder, **{**SHORT, **more})


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, data: Data, teacher: nn.Module) -> limbeck.Result:
    return chain(tmp_path_factory.mktemp("chain") / "r", data, teacher)


def test_a_chain_trains_and_scores_each_step_and_its_control(chained: limbeck.Result) -> None:
    summary = chained.summary
    assert list(summary["models"]) == ["teacher", "assistant", "assistant2", "control", "control_direct", "student"]
    told = summary["mode"]
    assert [(one["role"], one["teacher"], one["epochs"]) for one in told["steps"]] == [
        ("assistant", "teacher", 1),
        ("assistant2", "assistant", 2),
        ("student", "assistant2", 3),
    ]
    last = {role: model["runs"][0]["last_epoch"] for role, model in summary["models"].items()}
    assert last["control_direct"] == told["direct_epochs"] == 1 + 2 + 3
    assert (last["assistant"], last["assistant2"], last["control"], last["student"]) == (1, 2, 3, 3)
    sizes = [summary["models"][role]["parameters"] for role in ("teacher", "assistant", "assistant2", "student")]
    assert sizes == [64 * size + size + 10 * size + 10 for size in (48, 24, 12, 4)]
    assert summary["difference_to_direct"]["against"] == "control_direct"
    assert "6 epochs in all" in summary["verdict"]
    assert not [one for one in summary["findings"] if one["code"] == "assistant_not_between"]
    page = chained.report.read_text(encoding="utf-8")
    assert "assistant 2" in page
    assert "control without assistants" in page
    assert type(chained.model("assistant")) is MLP


def test_each_step_learns_from_the_one_before_softened_and_all_from_the_same_start(
    tmp_path: Path, data: Data, teacher: nn.Module
) -> None:
    """The first step's loss by hand: 0.1 CE + 0.9 · 16 · KL of softmaxes, not a distance of logits or log-softmaxes."""
    torch.manual_seed(4)
    models = [teacher, net(16), net(4)]
    whole = len(data.train)
    options = {**SHORT, "batch_size": whole, "optimizer": "sgd", "lr": 1e-9}
    found = limbeck.chain(models, data, epochs=1, run=tmp_path / "r", **options)
    x = data.normalization(batch(data.train))
    y = data.train.targets.numpy()
    with torch.no_grad():
        z = [module(x).double().numpy() for module in models]
    for role, student, taught in (("assistant", z[1], z[0]), ("student", z[2], z[1]), ("control_direct", z[2], z[0])):
        p, q = softmax(taught / 4), softmax(student / 4)
        kl = (p * (np.log(p) - np.log(q))).sum(axis=1).mean() * 16
        ce = -np.log(softmax(student)[np.arange(whole), y]).mean()
        line = json.loads((found.folder / f"models/{role}/seed0/metrics.jsonl").read_text().splitlines()[0])
        assert line["train"]["loss"] == pytest.approx(0.1 * ce + 0.9 * kl, rel=1e-4), role


def test_a_killed_chain_goes_on_where_it_was(
    tmp_path: Path, chained: limbeck.Result, data: Data, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, titles = stages.fit, list[str]()

    def dying(job: Any) -> Any:
        titles.append(job.title)
        if len(titles) == 2:
            raise KeyboardInterrupt
        return fit(job)

    monkeypatch.setattr(stages, "fit", dying)
    with pytest.raises(KeyboardInterrupt):
        chain(tmp_path / "r", data, teacher)
    assert read(tmp_path / "r", "run.json")["status"] == "stopped"
    done = tmp_path / "r/models/assistant/seed0/selected.safetensors"
    before = done.stat().st_mtime_ns
    found = chain(tmp_path / "r", data, teacher)
    assert done.stat().st_mtime_ns == before
    assert titles[:3] == ["assistant, seed 0", "assistant2, seed 0", "assistant2, seed 0"]
    for role in ("assistant", "assistant2", "control_direct", "student"):
        name = f"models/{role}/seed0/last.safetensors"
        assert sha256(found.folder / name) == sha256(chained.folder / name), role


def test_an_assistant_that_is_not_between_is_told_and_a_chain_of_layers_refused(
    tmp_path: Path, data: Data, teacher: nn.Module
) -> None:
    torch.manual_seed(5)
    wide = [teacher, net(64), net(4)]
    found = limbeck.chain(wide, data, epochs=1, run=tmp_path / "a", **SHORT).summary["findings"]
    said = next(one for one in found if one["code"] == "assistant_not_between")
    assert (said["severity"], said["evidence"]["teacher"]) == ("warning", {"teacher": 3610})
    objective = [limbeck.supervised(0.5), limbeck.term("fitnet", 0.5, at="0")]
    with pytest.raises(RecipeError, match="distills between logits"):
        limbeck.chain(wide, data, epochs=1, run=tmp_path / "b", objective=objective, **SHORT)
    with pytest.raises(RecipeError, match="needs a teacher and a student"):
        limbeck.chain([teacher], data, run=tmp_path / "c", **SHORT)
    with pytest.raises(RecipeError, match="2 steps got 3"):
        limbeck.chain(wide, data, epochs=[1, 1, 1], run=tmp_path / "d", **SHORT)


def test_assistants_in_a_recipe(tmp_path: Path) -> None:
    small: dict[str, Any] = {"model": "limbeck/mlp_784", "epochs": 1}
    recipe = Recipe.load("digits", ["seeds=2", "export=[]"]).to_dict()
    recipe |= {
        "teacher": {**small, "options": {"hidden": [32]}},
        "assistants": [{**small, "options": {"hidden": [16]}}],
        "student": {**small, "options": {"hidden": [8]}, "epochs": 2, "labels": 500},
    }
    found = execute(Recipe.parse(recipe), tmp_path / "r", quiet=True, score_test=False).summary
    seeds = {role: [one["seed"] for one in model["runs"]] for role, model in found["models"].items()}
    assert seeds["assistant"] == [0]
    assert seeds["control_direct"] == seeds["student"] == [0, 1]
    assert found["mode"]["direct_epochs"] == 3
    assert Recipe.parse(recipe).quick().spec.assistants[0].epochs == 1


# ---------------------------------------------------------------- generations


def test_generations_begin_afresh_and_learn_from_the_one_before(tmp_path: Path, data: Data, teacher: nn.Module) -> None:
    found = limbeck.born_again(
        teacher, lambda: net(48), data, generations=3, run=tmp_path / "r", epochs=1, lr=1e-9, optimizer="sgd", **SHORT
    )
    models = found.summary["models"]
    assert list(models) == ["teacher", "generation1", "generation2", "control", "student", "ensemble"]
    kept = [load_file(found.folder / models[role]["runs"][0]["file"]) for role in list(models)[:3]]
    kept.append(load_file(found.folder / models["student"]["runs"][0]["file"]))
    weights = [one["0.weight" if "0.weight" in one else sorted(one)[-1]] for one in kept]
    for number, one in enumerate(weights):
        for other in weights[number + 1 :]:
            assert not torch.allclose(one, other, atol=1e-3)
    assert "student_not_smaller" not in [one["code"] for one in found.summary["findings"]]
    members = [found.model(role) for role in ("generation1", "generation2", "student")]
    x = data.normalization(batch(data.test))
    with torch.no_grad():
        mean = sum(torch.softmax(one(x), dim=1) for one in members) / 3
    assert isinstance(mean, Tensor)
    right = float((mean.argmax(dim=1) == data.test.targets).double().mean())
    assert models["ensemble"]["metrics"]["test"]["accuracy"] == pytest.approx(right)


def test_generations_need_fresh_weights_and_stand_alone(tmp_path: Path, data: Data, teacher: nn.Module) -> None:
    with pytest.raises(ModelError, match="fresh weights"):
        limbeck.born_again(teacher, net(48), data, run=tmp_path / "r", **SHORT)
    fixed = net(8)
    with pytest.raises(ModelError, match="fresh weights"):
        limbeck.born_again(teacher, lambda: fixed, data, run=tmp_path / "r", **SHORT)
    small = {"model": "limbeck/cnn5"}
    with pytest.raises(RecipeError, match="either 'assistants' or 'generations'"):
        Recipe.parse({"teacher": small, "student": small, "assistants": [small], "generations": 2})
    student = {"model": "torchvision/resnet18", "pretrained": True, "transfer": {}}
    with pytest.raises(RecipeError, match="fresh weights"):
        Recipe.parse({"teacher": small, "student": student, "generations": 2})
