"""The benchmarks run and say what they promise; their numbers mean nothing here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from limbeck.data.split import Split
from limbeck.errors import FileError
from limbeck.losses import TABLE

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "distill_step.py"
Loads = Callable[[str], ModuleType]


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
    alone, taught = {"hand", "hand2", "limbeck", "limbeck2"}, {"plain", "distill", "store", "auto"}
    assert set(result["loops"]) == alone | taught
    assert all(one["steps"] == 4 and one["median_ms"] > 0 for one in result["loops"].values())
    pairs = [(one["of"], one["to"], one["target"]) for one in result["ratios"]]
    assert pairs == [
        ("hand2", "hand", None),
        ("limbeck2", "limbeck", None),
        ("limbeck", "hand", "<=1.10"),
        ("plain", "distill", ">=1.8"),
        ("store", "limbeck", "<=1.05"),
        ("distill", "store", ">=6"),
        ("plain", "store", ">=15"),
        ("auto", "distill", "<=1.10"),
    ]
    for one in result["ratios"]:
        medians = [result["loops"][name]["median_ms"] for name in (one["of"], one["to"])]
        assert one["ratio"] == pytest.approx(medians[0] / medians[1])
    assert {"processor", "torch", "threads", "cores"} <= set(result["environment"])
    assert result["date"]


def test_compression() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("compression.py")), "--json", "--quick", "--repeats", "3"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    (cut,), (int8,) = result["pruned"], result["int8"]
    assert (cut["model"], cut["round_to"], cut["default"]) == ("cnn5, width 28", 8, True)
    assert 0.3 < cut["macs"] <= 0.5
    for one in (cut, int8):
        assert one["ratio"] == pytest.approx(one["after_ms"] / one["before_ms"])
    assert cut["met"] == (cut["ratio"] <= 0.75)
    assert int8["bytes"][1] < 0.35 * int8["bytes"][0]
    assert (int8["asked"], int8["met"]) == (1.5, int8["speedup"] >= 1.5)


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


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Loads a benchmark as a module; what it shares with others lies beside it."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    yield load
    sys.modules.pop("timing", None)


def load(name: str) -> ModuleType:
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
        teacher = 0 if name in ("cross_entropy", "focal", "teacher_free") else 1
        assert one["forwards"] == {"student": 1, "teacher": teacher}, name  # no second one for the features
        assert one["without"] == ("teacher" if teacher else "student")
        assert one["with_ms"] > 0
        assert one["share"]["low"] <= one["share"]["median"] <= one["share"]["high"] < 1
        free = name in ("crd", "review", "simkd")
        assert one["asked"] == (None if free else 0.1)
        assert one["met"] == (None if free else one["share"]["median"] <= 0.1)
    assert found["vid"]["parameters"] == sum(3 * width**2 + width for width in (16, 32, 64))
    assert found["kl"]["parameters"] == 0


def test_share_of_a_step(loaded: Loads) -> None:
    module = loaded("losses")
    found = {"student": [1.0, 1.0, 1.0], "teacher": [3.0, 3.0, 6.0], "with": [4.0, 4.0, 6.0]}
    one = module.row("kl", found)
    assert one["share"] == pytest.approx({"median": 1 / 4, "low": 1 / 8, "high": 1 / 4})
    assert one["of_student"]["median"] == pytest.approx(1)
    assert (one["asked"], one["met"], one["added_ms"]) == (0.1, False, pytest.approx(1000))
    alone = module.row("crd", {"student": [1.0], "with": [2.0]})
    assert (alone["without"], alone["share"]["median"], alone["met"]) == ("student", 0.5, None)


def test_ratios_and_targets(loaded: Loads) -> None:
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
            "ratios": [one, module.ratio(found | {"fast2": found["fast"]}, "fast2", "fast")],
        }
    )
    assert "slow / fast" in told
    assert "2.00  (turn by turn 2.00 to 2.00)  target >=1.8: met" in told
    assert told.endswith("1.00  (turn by turn 1.00 to 1.00)  noise")


class Counting(torch.nn.Module):
    """A teacher that counts whom it was asked about."""

    asked = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counting.asked += len(images)
        return images.mean(dim=(2, 3)).repeat(1, 4)[:, :10]


def test_turns_of_a_store_ask_no_teacher_and_first_epochs_ask_about_everything(
    loaded: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = loaded("distill_step")
    monkeypatch.setattr(module, "cifar_teacher", Counting)
    labels = torch.arange(8) % 10
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, labels, [str(number) for number in range(10)], "train")
    turns = module.loops(split, labels, 4, tmp_path, rounds=2)
    asked: dict[str, list[int]] = {}
    for name in ("store", "auto", "distill", "limbeck"):
        for _ in range(3):
            Counting.asked = 0
            assert len(turns[name]()) == 2
            asked.setdefault(name, []).append(Counting.asked)
    assert asked == {"store": [0] * 3, "auto": [8] * 3, "distill": [8] * 3, "limbeck": [0] * 3}
    with pytest.raises(RuntimeError, match="no first epoch"):
        turns["auto"]()


def test_store() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("store.py")), "--json", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    result = json.loads(done.stdout)
    assert {"processor", "torch", "threads", "cores"} <= set(result["environment"])
    assert [one["bytes"] for one in result["reading"]] == [24, 46, 48]  # of real files
    assert all(0 < one["low_us"] <= one["median_us"] <= one["high_us"] for one in result["reading"] + result["besides"])
    assert [(one["of"], one["to"]) for one in result["building"]["ratios"]] == [
        ("building", "forward"),
        ("forward2", "forward"),
    ]
    assert result["opening"]["bytes"] == 512 * 4 * 24
    assert result["opening"]["median_mb_s"] > 0
    held = result["memory"]
    assert held is None or held["most_bytes"] < 100e6 < held["store_bytes"]
    asked: list[dict[str, Any]] = result["targets"]
    assert [one["target"] for one in asked] == ["<=2", "<=24", "<=2", "<=48", "<=2", "<=48"]
    for one in asked:
        assert one["met"] == (one["value"] <= float(one["target"][2:]))


def test_a_store_of_the_benchmark_is_one(loaded: Loads, tmp_path: Path) -> None:
    module = loaded("store")
    store = module.made(tmp_path / "s", module.Layout(10), samples=60, views=4)
    store.verify()
    one = module.asked(store, 1)[0]
    assert sorted(set(one.view.tolist())) == [0, 1, 2, 3]
    assert store.shards.gather(one.pixels.numpy())["pixels"].tolist() == (one.view * 60 + one.index).tolist()
    assert store.recall(one, one.inputs).logits.shape == (128, 10)
    wrong = module.Batch(one.index, one.inputs, one.target, view=one.view, pixels=one.pixels + 1)
    with pytest.raises(FileError, match="other pixels"):
        store.recall(wrong, one.inputs)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_dense_memory(loaded: Loads) -> None:
    module = loaded("dense_memory")
    case = ("pixel_kl", 40, 256, 4)
    logits = 4 * 4 * 40 * 256 * 256
    whole, parts = (module.asked(*case, plain=plain) for plain in (True, False))
    assert 5 * logits < whole < 12 * logits  # softened logits, log-probabilities and products of both models
    assert logits < parts < 0.6 * whole  # one gradient, and parts
    rows = [
        {"objective": "pixel_kl", "classes": 6, "size": 512, "batch": 8, "logits": 5e7, "parts": 1e8, "plain": plain,
         "ratio": plain and 1e8 / plain}
        for plain in (4e8, None)
    ]  # fmt: skip
    where = {"processor": "x", "cores": 2, "threads": 1, "torch": "2"}
    told = module.table({"environment": where, "date": "today", "cases": rows}).splitlines()
    assert told[3].split() == ["pixel_kl", "8x6x512x512", "50", "400", "100", "0.25"]
    assert told[4].split() == ["pixel_kl", "8x6x512x512", "50", "–", "100", "–"]
