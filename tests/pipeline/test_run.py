"""A whole run, on digits, made as short as it can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import limbeck
from limbeck.errors import FileError, ModelError, RecipeError, ResumeError
from limbeck.evaluation.predict import predict
from limbeck.files import sha256
from limbeck.models import DigitsStudent
from limbeck.pipeline.folder import Run
from limbeck.pipeline.run import execute
from limbeck.pipeline.stages import train
from limbeck.recipe.recipe import Recipe


def short(**changes: Any) -> Recipe:
    recipe = Recipe.load("digits", ["seeds=2", "student.epochs=2", "teacher.epochs=1", "name=short"])
    return recipe.changed(changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "short"
    execute(short(), path, command="limbeck run digits", quiet=True)
    return path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_the_summary_keeps_its_promise(folder: Path) -> None:
    summary = read(folder, "summary.json")
    promised = {"limbeck", "recipe", "data", "models", "difference", "exports", "findings", "environment", "seconds"}
    assert promised <= set(summary)
    assert set(summary["data"]) >= {"name", "classes", "splits", "fingerprint"}
    assert summary["data"]["splits"] == {"train": 1005, "validation": 252, "test": 540}
    assert set(summary["models"]) == {"teacher", "control", "control_hard_labels", "student"}
    for model in summary["models"].values():
        assert {"parameters", "macs", "weights_bytes", "gzip_bytes", "latency_ms", "metrics", "runs"} <= set(model)
        assert set(model["metrics"]) == {"train", "validation", "test"}
        for run in model["runs"]:
            assert {"seed", "selected_epoch", "last_epoch", "metrics", "file", "sha256"} <= set(run)
            assert sha256(folder / run["file"]) == run["sha256"]
    assert {"metric", "split", "mean", "low", "high", "seeds"} <= set(summary["difference"])
    for export in summary["exports"]:
        assert {"path", "format", "sha256", "bytes", "max_abs_difference", "latency_ms", "metrics"} <= set(export)
        assert sha256(folder / export["path"]) == export["sha256"]
    for finding in summary["findings"]:
        assert set(finding) == {"code", "severity", "message", "evidence", "cause", "cure"}


def test_the_means_and_the_difference_are_those_of_the_runs(folder: Path) -> None:
    summary = read(folder, "summary.json")
    scores = {
        role: [run["metrics"]["selected"]["test"]["accuracy"] for run in model["runs"]]
        for role, model in summary["models"].items()
    }
    for role, values in scores.items():
        assert summary["models"][role]["metrics"]["test"]["accuracy"] == pytest.approx(sum(values) / len(values))
    each = [student - control for student, control in zip(scores["student"], scores["control"], strict=True)]
    mean = sum(each) / 2
    half = 12.706 * abs(each[0] - each[1]) / 2  # t(0.975, 1) = 12.706; the standard error of two is half their distance
    assert summary["difference"]["mean"] == pytest.approx(mean)
    assert summary["difference"]["low"] == pytest.approx(mean - half, abs=1e-4)


def test_the_shipped_weights_load_without_limbeck_and_score_what_is_told(folder: Path) -> None:
    summary, described = read(folder, "summary.json"), read(folder, "student.json")
    module = DigitsStudent()
    module.load_state_dict(load_file(folder / "student.safetensors"))
    from limbeck.data import Normalization, load

    data = load("digits")
    logits, targets = predict(module, Normalization.from_dict(described["normalization"]), data.test)
    shipped = next(run for run in summary["models"]["student"]["runs"] if run["seed"] == summary["shipped_seed"])
    right = float((logits.argmax(1) == targets).double().mean())
    assert right == pytest.approx(shipped["metrics"]["selected"]["test"]["accuracy"])
    assert sha256(folder / "student.safetensors") == described["sha256"]


def test_student_and_controls_differ_in_the_objective_only(folder: Path) -> None:
    lines = {
        role: [json.loads(line) for line in (folder / f"models/{role}/seed0/metrics.jsonl").read_text().splitlines()]
        for role in ("control", "control_hard_labels", "student")
    }
    assert {len(one) for one in lines.values()} == {2}
    assert {tuple(line["rate"] for line in one) for one in lines.values()} == {
        tuple(x["rate"] for x in lines["student"])
    }
    assert {tuple(line["step"] for line in one) for one in lines.values()} == {(16, 32)}  # ceil(1005 / 64) steps
    assert set(lines["control"][0]["train"]["terms"]) == {"supervised"}
    assert set(lines["student"][0]["train"]["terms"]) == {"supervised", "kl"}
    digests = {role: sha256(folder / f"models/{role}/seed0/last.safetensors") for role in lines}
    assert len(set(digests.values())) == 3


def test_a_finished_run_is_not_run_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    execute(short(), folder, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_of_another_recipe_is_refused(folder: Path) -> None:
    with pytest.raises(ResumeError, match="another recipe"):
        execute(short(seeds=1), folder, quiet=True)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match="holds no run"):
        execute(short(), tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_run_goes_on_without_running_finished_stages_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limbeck.pipeline import run as pipeline
    from limbeck.pipeline import walk

    calls: list[tuple[str, int]] = []

    def dying(context: Any, role: str, seed: int, *rest: Any) -> Any:
        calls.append((role, seed))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(context, role, seed, *rest)

    monkeypatch.setattr(walk, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        execute(short(), tmp_path / "r", quiet=True)
    assert read(tmp_path / "r", "run.json")["status"] == "stopped"
    teacher = tmp_path / "r/models/teacher/seed0/selected.safetensors"
    before = teacher.stat().st_mtime_ns
    monkeypatch.undo()
    pipeline.resume(tmp_path / "r", quiet=True)
    assert teacher.stat().st_mtime_ns == before
    for role in ("teacher", "control", "control_hard_labels", "student"):
        name = f"models/{role}/seed0/selected.safetensors"
        assert sha256(tmp_path / "r" / name) == sha256(folder / name), f"{role} is not what an uninterrupted run gives"


def test_a_changed_file_of_a_done_stage_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    (run.path / "stage").mkdir()
    (run.path / "stage" / "w.bin").write_bytes(b"kept")
    run.complete("stage", "key", {"n": 1}, ["w.bin"])
    assert run.done("stage", "key") == {"n": 1}
    with pytest.raises(ResumeError, match="other settings"):
        run.done("stage", "other")
    (run.path / "stage" / "w.bin").write_bytes(b"kelt")
    with pytest.raises(FileError, match=r"w\.bin"):
        run.done("stage", "key")


def test_stages_are_shared_between_runs_and_test_is_not_looked_at(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = execute(short(seeds=1), tmp_path / "a", quiet=True, score_test=False, shared=shared)
    kept = {path.name: path.stat().st_mtime_ns for path in shared.iterdir()}
    second = execute(
        short(**{"seeds": 1, "objective.kl.temperature": 8}),
        tmp_path / "b",
        quiet=True,
        score_test=False,
        shared=shared,
    )
    added = {path.name for path in shared.iterdir()} - set(kept)
    assert len([name for name in added if "models-student" in name]) == 1
    assert not [name for name in added if "models-teacher" in name or "models-control" in name]
    for result in (first, second):
        assert "test" not in result.summary["models"]["student"]["metrics"]
        assert not list(result.folder.glob("student.*"))


def test_a_shared_control_is_compared_with_each_runs_own_teacher(tmp_path: Path) -> None:
    """The control does not depend on the teacher: two runs share it, but not how it compares with the teacher."""
    agreements = []
    for epochs in (1, 2):
        run = tmp_path / f"run{epochs}"
        recipe = short(**{"teacher.epochs": epochs, "seeds": 1})
        execute(recipe, run, quiet=True, score_test=False, shared=tmp_path / "shared")
        found = read(run, "evaluation/control-seed0.json")["selected"]["validation"]
        agreements.append((found["accuracy"], found["kl_to_teacher"]))
    assert agreements[0][0] == agreements[1][0]
    assert agreements[0][1] != agreements[1][1]


def test_a_model_that_ends_in_softmax_is_refused_with_the_cure(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    plain = limbeck.models.MLP((1, 8, 8), 3, hidden=[8])
    soft = torch.nn.Sequential(limbeck.models.MLP((1, 8, 8), 3, hidden=[8]), torch.nn.Softmax(dim=1))
    with pytest.raises(ModelError, match="softmax"):
        limbeck.distill(soft, plain, (x, y), run=tmp_path / "a", quiet=True)
    with pytest.raises(ModelError, match="softmax"):
        limbeck.distill(plain, soft, (x, y), run=tmp_path / "b", quiet=True)


def test_a_teacher_function_that_ends_in_softmax_is_refused(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    plain = limbeck.models.MLP((1, 8, 8), 3, hidden=[8])
    with pytest.raises(ModelError, match="softmax"):
        limbeck.distill(lambda x: torch.softmax(plain(x), 1), plain, (x, y), run=tmp_path / "a", quiet=True)


def test_what_can_not_end_well_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"student\.labels is 5000; the training split has 1005"):
        execute(short(**{"student.labels": 5000}), tmp_path / "r", quiet=True)
    assert not list((tmp_path / "r").rglob("*.safetensors"))
    execute(short(seeds=1), tmp_path / "r", quiet=True, score_test=False)  # the folder is free for the corrected recipe


def test_a_users_modules_are_left_as_they_were(tmp_path: Path) -> None:
    x, y = torch.rand(90, 1, 8, 8), torch.arange(90) % 3
    teacher, student = (limbeck.models.MLP((1, 8, 8), 3, hidden=[size]) for size in (16, 4))
    teacher.train()
    before = {name: value.clone() for module in (teacher, student) for name, value in module.state_dict().items()}
    result = limbeck.distill(teacher, student, (x, y), run=tmp_path / "r", epochs=2, export=(), quiet=True)
    after = {name: value for module in (teacher, student) for name, value in module.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert teacher.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert not any(module._forward_hooks for module in (*teacher.modules(), *student.modules()))
    assert type(result.student) is type(student)
    assert "<table>" in result._repr_html_()


def test_images_without_labels_a_dataset_and_a_loader_are_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(120, 1, 8, 8), torch.arange(120) % 3
    teacher, student = (limbeck.models.MLP((1, 8, 8), 3, hidden=[size]) for size in (16, 4))
    options: dict[str, Any] = {"epochs": 1, "export": (), "quiet": True}
    data = limbeck.Data((x, y), unlabeled=torch.rand(40, 1, 8, 8))
    more = limbeck.distill(teacher, student, data, run=tmp_path / "a", **options)
    assert "control_hard_labels" in more.summary["models"]
    dataset = torch.utils.data.TensorDataset(x, y)
    limbeck.distill(teacher, student, dataset, run=tmp_path / "b", **options)
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)
    data = limbeck.Data(loader, validation=(x[:30], y[:30]), test=(x[30:60], y[30:60]))
    found = limbeck.distill(teacher, student, data, run=tmp_path / "c", **options)
    assert "not_replayable" in [one["code"] for one in found.summary["findings"]]
    function = limbeck.distill(lambda inputs: teacher(inputs), student, (x, y), run=tmp_path / "d", **options)
    assert function.summary["models"]["teacher"]["parameters"] is None
    several = limbeck.distill([teacher, teacher], student, (x, y), run=tmp_path / "e", **options)
    assert several.summary["models"]["teacher"]["metrics"]["test"]["accuracy"] == pytest.approx(
        function.summary["models"]["teacher"]["metrics"]["test"]["accuracy"]
    )


def test_training_images_without_any_label(tmp_path: Path) -> None:
    x, y = torch.rand(120, 1, 8, 8), torch.arange(120) % 2
    teacher, student = (limbeck.models.MLP((1, 8, 8), 2, hidden=[size]) for size in (16, 4))
    data = limbeck.Data(x[:60], validation=(x[60:90], y[60:90]), test=(x[90:], y[90:]), classes=["a", "b"])
    options: dict[str, Any] = {"objective": {"kl": 1.0}, "epochs": 1, "export": (), "quiet": True}
    found = limbeck.distill(teacher, student, data, run=tmp_path / "r", **options).summary
    assert "control" not in found["models"]
    assert "accuracy" not in found["models"]["student"]["metrics"]["train"]  # of nothing there is no share
    assert found["models"]["student"]["metrics"]["test"]["samples"] == 30
    assert found["sampling_difference"] is None
