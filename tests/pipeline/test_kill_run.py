"""`limbeck run`, killed as a real process anywhere, and `limbeck resume` until it is done: the same weights."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from tests.pipeline.killing import limbeck, outcome

SETTINGS = [
    "seeds=1", "teacher.epochs=3", "student.epochs=3", "student.views.shift=1", "checkpoint_seconds=0.02", "threads=1",
]  # fmt: skip


def first(folder: Path, precision: str, workers: int) -> list[str]:
    changes = [*SETTINGS, f"precision={precision}", f"student.workers={workers}", "fast=true"]
    return ["run", "digits", "-o", str(folder), *[part for change in changes for part in ("--set", change)]]


def killed(folder: Path, begin: list[str], kills: int, seconds: float, dice: random.Random) -> int:
    """Start, kill and resume until the run is done; how often it was killed before its end."""
    done = 0
    for number in range(kills + 1):
        process = limbeck(*(begin if not (folder / "run.json").exists() else ["resume", str(folder)]))
        if number == kills:
            assert process.wait(timeout=600) == 0
            return done
        time.sleep(dice.uniform(0.3, 1.0) * seconds)
        if process.poll() is not None:
            assert process.returncode == 0
            return done
        process.send_signal(dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.wait(timeout=600)
        done += 1
    return done


def check(tmp_path: Path, cases: list[tuple[str, int]], kills: int, seed: int) -> None:
    dice, total = random.Random(seed), 0
    for precision, workers in cases:
        whole, broken = tmp_path / f"{precision}{workers}", tmp_path / f"{precision}{workers}-killed"
        began = time.monotonic()
        assert limbeck(*first(whole, precision, workers)).wait(timeout=600) == 0
        took = time.monotonic() - began
        total += killed(broken, first(broken, precision, workers), kills, took, dice)
        assert outcome(broken) == outcome(whole)
        assert "student.onnx" in outcome(whole)
        teacher = broken / "models/teacher/seed0/metrics.jsonl"
        assert [json.loads(line)["epoch"] for line in teacher.read_text().splitlines()] == [1, 2, 3]
    assert total > 0


def test_a_run_killed_and_resumed_ends_in_the_same_files(tmp_path: Path) -> None:
    check(tmp_path, [("fp32", 0)], kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_killed_24_times(tmp_path: Path) -> None:
    check(tmp_path, [("fp32", 0), ("fp32", 2), ("bf16", 0), ("bf16", 2)], kills=6, seed=2)
