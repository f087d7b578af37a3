"""Runs of segmentation on the command line: killed and resumed, swept, compared, examined, in two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.pipeline.killing import limbeck, outcome
from tests.pipeline.scenery import scenery, segmenting

from limbeck import cli
from limbeck.files import read_tensors
from limbeck.pipeline.run import execute
from limbeck.pipeline.sweep import sweep
from limbeck.recipe.recipe import Recipe

SHORT = {"teacher.epochs": 1, "student.epochs": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenery(tmp_path_factory.mktemp("scenery"))


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    execute(segmenting(root, **SHORT), folder, quiet=True)
    return folder


def written(recipe: Recipe, path: Path) -> str:
    path.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    return str(path)


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_run_killed_in_the_students_training_ends_in_the_same_files(root: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"student.epochs": 6, "teacher.epochs": 1, "checkpoint_seconds": 0}
    recipe = segmenting(root, **changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    execute(recipe, whole, quiet=True)
    process = limbeck("run", written(recipe, tmp_path / "recipe.yaml"), "-o", str(broken), "-q")
    student = broken / "models" / "student" / "seed0"
    while not (student / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (student / "manifest.json").exists()
    finished = [broken / "models" / role / "seed0" for role in ("teacher", "control")]
    before = [one.stat().st_mtime_ns for folder in finished for one in sorted(folder.iterdir())]
    assert leave("resume", str(broken), "-q") == 0
    assert outcome(broken) == outcome(whole)
    assert [one.stat().st_mtime_ns for folder in finished for one in sorted(folder.iterdir())] == before
    journal = (student / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in journal] == list(range(1, 7))


def test_a_run_that_is_done_is_not_run_again(root: Path, done: Path) -> None:
    before = (done / "summary.json").stat().st_mtime_ns
    execute(segmenting(root, **SHORT), done, quiet=True)
    assert (done / "summary.json").stat().st_mtime_ns == before


def test_a_sweep_over_two_points(root: Path, tmp_path: Path) -> None:
    found = sweep(segmenting(root, **SHORT), {"objective.pixel_kl.temperature": [1, 4]}, tmp_path / "sweep", quiet=True)
    assert (found["metric"], [one["values"] for one in found["points"]]) == (
        "mean_iou",
        [{"objective.pixel_kl.temperature": 1}, {"objective.pixel_kl.temperature": 4}],
    )
    scores = [one["student"]["mean"] for one in found["points"]]
    assert found["best"]["values"] == found["points"][scores.index(max(scores))]["values"]
    shared = [one.name for one in (tmp_path / "sweep" / "shared").iterdir()]
    assert len([one for one in shared if one.startswith("models-teacher-seed0")]) == 1, "the teacher is trained once"
    assert not any(
        "test" in json.loads(one.read_text())["selected"] for one in tmp_path.rglob("points/*/evaluation/*0.json")
    )
    assert "mean IoU" in (tmp_path / "sweep" / "sweep.svg").read_text()
    assert (tmp_path / "sweep" / "best" / "report.html").is_file()


def test_report_compare_and_doctor(root: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / "report.html").unlink()
    assert leave("report", str(done)) == 0
    assert "mean IoU" in (done / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert leave("compare", str(done), str(done), "--json") == 0
    (row, other) = json.loads(capsys.readouterr().out)
    assert row == other
    assert row["metric"] == "mean_iou"
    assert leave("compare", str(done)) == 0
    file = written(segmenting(root, **SHORT), tmp_path / "recipe.yaml")
    capsys.readouterr()
    assert leave("doctor", file, "-q", "--json") == 0
    codes = [one["code"] for one in json.loads(capsys.readouterr().out)["findings"]]
    assert "teacher_untrained" in codes


@pytest.mark.slow
def test_two_processes_train_as_one(root: Path, done: Path, tmp_path: Path) -> None:
    file = written(segmenting(root, **SHORT), tmp_path / "recipe.yaml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "limbeck", "run", file, "-o", str(tmp_path / "two"), "-q"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Report: ") == 1, "one process prints"
    for role in ("teacher", "control", "student"):
        one, two = (
            read_tensors(folder / "models" / role / "seed0" / "last.safetensors")[0]
            for folder in (done, tmp_path / "two")
        )
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    said = [json.loads((folder / "summary.json").read_text())["models"] for folder in (done, tmp_path / "two")]
    for role, model in said[0].items():
        there = said[1][role]["metrics"]["test"]
        assert there["mean_iou"] == pytest.approx(model["metrics"]["test"]["mean_iou"], abs=1e-3)
        assert there["pixels"] == model["metrics"]["test"]["pixels"]
