"""Real processes that build a store, killed at random moments and started again: the same bytes, little asked twice.

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

ROOT = Path(__file__).parents[2]
RECORDS, AGAIN = 3300, 512 + 20  # what is asked besides: for the certificate, and of validation
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(folder: Path, kills: int, timeout: float) -> None:
    seed = time.time_ns() % 1_000_000
    out, log = folder / "out.json", folder / "log.txt"
    command = [sys.executable, "-W", "ignore", "-m", "tests.store.victim_store", str(out), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with open(log, "w") as file:  # a pipe would be held open by the workers of killed builds
        done = subprocess.run(
            [*command, str(kills), str(seed)],
            stdout=file, stderr=file, env=environment, cwd=ROOT, timeout=timeout, check=False,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text()
    results = json.loads(out.read_text())
    assert [result["workers"] for result in results] == [0, 2]
    assert results[0]["expected"] == results[1]["expected"], "workers change nothing"
    for result in results:
        case = f"workers {result['workers']} seed {seed} {result['kills']}"
        assert result["strange"] == [], f"{case}\n{log.read_text()}"
        assert result["kills"]["SIGKILL"] >= kills, case
        expected = result["expected"]
        assert expected["asked"] == RECORDS + AGAIN, case
        assert len(expected["shards"]) == 4
        for found in result["builds"]:
            assert {key: found[key] for key in ("shards", "files", "certified")} == {
                key: expected[key] for key in ("shards", "files", "certified")
            }, case
            assert RECORDS + AGAIN <= found["asked"] <= RECORDS + AGAIN + found["allowed"], case


def test_a_build_killed_20_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    killed(tmp_path, kills=10, timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_build_killed_400_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    killed(tmp_path, kills=200, timeout=1700)
