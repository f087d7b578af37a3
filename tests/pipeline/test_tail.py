"""What follows the student: pruned, recovered, and shipped; each stage once, each file as it was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import limbeck.pipeline.tail.pruning as module
from limbeck.compress.shipped.reloaded import reload
from limbeck.data import Normalization, load
from limbeck.errors import FileError, LimbeckError, RecipeError
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models import DigitsStudent, build
from limbeck.models.structure import resize
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe

STAGES: list[dict[str, Any]] = [
    {"prune": {"macs": 0.5, "importance": "taylor", "batches": 2}},
    {"distill": {"epochs": 1, "teacher": "student"}},
    {"prune": {"sparsity": 0.4, "scope": "uniform", "name": "thin"}},
    {"distill": {"epochs": 2, "name": "last", "sparsity": {"final": 0.6, "end": 0.5, "every": 4}, "control": False}},
]


def short(**changes: Any) -> Recipe:
    plain = ["seeds=1", "student.epochs=1", "teacher.epochs=1", "name=short", "controls.hard_labels=false"]
    return Recipe.load("digits", plain).changed({"stages": STAGES, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tail") / "short"
    execute(short(), path, quiet=True)
    return path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def weights(folder: Path, role: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"models/{role}/seed0/selected.safetensors")


def test_each_stage_is_told_and_scored(folder: Path) -> None:
    summary = read(folder, "summary.json")
    assert [one["name"] for one in summary["stages"]] == ["pruned", "recovered", "thin", "last"]
    roles = {"teacher", "control", "student", "pruned", "recovered", "recovered_control", "thin", "last"}
    assert set(summary["models"]) == roles
    for role in roles - {"teacher"}:
        scored = read(folder, f"evaluation/{role}-seed0.json")
        assert set(scored["selected"]) >= {"train", "validation", "test"}
    pruned, recovered, thin, _ = summary["stages"]
    assert pruned["from"] == "student"
    assert recovered["control"] == summary["models"]["recovered_control"]["metrics"]["test"]["accuracy"]
    assert pruned["macs"] <= 0.5 * summary["models"]["student"]["macs"]
    assert {name: left for name, (_, left) in pruned["widths"].items()} == {
        name: len(weights(folder, "pruned")[f"{name}.weight"]) for name in ("features.0", "features.3")
    }
    assert thin["sparsity"] == pytest.approx(0.4, abs=0.01)


def test_a_pruned_model_is_made_of_smaller_tensors(folder: Path) -> None:
    whole, cut = weights(folder, "student"), weights(folder, "pruned")
    assert sum(one.numel() for one in cut.values()) < 0.7 * sum(one.numel() for one in whole.values())
    described = read(folder, "models/pruned/seed0/structure.json")
    net = resize(DigitsStudent(), described["layers"])
    net.load_state_dict(cut)
    summary = read(folder, "summary.json")["models"]["pruned"]
    assert (parameters(net), macs(net, (1, 8, 8))) == (summary["parameters"], summary["macs"])


def test_zeros_stay_and_grow_to_what_was_asked(folder: Path) -> None:
    for role, share in (("recovered", 0.0), ("thin", 0.4), ("last", 0.6)):
        own = weights(folder, role)
        inner = torch.cat([own[f"features.{number}.weight"].flatten() for number in (0, 3)])
        assert float((inner == 0).float().mean()) == pytest.approx(share, abs=0.02), role
        assert float((own["classifier.1.weight"] == 0).float().mean()) < 0.01
    thin, last = weights(folder, "thin"), weights(folder, "last")
    assert all(bool((last[name][thin[name] == 0] == 0).all()) for name in ("features.0.weight", "features.3.weight"))


def test_what_ships_is_the_last_stage_and_says_what_was_scored(folder: Path) -> None:
    summary, described = read(folder, "summary.json"), read(folder, "student.json")
    assert (described["stage"], summary["shipped_role"]) == ("last", "last")
    net = build(described["model"], input_shape=(1, 8, 8), classes=10, options=described["options"])
    resize(net, described["layers"], where="student.json").load_state_dict(load_file(folder / "student.safetensors"))
    test = load("digits").test
    inputs, targets = test.inputs.float(), test.targets
    with torch.no_grad():
        logits = net.eval()(Normalization.from_dict(described["normalization"])(inputs))
    right = float((logits.argmax(1) == targets).double().mean())
    assert right == pytest.approx(summary["models"]["last"]["metrics"]["test"]["accuracy"])
    session = onnxruntime.InferenceSession(folder / "student.onnx", providers=["CPUExecutionProvider"])
    said = session.run(["logits"], {"image": inputs.numpy()})[0]
    assert np.abs(said - logits.numpy()).max() < 1e-4
    assert summary["exports"][0]["metrics"]["test"]["accuracy"] == pytest.approx(right)
    assert "What ships is last: " in summary["verdict"]


def test_the_card_and_the_page_tell_the_model_that_ships(folder: Path) -> None:
    summary, card = read(folder, "summary.json"), (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    last, student = (summary["models"][role] for role in ("last", "student"))
    assert f"with 3 layers cut to the sizes in `student.json`, {last['parameters']:,} parameters" in card
    numbers = card.partition("## Numbers")[2]
    row = next(line for line in numbers.splitlines() if line.startswith("| test | 540 |"))
    assert f"{100 * last['metrics']['test']['accuracy']:.2f} %" in row
    file = "`models/last/seed0/selected.safetensors` in the run's folder, the same weights: sha256 "
    assert f"{file}`{last['runs'][0]['sha256']}`" in card
    assert last["runs"][0]["sha256"] != student["runs"][0]["sha256"]
    assert f"{student['parameters']:,} parameters" not in card
    assert "of 2 (chosen on validation), seed 0" in card
    assert "Exported from last, made of seed 0" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_cards_own_lines_give_what_was_scored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    code = card.partition("With PyTorch and limbeck:")[2].partition("```python")[2].partition("```")[0]
    monkeypatch.chdir(folder)
    test = load("digits").test
    known: dict[str, Any] = {"pixels": test.inputs[0].float().numpy()}
    exec(code, known)  # noqa: S102  (the card's own example)
    found = reload(folder / "student.json")
    with torch.no_grad():
        assert torch.equal(known["logits"], found.module(found.preparation(test.inputs[:1].float())))


def test_every_model_of_a_result_is_its_file(folder: Path) -> None:
    result = execute(short(stages=STAGES[:2]), folder.parent / "two", quiet=True)
    for role in ("student", "pruned", "recovered", "recovered_control"):
        own = weights(result.folder, role)
        assert all(torch.equal(value, own[name]) for name, value in result.model(role).state_dict().items()), role
    assert parameters(result.student) == result.summary["models"]["recovered"]["parameters"]
    assert parameters(result.model("student")) == parameters(DigitsStudent())


def test_a_recovery_differs_from_its_control_in_the_teacher_alone(folder: Path) -> None:
    lines = {
        role: [json.loads(line) for line in (folder / f"models/{role}/seed0/metrics.jsonl").read_text().splitlines()]
        for role in ("recovered", "recovered_control")
    }
    assert {len(one) for one in lines.values()} == {1}
    assert len({one[0]["rate"] for one in lines.values()}) == 1
    assert set(lines["recovered"][0]["train"]["terms"]) == {"supervised", "kl"}
    assert set(lines["recovered_control"][0]["train"]["terms"]) == {"supervised"}


def test_a_stopped_run_goes_on_and_stages_that_are_done_are_not_run_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "magnitude_masks", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(short(), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    done = tmp_path / "run/models/pruned/seed0"
    before = {path: path.stat().st_mtime_ns for path in done.iterdir()}
    execute(short(), tmp_path / "run", quiet=True)
    assert {path: path.stat().st_mtime_ns for path in done.iterdir()} == before
    for role in ("pruned", "recovered", "thin", "last"):
        one, other = weights(folder, role), weights(tmp_path / "run", role)
        assert all(torch.equal(one[name], other[name]) for name in one), role


def test_a_structure_that_was_changed_is_refused(folder: Path) -> None:
    file = folder / "models/pruned/seed0/structure.json"
    before = file.read_text()
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"done"', '"stopped"'))
    try:
        file.write_text(before.replace('"features.0"', '"features.9"'))
        with pytest.raises(FileError, match=r"structure\.json is missing or not as it was written"):
            execute(short(), folder, quiet=True)
    finally:
        file.write_text(before)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{"prune": {}}], "expected one of 'macs', 'channels' and 'sparsity', found none"),
        ([{"prune": {"macs": 0.5, "sparsity": 0.5}}], "found macs and sparsity"),
        ([{"prune": {"macs": 1.0}}], "less than 1"),
        ([{"prune": {"sparsity": 1.0}}], "less than 1"),
        ([{"prune": {"sparsity": 0.5, "importance": "taylor"}}], "'importance' is for channels"),
        ([{"prune": {"macs": 0.5, "importance": "magnitud"}}], "did you mean 'magnitude'"),
        ([{"prune": {"mac": 0.5}}], "did you mean 'macs'"),
        ([{"prun": {"macs": 0.5}}], "did you mean 'prune'"),
        ([{"prune": {"macs": 0.5}, "distill": {}}], "found prune and distill"),
        ([{}], "found none"),
        (["prune"], "expected one of 'macs'"),
        ([{"distill": {"teacher": "pruned"}}], "learns from 'pruned', and no stage before it"),
        *[
            ([{"prune": {"macs": 0.5, "name": name}}], f"have the name '{name}'")
            for name in ("teacher", "teacher2", "assistant", "generation3", "control", "teacher_outputs", "ensemble")
        ],
        ([{"distill": {"name": "a_control"}}, {"distill": {"name": "a"}}], "have the name 'a'"),
        ([{"prune": {"macs": 0.5, "name": "a"}}, {"distill": {"name": "a"}}], "have the name 'a'"),
        ([{"distill": {"teacher": "recovered_control", "name": "b"}}], "no stage before it has that name"),
        ([{"distill": {"sparsity": {"final": 0.5, "begin": 0.9}}}], "begin to be at most end"),
    ],
)
def test_wrong_stages_are_told_before_anything_runs(stages: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        short(stages=stages)
    assert words in str(caught.value)


def test_a_target_that_can_not_be_reached_is_told_when_what_was_made_is_kept(tmp_path: Path) -> None:
    stages = [{"prune": {"macs": 0.5}}, {"prune": {"macs": 0.01}}, {"distill": {}}]
    with pytest.raises(RecipeError, match=r"leaves .*% of the cost; 1\.0% is asked for"):
        execute(short(stages=stages), tmp_path / "run", quiet=True)
    summary = read(tmp_path / "run", "summary.json")
    assert [one["name"] for one in summary["stages"]] == ["pruned"]
    assert "stage_failed" in [one["code"] for one in summary["findings"]]
    assert read(tmp_path / "run", "student.json")["stage"] == "pruned"
    assert (tmp_path / "run/student.onnx").exists()


def test_a_recipe_without_stages_is_as_it_was() -> None:
    assert "stages" not in Recipe.load("digits").to_dict()
    assert Recipe.parse(short().to_dict()).to_dict() == short().to_dict()


def test_the_two_files_that_ship_are_a_model_again(folder: Path) -> None:
    summary, test = read(folder, "summary.json"), load("digits").test
    for file in ("student.json", "student.safetensors"):
        found = reload(folder / file)
        with torch.no_grad():
            logits = found.module(found.preparation(test.inputs.float()))
        right = float((logits.argmax(1) == test.targets).double().mean())
        assert right == pytest.approx(summary["models"]["last"]["metrics"]["test"]["accuracy"])
        assert (found.classes, found.shape) == (tuple("0123456789"), (1, 8, 8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "'model' is wrong"),
        ({"model": "limbeck/nothing"}, "nothing"),
        ({"model": "os/system"}, "os"),
        ({"classes": ["a"] * 3}, "of 1 to 3, found 10"),
        ({"classes": [1] * 10}, "'classes' has to be"),
        ({"shape": [1, 8, 10**9]}, "no input is of that shape"),
        ({"shape": []}, "no input is of that shape"),
        ({"file": "../../../../etc/passwd"}, "passwd is missing"),
        ({"sha256": "0" * 64}, "not the file that student.json was written for"),
        ({"layers": {"features.0": {"in_channels": 1, "out_channels": 10**9, "groups": 1}}}, "of 1 to 8"),
        ({"layers": {}}, "does not fit"),
        ({"layers": [1]}, "'layers' has to map"),
        ({"normalization": {}}, "normalization|describes no model"),
        ({"input_size": "big"}, "'input_size'"),
        ({"parts": {"head.": "x"}}, "no name builds"),
    ],
)
def test_a_description_that_lies_is_refused(folder: Path, tmp_path: Path, change: Any, words: str) -> None:
    (tmp_path / "student.safetensors").write_bytes((folder / "student.safetensors").read_bytes())
    told = read(folder, "student.json") | change
    (tmp_path / "student.json").write_text(json.dumps(told))
    with pytest.raises(LimbeckError, match=words):
        reload(tmp_path / "student.json")
