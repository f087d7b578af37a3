"""``limbeck store RECIPE``: the teacher of a run and its store, before the run; how a stopped one is gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from limbeck import cli
from limbeck.files import sha256
from limbeck.pipeline import conclude, keeping
from limbeck.store import Store
from limbeck.training.interrupt import Interrupted

SETTINGS = ["seeds=1", "teacher.epochs=1", "student.epochs=3", "student.views.shift=1", "export=[]", "fast=false",
            "controls.hard_labels=false"]  # fmt: skip
SET = [part for one in SETTINGS for part in ("--set", one)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conclude, "write_report", lambda folder: None)
    return tmp_path


def limbeck(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    said = capsys.readouterr()
    assert left.value.code == code, said.err
    return said.out, said.err


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(limbeck(capsys, *arguments, "--quiet", "--json")[0])


def test_a_run_finds_the_teacher_and_the_store(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    built = told(capsys, "store", "digits", *SET, "--views", "2")
    assert (built["mode"], built["views"], built["path"], built["run"]) == ("built", 2, "runs/demo/store", "runs/demo")
    assert built["asked"]["samples"] == 2 * built["samples"] == built["records"]
    assert built["bytes"] == 24 * built["records"]
    assert Store.open(here / built["path"]).certificate == built["certificate"]
    teacher = here / "runs/demo/models/teacher/seed0"
    before = {path.name: (sha256(path), path.stat().st_mtime_ns) for path in teacher.iterdir()}
    assert not (here / "runs/demo/models/student").exists()
    again = told(capsys, "store", "digits", *SET, "--views", "2")
    assert (again["mode"], again["identity"]) == ("read", built["identity"])

    *command, store = built["use"].split()
    assert store == "teacher.store=runs/demo/store"
    assert command[:3] == ["limbeck", "run", "digits"]
    summary = told(capsys, "run", "digits", *SET, "--set", store)
    assert (summary["store"]["mode"], summary["store"]["views"]) == ("read", 2)
    assert {path.name: (sha256(path), path.stat().st_mtime_ns) for path in teacher.iterdir()} == before
    done = (here / "runs/demo/run.json").read_text()
    assert told(capsys, "store", "digits", *SET, "--views", "2")["mode"] == "read"
    assert (here / "runs/demo/run.json").read_text() == done, "a finished run is left as it is"
    error = limbeck(capsys, "store", "digits", *SET, "--views", "3", code=8)[1]
    assert "views.count: kept 2, now 3" in error


def test_what_is_printed_says_how_to_use_it(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    said = limbeck(capsys, "store", "digits", *SET, "--out", "kept here", "--quiet")[0]
    assert "kept here: 3 views of 1,005 samples, 24 bytes each, 70.7 KiB, asked in" in said
    assert "kept as the teacher says it: KL" in said
    assert said.rstrip().endswith("--set 'teacher.store=kept here'")
    assert (here / "kept here" / "manifest.json").exists()
    assert json.loads((here / "runs/demo/run.json").read_text())["status"] == "stopped"


def test_a_run_without_the_store_may_follow(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    told(capsys, "store", "digits", *SET, "--out", "kept")
    assert told(capsys, "run", "digits", *SET)["store"] is None
    error = limbeck(capsys, "run", "digits", *SET, "--set", "teacher.store=kept", code=8)[1]
    assert "holds a run of another recipe" in error


def test_a_stopped_build_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise Interrupted(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "build", stopped)
        patch.setattr("sys.argv", ["limbeck", "store", "digits", *SET, "--out", "a b"])
        error = limbeck(capsys, "store", "digits", *SET, "--out", "a b", "--quiet", code=130)[1]
    assert "limbeck: go on with: limbeck store digits" in error
    assert "--out 'a b'" in error
    assert told(capsys, "store", "digits", *SET, "--out", "a b")["mode"] == "built"


def test_the_recipes_own_store_is_built(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    several = ["--set", "teacher.store.path=own", "--set", "teacher.store.views=2"]
    assert told(capsys, "store", "digits", *SET, *several)["path"] == "own"
    assert told(capsys, "run", "digits", *SET, *several)["store"]["mode"] == "read"
