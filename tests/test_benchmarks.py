"""The benchmarks run and say what they promise; their numbers mean nothing here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "distill_step.py"


def test_distill_step() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", "--steps", "3", "--turn", "2", "--batch", "4"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    assert set(result["loops"]) == {"hand", "hand2", "limbeck", "plain", "distill"}
    assert all(one["steps"] == 4 and one["median_ms"] > 0 for one in result["loops"].values())
    pairs = [(one["of"], one["to"], one["target"]) for one in result["ratios"]]
    assert pairs == [("hand2", "hand", None), ("limbeck", "hand", "<=1.10"), ("plain", "distill", ">=1.8")]
    assert {"processor", "torch", "threads", "cores"} <= set(result["environment"])
    assert result["date"]


def test_views() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("views.py")), "--json", "--rounds", "1", "--size", "small"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    assert set(result["views"]) == {"small"}
    for cases in result["views"].values():
        assert {"affine", "color", "randaugment", "mixup"} <= set(cases)
        for one in cases.values():
            assert one["ratio"] == pytest.approx(one["torchvision_ms"] / one["limbeck_ms"])


def test_ratios_and_targets() -> None:
    specification = importlib.util.spec_from_file_location("distill_step", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = {"slow": [[0.2, 0.2, 9.0], [0.2, 0.3, 0.1]], "fast": [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]}
    one = module.ratio(found, "slow", "fast", ">=1.8")
    assert [one["ratio"], one["low"], one["high"]] == pytest.approx([2, 2, 2])
    assert one["met"] is True
    assert module.ratio(found, "slow", "fast", "<=1.10")["met"] is False
    assert module.ratio(found, "slow", "fast")["met"] is None
    assert module.described(found["slow"])["median_ms"] == pytest.approx(200)
    told = module.table(
        {
            "environment": {"processor": "x", "cores": 2, "threads": 1, "torch": "2"},
            "precision": "bf16",
            "batch": 128,
            "date": "today",
            "loops": {name: module.described(turns) for name, turns in found.items()},
            "ratios": [one],
        }
    )
    assert "slow / fast" in told
    assert "2.00  (turn by turn 2.00 to 2.00)  target >=1.8: met" in told
