"""Real processes, killed at random moments and started again: the end is the same, bit for bit.

The seed of the moments is new every time and is part of the message, since the moments themselves can not be repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

VICTIM = Path(__file__).with_name("victim.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(folder: Path, kills: int, timeout: float) -> None:
    seed = time.time_ns() % 1_000_000
    out, log = folder / "out.json", folder / "log.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(VICTIM), str(out), str(folder), str(kills), str(seed)]
    with open(log, "w") as file:  # a pipe would be held open by the workers of killed trainings
        done = subprocess.run(command, stdout=file, stderr=file, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, log.read_text()
    results = json.loads(out.read_text())
    assert [result["case"] for result in results] == [[0, "fp32"], [2, "fp32"], [0, "bf16"], [2, "bf16"]]
    for result in results:
        case = f"{result['case']} seed {seed} {result['kills']}"
        assert result["strange"] == [], f"{case}\n{log.read_text()}"
        assert result["kills"]["SIGKILL"] >= kills, case
        assert [line["epoch"] for line in result["expected"]["metrics"]] == [1, 2, 3]
        for found in result["found"]:
            assert found == result["expected"], case
    workers = {result["case"][1]: result["expected"] for result in results if result["case"][0] == 0}
    for result in results:
        assert result["expected"] == workers[result["case"][1]], "workers change nothing"
    assert workers["fp32"] != workers["bf16"]


def test_a_training_killed_20_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    killed(tmp_path, kills=5, timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_killed_200_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    killed(tmp_path, kills=50, timeout=1700)
