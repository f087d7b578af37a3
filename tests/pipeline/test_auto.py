"""``objective: auto``: a search on validation, resumable, told with its cost, blind to the test split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck.data import load
from limbeck.data.split import Split
from limbeck.errors import RecipeError
from limbeck.evaluation.predict import predict
from limbeck.files import read_tensors
from limbeck.models import DigitsStudent
from limbeck.pipeline import auto, experiment, stages
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe, json_schema
from limbeck.training.settings import Schedule, Settings, Transfer


def asked(**changes: Any) -> Recipe:
    recipe = Recipe.load("digits", ["objective=auto", "seeds=2", "student.epochs=1", "teacher.epochs=1", "name=auto"])
    return recipe.changed({"student.labels": 400, "controls.hard_labels": False, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auto") / "r"
    execute(asked(), path, quiet=True, score_test=False)
    return path


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_best_point_on_validation_is_used_for_all_seeds(folder: Path) -> None:
    summary = read(folder / "summary.json")
    told = summary["objective_search"]
    points = {(one["temperature"], one["supervised"]) for one in told["points"]}
    assert points == {(t, w) for t in (1.0, 2.0, 4.0, 8.0) for w in (0.1, 0.5)}
    best = max(told["points"], key=lambda one: (one["accuracy"], -one["loss"]))
    assert told["chosen"] == {key: best[key] for key in ("temperature", "supervised")}
    assert summary["objective"]["kl"]["temperature"] == best["temperature"]
    assert summary["objective"]["kl"]["weight"] == pytest.approx(1 - best["supervised"])
    assert summary["objective"]["supervised"]["weight"] == best["supervised"]
    assert summary["recipe"]["objective"] == "auto"
    assert read(folder / "run.json")["objective"] == summary["objective"]
    assert (told["split"], told["seed"], told["epochs"]) == ("validation", 0, 1)
    assert told["seconds"] == pytest.approx(sum(one["seconds"] for one in told["points"]), abs=0.01)
    weights = summary["objective"]["supervised"]["weight"], summary["objective"]["kl"]["weight"]
    for seed in (0, 1):
        line = json.loads((folder / f"models/student/seed{seed}/metrics.jsonl").read_text().splitlines()[0])["train"]
        parts = line["terms"]["supervised"], line["terms"]["kl"]
        assert line["loss"] == pytest.approx(sum(w * part for w, part in zip(weights, parts, strict=True)), rel=1e-3)


def test_each_score_is_that_of_the_points_own_files(folder: Path) -> None:
    data = load("digits")
    for point in read(folder / "summary.json")["objective_search"]["points"]:
        name = f"temperature{point['temperature']:g}-supervised{point['supervised']:g}"
        module = DigitsStudent()
        module.load_state_dict(read_tensors(folder / "models" / "auto" / name / "seed0" / "selected.safetensors")[0])
        logits, targets = predict(module, data.normalization, data.validation)
        assert point["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).double().mean()))
        assert point["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits.double(), targets)))


def test_the_control_and_the_final_students_are_those_of_the_resolved_recipe(folder: Path, tmp_path: Path) -> None:
    """The search leaves no trace in what it chooses for: the same recipe spelled out ends in the same weights."""
    chosen = read(folder / "summary.json")["objective"]
    spelled = {name: {key: one[key] for key in ("weight", "temperature") if key in one} for name, one in chosen.items()}
    execute(asked(objective=spelled, seeds=1), tmp_path / "r", quiet=True, score_test=False)
    for role in ("student", "control"):
        name = f"models/{role}/seed0/selected.safetensors"
        assert (tmp_path / "r" / name).read_bytes() == (folder / name).read_bytes()


def test_a_search_that_was_stopped_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def stopping(context: Any, role: str, *rest: Any) -> Any:
        trained.append(role)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return stages.train(context, role, *rest)

    monkeypatch.setattr(auto, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        execute(asked(), tmp_path / "r", quiet=True, score_test=False)
    monkeypatch.undo()
    files = sorted((tmp_path / "r" / "models" / "auto").rglob("selected.safetensors"))
    assert len(files) == 3
    before = [file.stat().st_mtime_ns for file in files]
    execute(asked(), tmp_path / "r", quiet=True, score_test=False)
    assert [file.stat().st_mtime_ns for file in files] == before
    first, second = (read(path / "summary.json")["objective_search"] for path in (folder, tmp_path / "r"))
    assert [{**one, "seconds": 0} for one in first["points"]] == [{**one, "seconds": 0} for one in second["points"]]


def test_the_test_split_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    fetch = Split.fetch

    def watching(self: Split, index: Any) -> Any:
        looked.append(self.name)
        return fetch(self, index)

    plan = replace(experiment.from_recipe(asked().to_dict()), seeds=(0,))
    from limbeck.pipeline.folder import Run

    run = Run(tmp_path / "r")
    run.begin("r", {}, "")
    context = stages.Context(plan, run, _silent(), score_test=False)
    monkeypatch.setattr(Split, "fetch", watching)
    auto.search(context, _teacher(), "")
    assert set(looked) == {"train", "validation"}


def _silent() -> Any:
    from limbeck.training.progress import Silent

    return Silent()


def _teacher() -> Any:
    from limbeck.teachers import FunctionTeacher

    return FunctionTeacher(lambda inputs: inputs.flatten(1)[:, :10])


def test_the_cost_is_told_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(asked(seeds=1), tmp_path / "r", score_test=False)
    told = capsys.readouterr().err
    assert "objective: auto: 8 short trainings of 1 epoch, about" in told
    assert told.index("8 short trainings") < told.index("objective: auto: temperature")
    assert "s of training" in told


def test_it_works_from_python(tmp_path: Path) -> None:
    data = limbeck.Data((torch.rand(120, 1, 8, 8), torch.arange(120) % 3))
    teacher, student = (limbeck.models.MLP((1, 8, 8), 3, hidden=[size]) for size in (16, 4))
    options: dict[str, Any] = {"epochs": 1, "export": (), "quiet": True, "run": tmp_path / "r"}
    found = limbeck.distill(teacher, student, data, objective="auto", **options).summary
    assert len(found["objective_search"]["points"]) == 8
    assert found["recipe"]["objective"] == "auto"
    again = limbeck.distill(teacher, student, data, objective="auto", **options).summary
    assert again["objective_search"] == found["objective_search"]
    with pytest.raises(RecipeError):
        limbeck.distill(teacher, student, data, objective="automatic", **{**options, "run": tmp_path / "s"})  # type: ignore[arg-type]


def test_without_labels_the_weight_is_not_searched() -> None:
    plan = experiment.from_recipe(asked().to_dict())
    assert len(auto.points(plan)) == 8
    bare = load("digits")
    bare.train = bare.train.without_labels([])
    assert [one["temperature"] for one in auto.points(replace(plan, data=bare))] == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(("epochs", "expected"), [(40, 10), (8, 2), (5, 2), (2, 2), (1, 1)])
def test_a_short_training_is_a_quarter_with_its_schedule_shortened_alike(epochs: int, expected: int) -> None:
    settings = Settings(
        epochs=epochs,
        schedule=Schedule("step", warmup=0.0, milestones=tuple(range(1, epochs))),
        transfer=Transfer(freeze=epochs - 1),
    )
    plan = experiment.from_recipe(asked().to_dict())
    made = auto.short(replace(plan.student, settings=settings)).settings
    assert made is not None
    assert made.epochs == expected
    assert made.transfer is not None
    assert made.transfer.freeze < made.epochs
    assert all(1 <= one <= expected for one in made.schedule.milestones)


def test_the_schema_for_editors_takes_auto() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    base = {"teacher": {"model": "limbeck/cnn5"}, "student": {"model": "limbeck/cnn5"}}
    jsonschema.validate({**base, "objective": "auto"}, json_schema())
    jsonschema.validate({**base, "objective": {"kl": 1.0}}, json_schema())
    for wrong in ("automatic", {}, {"kll": 1.0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**base, "objective": wrong}, json_schema())


def test_a_recipe_says_auto_and_nothing_like_it() -> None:
    assert asked().spec.objective == "auto"
    assert [term.name for term in asked().objective.terms] == ["supervised", "kl"]
    with pytest.raises(RecipeError, match="auto"):
        asked(objective="automatic")
    with pytest.raises(RecipeError, match=r"objective"):
        asked(**{"objective.kl.temperature": 3})
