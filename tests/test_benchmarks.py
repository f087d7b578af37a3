"""The benchmarks run and say what they promise; their numbers mean nothing here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from limbeck.losses import TABLE

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


def loaded(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, SCRIPT.with_name(f"{name}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


def test_losses() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("losses.py")), "--json", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    assert {"processor", "torch", "threads", "cores"} <= set(result["environment"])
    assert result["date"]
    assert result["environment"]["threads"] == 1
    found = {one["loss"]: one for one in result["losses"]}
    assert sorted([*found, *result["left_out"]]) == sorted(TABLE)  # none is forgotten
    for name, one in found.items():
        teacher = 0 if name in ("cross_entropy", "teacher_free") else 1
        assert one["forwards"] == {"student": 1, "teacher": teacher}, name  # no second one for the features
        assert one["without"] == ("teacher" if teacher else "student")
        assert one["with_ms"] > 0
        assert one["share"]["low"] <= one["share"]["median"] <= one["share"]["high"] < 1
        free = name in ("crd", "review", "simkd")
        assert one["asked"] == (None if free else 0.1)
        assert one["met"] == (None if free else one["share"]["median"] <= 0.1)
    assert found["vid"]["parameters"] == sum(3 * width**2 + width for width in (16, 32, 64))
    assert found["kl"]["parameters"] == 0


def test_share_of_a_step() -> None:
    module = loaded("losses")
    found = {"student": [1.0, 1.0, 1.0], "teacher": [3.0, 3.0, 6.0], "with": [4.0, 4.0, 6.0]}
    one = module.row("kl", found)
    assert one["share"] == pytest.approx({"median": 1 / 4, "low": 1 / 8, "high": 1 / 4})
    assert one["of_student"]["median"] == pytest.approx(1)
    assert (one["asked"], one["met"], one["added_ms"]) == (0.1, False, pytest.approx(1000))
    alone = module.row("crd", {"student": [1.0], "with": [2.0]})
    assert (alone["without"], alone["share"]["median"], alone["met"]) == ("student", 0.5, None)


def test_ratios_and_targets() -> None:
    module = loaded("distill_step")
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
