"""SimKD in a run: the student that keeps the teacher's classifier, counted, shipped and resumed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import limbeck
from limbeck.compress.export.onnx import run_onnx
from limbeck.data import Data, Normalization, load
from limbeck.data.split import Split
from limbeck.errors import LimbeckError, RecipeError
from limbeck.evaluation.predict import predict
from limbeck.files import sha256, write_tensors
from limbeck.models import MLP, CifarResNet, ConvMNIST
from limbeck.models.reuse import ReusesClassifier, reuse_classifier
from limbeck.pipeline import stages
from limbeck.pipeline.distill import planned
from limbeck.pipeline.examine import examine_recipe
from limbeck.pipeline.experiment import from_recipe
from limbeck.pipeline.folder import Run
from limbeck.pipeline.reusing import resolved
from limbeck.pipeline.run import conduct, execute
from limbeck.recipe.recipe import Recipe
from limbeck.training import loop

OWN = Normalization((0.5,), (0.25,))  # the teacher's, not the data's
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 64, "fast": False, "teacher_normalization": OWN}
# 3 x 3 convolutions without bias, two numbers a channel for each norm, a dense layer; the maps are 16 x 2 x 2
PLAIN = (36 + 8) + (2 * 144 + 16) + (288 + 576 + 32) + (1152 + 2304 + 64) + (160 + 10)
PROJECTOR = (16 * 16 + 32) + (9 * 16 * 16 + 32) + (16 * 32 + 64)  # to the teacher's 32 channels, 16 inside
CLASSIFIER = 32 * 10 + 10
STUDENT = PLAIN - 170 + PROJECTOR + CLASSIFIER
PLAIN_MACS = 64 * (36 + 288) + 16 * (288 + 576) + 4 * (1152 + 2304) + 160
STUDENT_MACS = PLAIN_MACS - 160 + 4 * (256 + 2304 + 512) + 320


def large() -> CifarResNet:
    return CifarResNet((1, 8, 8), 10, depth=14, width=8)


def small() -> CifarResNet:
    return CifarResNet((1, 8, 8), 10, depth=8, width=4)


def batch(split: Split) -> Tensor:
    """All samples of a split."""
    return split.fetch(torch.arange(len(split)))[0].float()


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data() -> Data:
    digits = load("digits").train
    x = torch.stack([digits.fetch(torch.tensor([one]))[0][0] for one in range(240)])
    return Data((x, digits.targets[:240]))


@pytest.fixture(scope="module")
def teacher(data: Data) -> CifarResNet:
    torch.manual_seed(0)
    module, x, y = large(), (batch(data.train) - 0.5) / 0.25, data.train.targets
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module.eval()


def distilled(folder: Path, teacher: Any, data: Data, student: Any = small, **more: Any) -> limbeck.Result:
    given = {"objective": [limbeck.term("simkd")], "export": (), "run": folder, "quiet": True}
    return limbeck.distill(teacher, student, data, **{**given, **SHORT, **more})


def trained(folder: Path, teacher: Any, data: Data, **more: Any) -> limbeck.Result:
    """Without test split, files that ship, and page: quicker."""
    plan = planned(teacher, small, data, **{"objective": [limbeck.term("simkd")], "export": (), **SHORT, **more})
    run = Run(folder)
    run.begin(plan.name, plan.recipe, "")
    return conduct(plan, run, quiet=True, score_test=False)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, teacher: CifarResNet, data: Data) -> limbeck.Result:
    return distilled(tmp_path_factory.mktemp("simkd") / "r", teacher, data, export=("onnx",))


def test_projector_and_classifier_are_counted_and_the_control_is_the_plain_student(found: limbeck.Result) -> None:
    models = found.summary["models"]
    assert (models["control"]["parameters"], models["student"]["parameters"]) == (PLAIN, STUDENT) == (4934, 8294)
    assert (models["control"]["macs"], models["student"]["macs"]) == (PLAIN_MACS, STUDENT_MACS)
    assert models["student"]["weights_bytes"] > models["control"]["weights_bytes"] + 4 * (STUDENT - PLAIN)
    assert found.summary["mode"]["parameters"] == {
        "student": STUDENT,
        "projector": PROJECTOR,
        "classifier": CLASSIFIER,
        "control": PLAIN,
    }


def test_the_reader_is_told_that_the_sizes_differ(found: limbeck.Result) -> None:
    (told,) = (one for one in found.summary["findings"] if one["code"] == "student_grew")
    assert told["severity"] == "warning"
    assert all(number in told["message"] for number in ("8,294", "3,200", "330", "4,934"))
    for text in (found.summary["verdict"], found.report.read_text(), (found.folder / "MODEL_CARD.md").read_text()):
        assert "8,294" in text
        assert "4,934" in text


def test_what_ships_is_the_students_body_its_projector_and_the_teachers_classifier(
    found: limbeck.Result, teacher: CifarResNet, data: Data
) -> None:
    module = found.student
    assert isinstance(module, ReusesClassifier)
    assert isinstance(found.control, CifarResNet)
    kept = load_file(found.folder / "student.safetensors")
    torch.testing.assert_close(kept["head.weight"], teacher.classifier.weight.detach(), rtol=0, atol=0)
    torch.testing.assert_close(kept["head.bias"], teacher.classifier.bias.detach(), rtol=0, atol=0)
    assert {name.split(".")[0] for name in kept} == {"student", "projector", "head"}
    assert not (found.folder / "models/student/seed0/adapters.safetensors").exists()
    made = reuse_classifier(large(), small(), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), "blocks", "blocks")
    made.load_state_dict(kept)  # as the card says, from architectures with any weights
    x, features = batch(data.test), list[Tensor]()
    body = small().eval()
    body.load_state_dict({key.removeprefix("student."): kept[key] for key in kept if "student." in key}, strict=False)
    body.blocks.register_forward_hook(lambda *given: features.append(given[-1]))
    with torch.no_grad():
        body(data.normalization(x))
        maps = made.projector.eval()(features[0])
        logits = maps.mean((2, 3)) @ teacher.classifier.weight.T + teacher.classifier.bias
        torch.testing.assert_close(made.eval()(data.normalization(x)), logits)
    torch.testing.assert_close(predict(module, data.normalization, data.test)[0], logits)
    torch.testing.assert_close(run_onnx(found.folder / "student.onnx", data.test), logits, rtol=1e-4, atol=1e-4)
    assert found.summary["exports"][0]["max_abs_difference"] < 1e-3
    right = float((logits.argmax(1) == data.test.targets).float().mean())
    assert found.summary["models"]["student"]["metrics"]["test"]["accuracy"] == pytest.approx(right)


def test_its_file_says_what_it_holds(found: limbeck.Result) -> None:
    described = read(found.folder, "student.json")
    assert described["model"] == "small with the classifier of CifarResNet"
    assert list(described["parts"]) == ["student.", "projector.", "head."]
    assert {role: one["layer"] for role, one in described["options"].items()} == {
        "teacher": "blocks",
        "student": "blocks",
    }
    card = (found.folder / "MODEL_CARD.md").read_text()
    assert "reuse_classifier(teacher, student, some, some, 'blocks', 'blocks')" in card
    assert "- `student.*`: small without its classifier" in card.replace("  -", "-")


def test_its_maps_of_explanation_are_drawn(found: limbeck.Result) -> None:
    methods = read(found.folder, "evaluation/explain.json")["methods"]
    assert methods["student"]["method"] == "grad-cam"
    assert methods["student"]["layer"].startswith("student.blocks")
    assert methods["control"]["layer"].startswith("blocks")


def test_a_finished_run_gives_its_models_again(
    found: limbeck.Result, teacher: CifarResNet, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "fit", None)  # nothing is trained
    again = distilled(found.folder, teacher, data, export=("onnx",))
    torch.testing.assert_close(again.student.state_dict(), found.student.state_dict(), rtol=0, atol=0)
    assert isinstance(again.control, CifarResNet)


def test_the_first_loss_is_the_mean_squared_difference_of_the_maps(
    tmp_path: Path, found: limbeck.Result, teacher: CifarResNet, data: Data
) -> None:
    """One batch of all samples: its loss is known before the first step, from the weights that are not trained."""
    one = trained(tmp_path / "r", teacher, data, epochs=1, batch_size=1000, lr=1e-12, weight_decay=0.0)
    start = one.student
    start.load_state_dict(load_file(one.folder / "models/student/seed0/last.safetensors"))
    theirs, own = list[Tensor](), list[Tensor]()
    x = batch(data.train)
    handles = [teacher.blocks.register_forward_hook(lambda *given: theirs.append(given[-1]))]
    handles += [start.projector.register_forward_hook(lambda *given: own.append(given[-1]))]
    with torch.no_grad():
        teacher((x - 0.5) / 0.25)
        start.train()(data.normalization(x))
    for handle in handles:
        handle.remove()
    expected = float(((own[0] - theirs[0]) ** 2).mean())
    (line,) = map(json.loads, (one.folder / "models/student/seed0/metrics.jsonl").read_text().splitlines())
    assert line["train"]["terms"] == {"simkd": pytest.approx(expected, rel=1e-4)}


def test_the_control_is_the_same_with_and_without_simkd(
    tmp_path: Path, found: limbeck.Result, teacher: CifarResNet, data: Data
) -> None:
    other = trained(tmp_path / "r", teacher, data, objective={"supervised": 0.5, "kl": 0.5})
    name = "models/control/seed0/last.safetensors"
    assert sha256(found.folder / name) == sha256(other.folder / name)


def test_a_stopped_training_goes_on_bit_for_bit(
    tmp_path: Path, found: limbeck.Result, teacher: CifarResNet, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, taken = list[int](), loop._step

    def stopping(job: Any, state: Any, precision: Any, batch: Any, keeper: Any) -> Any:
        if job.title == "student, seed 0":
            steps.append(1)
            if len(steps) == 5:
                raise KeyboardInterrupt
            keeper._time = float("-inf")  # a checkpoint after each step
        return taken(job, state, precision, batch, keeper)

    monkeypatch.setattr(loop, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "r", teacher, data)
    assert (tmp_path / "r/models/student/seed0/checkpoint.safetensors").exists()
    monkeypatch.undo()
    again = trained(tmp_path / "r", teacher, data)
    for name in ("last", "selected"):
        file = f"models/student/seed0/{name}.safetensors"
        assert sha256(again.folder / file) == sha256(found.folder / file)


def test_another_teacher_makes_another_stage_of_the_student_alone(
    tmp_path: Path, found: limbeck.Result, data: Data
) -> None:
    other = trained(tmp_path / "r", large(), data)
    keys = [
        {role: read(one.folder, f"models/{role}/seed0/manifest.json")["key"] for role in ("control", "student")}
        for one in (found, other)
    ]
    assert keys[0]["control"] == keys[1]["control"]
    assert keys[0]["student"] != keys[1]["student"]


def test_beside_other_terms_at_layers_of_ones_own_with_seeds_and_a_head_first(
    tmp_path: Path, teacher: CifarResNet, data: Data
) -> None:
    terms = [
        limbeck.supervised(0.5),
        limbeck.term("simkd", at=("blocks.5", "blocks.2")),
        limbeck.term("attention_transfer", 1.0, at=("blocks.3", "student.blocks.1")),
    ]
    transfer = {"freeze": 1, "rate": 0.1}
    both = trained(tmp_path / "r", teacher, data, objective=terms, seeds=2, transfer=transfer)
    assert both.summary["models"]["student"]["parameters"] == STUDENT
    for seed in (0, 1):
        kept = load_file(both.folder / f"models/student/seed{seed}/last.safetensors")
        assert torch.equal(kept["head.weight"], teacher.classifier.weight)


def test_the_projector_begins_by_the_seed_alone(teacher: CifarResNet, data: Data) -> None:
    made = resolved(planned(teacher, small, data, objective=[limbeck.term("simkd")], **SHORT)).learner
    begun = list[dict[str, Tensor]]()
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        begun.append(made.make(seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    for name in ("projector.0.weight", "student.stem.0.weight"):
        assert torch.equal(begun[0][name], begun[1][name])
        assert not torch.equal(begun[0][name], begun[2][name])


# ---------------------------------------------------------------- recipes


def recipe(**more: Any) -> Recipe:
    net = {"model": "limbeck/resnet", "epochs": 1, "batch_size": 256}
    return Recipe.parse(
        {
            "name": "kept",
            "seeds": 1,
            "data": {"source": "digits"},
            "teacher": {**net, "options": {"depth": 14, "width": 8}},
            "student": {**net, "options": {"depth": 8, "width": 4}},
            "objective": {"simkd": 1},
            "controls": {"hard_labels": False},
            "export": [],
            **more,
        }
    )


def test_from_a_recipe_the_classifier_is_that_of_the_trained_teacher(tmp_path: Path) -> None:
    found = execute(recipe(), tmp_path / "r", quiet=True, score_test=False)
    kept, taught = (
        load_file(found.folder / f"models/{role}/seed0/selected.safetensors") for role in ("student", "teacher")
    )
    assert torch.equal(kept["head.weight"], taught["classifier.weight"])
    torch.testing.assert_close(found.student.state_dict(), kept, rtol=0, atol=0)
    made = resolved(from_recipe(recipe().to_dict())).learner
    assert made.name == "limbeck/resnet with the classifier of limbeck/resnet"
    for role, depth, width in (("teacher", 14, 8), ("student", 8, 4)):
        told = {"model": "limbeck/resnet", "options": {"depth": depth, "width": width}, "layer": "blocks"}
        assert made.options[role] == told


def test_a_teacher_of_another_order_of_labels_gives_its_classifier_in_the_datas(tmp_path: Path) -> None:
    torch.manual_seed(5)
    net = CifarResNet((1, 8, 8), 10, depth=14, width=8)
    weights = write_tensors(tmp_path / "teacher.safetensors", net.state_dict())
    order = [str(digit) for digit in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    taught = {"model": "limbeck/resnet", "options": {"depth": 14, "width": 8}, "weights": str(weights)}
    found = execute(recipe(teacher={**taught, "class_order": order}), tmp_path / "r", quiet=True, score_test=False)
    kept = load_file(found.folder / "models/student/seed0/last.safetensors")
    for digit in range(10):
        assert torch.equal(kept["head.weight"][digit], net.classifier.weight[order.index(str(digit))])
        assert kept["head.bias"][digit] == net.classifier.bias[order.index(str(digit))]


def test_the_doctor_tells_the_sizes_before_anything_is_trained() -> None:
    found = {one.code: one for one in examine_recipe(recipe())}
    assert found["student_grew"].evidence == {
        "student": STUDENT,
        "control": PLAIN,
        "projector": PROJECTOR,
        "classifier": CLASSIFIER,
    }
    assert "student_grew" not in {one.code for one in examine_recipe(recipe(objective={"kl": 1}))}


# ---------------------------------------------------------------- refusals


def refusal(teacher: Any, data: Data, folder: Path, **more: Any) -> str:
    with pytest.raises(LimbeckError) as caught:
        distilled(folder / "r", teacher, data, **more)
    assert not (folder / "r/models/control").exists()
    return str(caught.value)


def test_one_module_is_the_teacher(tmp_path: Path, found: limbeck.Result, teacher: CifarResNet, data: Data) -> None:
    given: dict[str, Any] = {
        "2 teachers": [teacher, large()],
        "FunctionTeacher is no torch module": lambda x: torch.zeros(len(x), 10),
        "CifarResNet is no torch module": str(found.folder / "student.onnx"),
    }
    for number, (what, other) in enumerate(given.items()):
        told = refusal(other, data, tmp_path / str(number))
        assert what in told
        assert "give one torch module as the teacher" in told


@pytest.mark.parametrize(
    ("terms", "what", "cure"),
    [
        ([limbeck.term("simkd", adapter="conv")], "a projector of its own", "use fitnet"),
        ([limbeck.term("simkd", at="each_stage")], "at is each_stage; simkd reads the last", "leave it out"),
        ([limbeck.term("simkd", at=[("a", "b"), ("c", "d")])], "[['a', 'b'], ['c', 'd']]", "leave it out"),
        ([limbeck.term("simkd"), limbeck.term("simkd", name="two")], "'simkd' and 'two' are both simkd", "fitnet"),
        ([limbeck.term("simkd", at=("block", "blocks"))], "no layer 'block'", "limbeck layers"),
        ([limbeck.term("simkd", at=("blocks.4.layers", "blocks"))], "from the mean of layer", "right before the head"),
    ],
)
def test_terms_that_can_not_be_are_refused_first(
    tmp_path: Path, teacher: CifarResNet, data: Data, terms: list[Any], what: str, cure: str
) -> None:
    told = refusal(teacher, data, tmp_path, objective=terms)
    assert what in told
    assert cure in told


def test_models_without_maps_and_heads_behind_layers_are_refused(
    tmp_path: Path, teacher: CifarResNet, data: Data
) -> None:
    told = refusal(teacher, data, tmp_path / "a", student=lambda: MLP((1, 8, 8), 10, hidden=[8]))
    assert "term 'simkd' reads the last feature map, which is not found in both models" in told
    told = refusal(ConvMNIST((1, 8, 8), 10), data, tmp_path / "b", teacher_normalization=None)
    assert re.search(r"head '\S+' does not give its logits from the mean", told)


def test_a_run_without_a_trained_teacher_has_no_classifier_to_keep(tmp_path: Path, data: Data) -> None:
    terms = [limbeck.supervised(1.0), limbeck.term("simkd")]
    with pytest.raises(RecipeError, match="no trained teacher"):
        limbeck.self_distill(small, data, objective=terms, run=tmp_path / "r", epochs=1, quiet=True)


def test_the_doctor_says_what_is_refused(teacher: CifarResNet, data: Data) -> None:
    told = limbeck.examine([teacher, large()], small, data, objective=[limbeck.term("simkd")])
    assert any(one.code == "refused" and "2 teachers" in one.message for one in told)
