"""``torchrun -m limbeck run`` and a script that calls ``limbeck.distill``: one run, one report, one message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limbeck.files import sha256

SCRIPT = """
import sys, torch, limbeck
from limbeck.errors import LimbeckError

def say(line):  # in one piece, since two processes write into one pipe
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

torch.manual_seed(0)
x, y = torch.rand(90, 1, 8, 8), torch.arange(90) % 3
teacher, student = (limbeck.models.MLP((1, 8, 8), 3, hidden=[size]) for size in (16, 4))
for epochs in (2, 2, 3):  # a run; the same again, which is done; one that the folder refuses
    try:
        options = {"epochs": epochs, "batch_size": 7, "export": (), "quiet": True, "fast": False}
        result = limbeck.distill(teacher, student, (x, y), run=sys.argv[1], **options)
        say(f"result {result.summary['models']['student']['metrics']['test']['accuracy']}")
    except LimbeckError as error:
        say(f"{type(error).__name__} {error.exit_code}")
"""
SETTINGS = ["seeds=1", "teacher.epochs=4", "student.epochs=3", "student.views.shift=1", "threads=1", "export=[]"]


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def weights(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*.safetensors")}


def test_a_script_distills_in_two_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    said, errors = torchrun(str(tmp_path / "script.py"), str(tmp_path / "run")).communicate(timeout=250)
    lines = said.splitlines()
    assert len([line for line in lines if line.startswith("result")]) == 4, errors
    assert len({line for line in lines if line.startswith("result")}) == 1, "every process has the result"
    assert sorted(line for line in lines if "Error" in line or "Failed" in line) == ["RankFailed 8", "ResumeError 8"]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "done"
    assert info["environment"]["processes"] == 2
    for path in (tmp_path / "run").rglob("metrics.jsonl"):
        assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]
    assert {"summary.json", "report.html", "student.safetensors", "MODEL_CARD.md"} <= set(os.listdir(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_torchrun_is_told_to_stop_goes_on_to_the_same_files(tmp_path: Path) -> None:
    changes = [part for one in SETTINGS for part in ("--set", one)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    said, errors = (process := torchrun("-m", "limbeck", "run", "digits", "-o", str(whole), *changes)).communicate()
    assert process.returncode == 0, errors
    assert said.count("Report: ") == 1, "one process prints"
    assert errors.count("student, seed 0  3/3") == 1

    process = torchrun("-m", "limbeck", "run", "digits", "-o", str(broken), *changes)
    journal = broken / "models" / "teacher" / "seed0" / "metrics.jsonl"
    while not journal.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode != 0
    assert errors.count("limbeck: rank 0 of 2: stopped by SIGTERM; everything up to here is kept") == 1, errors
    assert errors.count("limbeck: go on with: ") == 1
    assert json.loads((broken / "run.json").read_text())["status"] == "stopped"
    assert (journal.parent / "checkpoint.safetensors").exists()

    errors = (process := torchrun("-m", "limbeck", "resume", str(broken))).communicate()[1]
    assert process.returncode == 0, errors
    assert weights(broken) == weights(whole)


@pytest.mark.slow
def test_a_wrong_recipe_is_told_once(tmp_path: Path) -> None:
    said, errors = (process := torchrun("-m", "limbeck", "run", "digits", "--set", "epoch=3")).communicate(timeout=250)
    assert process.returncode != 0
    assert errors.count("limbeck: rank ") == 1
    assert "epoch" in errors
    assert said == ""
