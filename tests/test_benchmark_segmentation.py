"""The benchmark of pictures with masks runs and says what it promises; its numbers mean nothing here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from limbeck.data.split import Split

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "segmentation_data.py"


def test_it_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    assert {"processor", "torch", "threads", "cores"} <= set(result["environment"])
    # 40×36 in patches of 16: at 0, 16, 24 and 0, 16, 20.
    counts = {"train": 6, "validation": 1, "test": 2}
    assert result["reading"]["splits"] == {k: {"pictures": v, "patches": 9 * v} for k, v in counts.items()}
    assert 0 < result["reading"]["low_s"] <= result["reading"]["median_s"] <= result["reading"]["high_s"]
    assert set(result["waiting"]) == {"teacher", "student"}
    for one in result["waiting"].values():
        assert (one["turns"], one["steps"]) == (2, 4)
        assert 0 < one["low"] <= one["share"] <= one["high"] < 1
        assert one["share"] == pytest.approx(one["waited_ms"] / one["step_ms"])
    assert [one["target"] for one in result["targets"]] == ["<=10", "<=0.05", "<=0.05"]
    for one in result["targets"]:
        assert one["met"] == (one["value"] <= float(one["target"][2:]))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    specification = importlib.util.spec_from_file_location("segmentation_data", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    yield found
    sys.modules.pop("timing", None)


def test_the_share_is_of_all_the_time(module: ModuleType) -> None:
    turns = [{"waited": 1.0, "took": 10.0, "steps": 2}, {"waited": 3.0, "took": 30.0, "steps": 2},
             {"waited": 8.0, "took": 20.0, "steps": 4}]  # fmt: skip
    one = module.share(turns)
    assert one["share"] == pytest.approx(12 / 60)
    assert (one["low"], one["high"]) == (pytest.approx(0.1), pytest.approx(0.25))
    assert (one["waited_ms"], one["step_ms"], one["steps"]) == (1500, 7500, 8)


def test_what_is_waited_is_the_making_of_batches_and_no_step(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])

    class Slow(Split):
        def fetch(self, index: torch.Tensor) -> Any:
            clock["now"] += 2.0
            return super().fetch(index)

    waited = module.Waited()
    for _ in waited(Slow(torch.zeros(6, 1), [0] * 6, ["a"], "train"), batch_size=2):
        clock["now"] += 100.0  # the step
    assert waited.seconds == [2.0, 2.0, 2.0, 0.0]


def test_patches_of_an_epoch_are_of_all_pictures(module: ModuleType) -> None:
    split = Split(torch.arange(10.0)[:, None], [0] * 10, ["a"], "train")
    assert module.spread(split, 5).inputs.flatten().tolist() == [0, 2, 4, 6, 8]
    assert len(module.spread(split, 50)) == 10
