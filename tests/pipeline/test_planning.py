"""Plans from what is measured here, against teachers and students that take a known time, and real stores."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck as lb
from limbeck.errors import LimbeckError, RecipeError
from limbeck.objective import Objective
from limbeck.pipeline import planning, rates
from limbeck.pipeline.estimate import estimate
from limbeck.pipeline.experiment import Experiment, from_module
from limbeck.pipeline.folder import Run
from limbeck.pipeline.planning import Numbers, compared, plan, plan_recipe, question
from limbeck.pipeline.run import execute
from limbeck.pipeline.stages import Context
from limbeck.recipe.recipe import Recipe
from limbeck.store.layout import Layout
from limbeck.teachers import FunctionTeacher
from limbeck.training.progress import Reporter, Silent
from limbeck.training.settings import Settings

SHIFTED = {"shift": 1}


class Slow(nn.Module):
    """A model that takes so many seconds a batch, and so many more where its gradient is asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.inside, self.seconds = nn.Linear(16, 3), seconds

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.inside(inputs.flatten(1))


def data(size: int = 96, classes: int = 3) -> lb.Data:
    x, y = torch.rand(size, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(size) % classes
    return lb.Data((x, y), validation=(x, y), test=(x, y))


def experiment(teacher: float = 0.0, student: float = 0.0, **changes: Any) -> Experiment:
    views = lb.data.Views(**changes.pop("views", SHIFTED))
    settings = Settings(epochs=6, batch_size=32, views=views, fast=False, device="cpu")
    found = changes.pop("data", None) or data()
    learner = from_module(Slow(student), found, settings)
    slow = FunctionTeacher(Slow(teacher))
    return replace(Experiment("tiny", found, [slow], learner, Objective.of(None)), **changes)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_what_is_measured_is_what_was_slept(tmp_path: Path) -> None:
    found = plan(experiment(teacher=0.032, student=0.016), tmp_path, megabytes=1)["rates"]
    assert 0.001 <= found["teacher"] < 0.01  # 32 ms for 32 samples; a busy machine takes longer
    assert 0.0005 <= found["student"] < 0.005
    assert found["student"] == found["control"]
    assert 0 < found["view"] < 0.01
    assert left(tmp_path) == []


def test_every_rate_is_positive_and_the_plan_is_plain_data(tmp_path: Path) -> None:
    found = plan(experiment(), tmp_path, Numbers(samples=10**9, classes=1000, views=20, processes=64), megabytes=1)
    assert all(value > 0 for value in found["rates"].values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    given = found["given"]
    assert (given["record_bytes"], given["bytes"]) == (46, 20 * 10**9 * 46)
    asked = {name: given["question"][name] for name in ("samples", "views", "epochs", "students", "processes")}
    assert asked == {"samples": 10**9, "views": 20, "epochs": 6, "students": 1, "processes": 64}
    assert (found["take"], found["reason"]) == (given["take"], given["reason"])
    assert found["here"]["question"]["samples"] == 96
    assert left(tmp_path) == []


def test_trainings_are_counted(tmp_path: Path) -> None:
    both = question(experiment(seeds=(0, 1, 2), hard_labels=True))
    assert (both.students, both.controls, both.views) == (6, 3, 6)
    alone = question(experiment(seeds=(0, 1), control=False))
    assert (alone.students, alone.controls) == (2, 0)
    x, y = torch.rand(30, 1, 4, 4), torch.arange(30) % 3
    bare = lb.Data(x, validation=(x, y), test=(x, y), classes=["a", "b", "c"])
    unlabeled = question(experiment(data=bare, objective=Objective.of({"kl": 1.0})))
    assert (unlabeled.students, unlabeled.controls) == (2, 0)  # the second control learns the teacher's labels
    none = question(experiment(objective=Objective.of({"supervised": 1.0})))
    assert (none.students, none.controls) == (0, 1)
    assert plan(experiment(objective=Objective.of({"supervised": 1.0})), tmp_path, megabytes=1)["take"] == "online"


@pytest.mark.parametrize(
    ("views", "numbers", "once", "count"),
    [
        ({}, Numbers(), True, 1),
        ({}, Numbers(views=3), False, 3),
        ({}, Numbers(samples=10**15), False, 1),  # no memory holds what would be said once
        (SHIFTED, Numbers(), False, 6),
        (SHIFTED, Numbers(epochs=100), False, 16),
    ],
)
def test_a_student_of_one_view_needs_no_store(views: dict[str, Any], numbers: Numbers, once: bool, count: int) -> None:
    found = question(experiment(views=views), numbers)
    assert (found.once, found.views) == (once, count)


@pytest.mark.parametrize("classes", [3, 100])
def test_the_bytes_are_those_of_a_real_store(tmp_path: Path, classes: int) -> None:
    found = data(200, classes)
    one = experiment(data=found, objective=Objective.of({"kl": {"weight": 1.0, "temperature": 4.0}}))
    asked = question(one, Numbers(views=2))
    teacher = lb.models.MLP((1, 4, 4), classes, hidden=[4])
    options: dict[str, Any] = {"augmentation": SHIFTED, "temperatures": (4.0,), "quiet": True}
    lb.Store.build(teacher, found, tmp_path / "store", views=2, **options)
    real = sum(path.stat().st_size for path in (tmp_path / "store").glob("shard-*.bin"))
    assert asked.bytes == real == 400 * (10 if classes == 3 else 46)


def test_a_loader_is_asked_online(tmp_path: Path) -> None:
    x, y = torch.rand(40, 1, 4, 4), torch.arange(40) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    found = plan(experiment(data=lb.Data(loader, validation=(x, y), test=(x, y))), tmp_path)
    assert (found["take"], found["rates"], found["here"]) == ("online", None, None)
    assert "is a DataLoader: its samples have no address" in found["reason"]


class Random(torch.utils.data.Dataset[Any]):
    """Samples that are something else each time."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return torch.rand(1, 4, 4), at % 3


def test_samples_that_change_are_asked_online(tmp_path: Path) -> None:
    x, y = torch.rand(12, 1, 4, 4), torch.arange(12) % 3
    changing = lb.Data(Random(), validation=(x, y), test=(x, y), classes=["a", "b", "c"])
    found = plan(experiment(data=changing, views={}), tmp_path, megabytes=1)
    assert found["take"] == "online"
    assert "are not the same when fetched again" in found["reason"]
    assert found["rates"]["teacher"] > 0


def test_what_can_not_be_kept_is_said(tmp_path: Path) -> None:
    dense = experiment(objective=Objective.of({"supervised": 0.5, "dkd": 0.5}))
    found = plan(dense, tmp_path, Numbers(classes=1000), megabytes=1)
    assert found["here"]["question"]["impossible"] == ""
    assert found["take"] == "online"
    assert "'dkd' needs the teacher's logits of all 1000 classes" in found["reason"]


def test_a_run_without_a_teacher_or_a_training_has_no_plan(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no teacher"):
        plan(experiment(teachers=[]), tmp_path)
    one = experiment()
    with pytest.raises(LimbeckError, match="is not trained"):
        plan(replace(one, student=replace(one.student, settings=None)), tmp_path)


def test_a_teacher_of_the_run_is_measured_as_it_starts(tmp_path: Path) -> None:
    recipe = Recipe.load("digits", ["student.views.shift=1", "seeds=1", "threads=1"])
    threads = torch.get_num_threads()
    found = plan_recipe(recipe, tmp_path / "not" / "there")
    assert torch.get_num_threads() == threads
    assert (found["machine"]["threads"], found["machine"]["precision"], found["machine"]["batch"]) == (1, "fp32", 64)
    assert found["rates"]["teacher"] > 0
    assert found["here"]["bytes"] == 16 * 1005 * 24
    assert left(tmp_path) == []


def test_a_model_that_does_not_take_the_data_is_named(tmp_path: Path) -> None:
    recipe = Recipe.load("digits", ["teacher.model=torchvision/resnet18"])
    with pytest.raises(LimbeckError, match="torchvision/resnet18 takes images of 3 channels"):
        plan_recipe(recipe, tmp_path)


def test_records_of_many_classes_are_tried_in_small_batches(tmp_path: Path) -> None:
    layout = Layout.choose(10**6, temperatures=(4.0,))
    write, read = rates.records(tmp_path, layout, torch.rand(64, 1, 4, 4))
    assert write > 0
    assert read > 0
    assert left(tmp_path) == []


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def not_to_be_asked(inputs: Tensor) -> Tensor:
    raise AssertionError


def told(one: Experiment, folder: Path) -> tuple[float, str]:
    run, reporter = Run(folder), Told()
    run.begin("tiny", {}, "")
    listener: Reporter = reporter
    return estimate(Context(one, run, listener)) or 0.0, reporter.said[-1]


def test_an_estimate_counts_steps_and_the_teacher(tmp_path: Path) -> None:
    slow = experiment(teacher=0.02, student=0.01)  # 3 steps an epoch, 6 epochs, student and control
    seconds, text = told(slow, tmp_path / "a")
    assert 2 * 18 * 0.01 + 18 * 0.02 <= seconds < 10 * (2 * 18 * 0.01 + 18 * 0.02)
    assert text.startswith("tiny: 2 trainings, about ")
    assert text.endswith(" s here (evaluation not counted)")
    once = experiment(student=0.01, views={}, teachers=[FunctionTeacher(not_to_be_asked)])
    assert told(once, tmp_path / "b")[0] >= 2 * 18 * 0.01
    assert not (tmp_path / "a" / planning.FILE).exists()


def journal(folder: Path, role: str, seed: int, epochs: list[float]) -> None:
    path = folder / "models" / role / f"seed{seed}" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    means = [sum(epochs[:number]) / number for number in range(1, len(epochs) + 1)]
    lines = [json.dumps({"epoch": number, "seconds": mean}) for number, mean in enumerate(means, start=1)]
    path.write_text("\n".join(lines) + "\n")


def planned_file(folder: Path, **changes: Any) -> None:
    asked = {"samples": 100, "processes": 1, "views": 2, "ahead": False} | changes
    here = {
        "question": asked, "passes": 2, "bytes": 4800, "epoch": {"control": 1, "online": 9, "building": 9, "stored": 1},
        "online": {"total": 90}, "stored": {"total": 30, "teacher": 16},
    }  # fmt: skip
    (folder / planning.FILE).write_text(json.dumps({"here": here, "take": "store: auto", "reason": "so"}))


def test_the_plan_beside_what_was_taken(tmp_path: Path) -> None:
    planned_file(tmp_path)
    journal(tmp_path, "control", 0, [1.0, 1.5, 1.5])
    journal(tmp_path, "control", 1, [1.0, 1.0, 4.0])
    journal(tmp_path, "student", 2, [8.0, 9.0, 1.0])
    journal(tmp_path, "student", 10, [2.0, 2.0, 1.0])  # after seed 2
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shard-00000.bin").write_bytes(b"0" * 4800)
    (tmp_path / "store" / "manifest.json").write_text("{}")
    found = compared(tmp_path)
    assert found is not None
    assert found["took"] == pytest.approx(
        {"control": 1.25, "building": 8.5, "stored": 1.5, "total_stored": 33.0, "bytes": 4800}
    )
    assert found["planned"] == {
        "control": 1, "online": 9, "building": 9, "stored": 1, "bytes": 4800, "teacher": 16, "total_online": 90,
        "total_stored": 30,
    }  # fmt: skip
    assert (found["take"], found["reason"]) == ("store: auto", "so")


def test_the_first_that_asks_fills_the_store(tmp_path: Path) -> None:
    planned_file(tmp_path)
    journal(tmp_path, "control_hard_labels", 0, [7.0, 7.0, 2.0])
    journal(tmp_path, "student", 0, [2.0, 2.0, 2.0])
    found = compared(tmp_path)
    assert found is not None
    assert (found["took"]["building"], found["took"]["stored"]) == (pytest.approx(7.0), pytest.approx(2.0))
    assert (found["took"]["control"], found["took"]["bytes"]) == (None, None)


def test_what_was_built_beforehand_is_read_from_the_manifest(tmp_path: Path) -> None:
    planned_file(tmp_path, ahead=True, processes=2)
    journal(tmp_path, "student", 0, [2.0, 2.0])
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "manifest.json").write_text(json.dumps({"built": {"seconds": 12.0, "asked": 100}}))
    found = compared(tmp_path, kept)
    assert found is not None
    assert (found["took"]["building"], found["took"]["stored"]) == (6.0, 2.0)  # 100 of 200 views here: 6 s a view
    (kept / "manifest.json").write_text("{}")
    assert (compared(tmp_path, kept) or {})["took"]["building"] is None


def test_without_a_plan_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert compared(tmp_path) is None
    (tmp_path / planning.FILE).write_text(json.dumps({"here": None, "take": "online", "reason": "so"}))
    assert compared(tmp_path) is None


def test_a_run_with_a_store_keeps_its_plan(tmp_path: Path) -> None:
    recipe = Recipe.load(
        "digits",
        ["seeds=1", "student.epochs=3", "teacher.epochs=1", "student.views.shift=1", "teacher.store.views=2",
         "export=[]"],
    )  # fmt: skip
    result = execute(recipe, tmp_path / "run", quiet=True, score_test=False)
    kept = json.loads((tmp_path / "run" / planning.FILE).read_text())
    assert kept["here"]["question"]["views"] == 2
    told = result.summary["plan"]
    assert told["planned"]["bytes"] == told["took"]["bytes"] == 2 * 1005 * 24
    assert all(told["took"][key] > 0 for key in ("control", "building", "stored", "total_stored"))
    for key in ("control", "building", "stored"):  # the machine may be busy
        assert 0.02 < told["planned"][key] / told["took"][key] < 50
    assert told["planned"]["building"] > told["planned"]["stored"]
