"""Two real processes under torchrun train, predict, fail and stop as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.data.batches import batches
from limbeck.data.split import Split
from limbeck.files import read_tensors
from limbeck.training.distributed import RankFailed, World, processes, world

SCRIPT = Path(__file__).with_name("together.py")
EQUAL = [
    "one step", "short last batch", "accumulated", "batches of one", "averaged", "unused parameter", "frozen first",
    "views", "mixed", "balanced", "adapters", "relations", "relations in pieces", "schedule and shares",
    "masks", "masks by image",
]  # fmt: skip


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One launch for all tests, since each costs the import of torch in three processes."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder)], capture_output=True, text=True, env=environment, timeout=250, check=False
    )
    assert (folder / "last.json").exists(), done.stderr
    tensors = {name: read_tensors(folder / f"{name}.safetensors")[0] for name in ("one", "two")}
    facts = [json.loads((folder / f"facts{rank}.json").read_text()) for rank in range(2)]
    seconds = (folder / "last.json").stat().st_mtime - (folder / "one.safetensors").stat().st_mtime
    return {
        **tensors, "facts": facts, "code": done.returncode, "last": json.loads((folder / "last.json").read_text()),
        "errors": done.stderr, "seconds": seconds, "folder": folder,
    }  # fmt: skip


def of(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    found = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    assert found
    return found


@pytest.mark.parametrize("case", EQUAL)
@pytest.mark.parametrize("what", ["gradient", "last"])
def test_gradients_and_final_weights_are_those_of_one_process(launched: dict[str, Any], case: str, what: str) -> None:
    one, two = (of(launched[name], f"{case}/{what}/") for name in ("one", "two"))
    assert set(one) == set(two)
    for name, value in one.items():
        assert float(value.abs().max()) > 0 or name.startswith("idle")
        assert torch.allclose(two[name], value, rtol=1e-5, atol=1e-6), name


def test_all_processes_end_in_the_same_bits_batchnorm_included(launched: dict[str, Any]) -> None:
    assert [facts["differing"] for facts in launched["facts"]] == [[], []]
    batchnorm = of(launched["two"], "batchnorm/last/")
    assert not torch.equal(batchnorm["2.running_var"], of(launched["one"], "batchnorm/last/")["2.running_var"])
    assert torch.isfinite(batchnorm["2.running_var"]).all()


def test_a_memory_holds_the_samples_of_all_processes(launched: dict[str, Any]) -> None:
    """Z of the first step is that of all samples too, so the whole training agrees."""
    one, two = (of(launched[name], "memory/last/") for name in ("one", "two"))
    for name in ("crd0_loss.memory_student", "crd0_loss.memory_teacher"):
        assert float((one[name] * two[name]).sum(dim=1).min()) > 0.9999, name  # the cosine of each row
    assert torch.equal(two["crd0_loss.step"], one["crd0_loss.step"])


def test_a_parameter_that_is_not_used_has_no_gradient_and_is_not_moved(launched: dict[str, Any]) -> None:
    assert not any(name.startswith("unused parameter/gradient/idle") for name in launched["two"])
    for name, value in of(launched["one"], "unused parameter/last/idle").items():
        assert torch.equal(of(launched["two"], "unused parameter/last/idle")[name], value)


def test_nothing_stays_on_the_module(launched: dict[str, Any]) -> None:
    assert set(of(launched["two"], "one step/after/")) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert not any("module." in name for name in launched["two"])


def test_the_journal_is_that_of_one_process(launched: dict[str, Any]) -> None:
    for case in ("short-last-batch", "accumulated", "mixed"):
        one, two = (
            [json.loads(line) for line in (launched["folder"] / name / case / "metrics.jsonl").read_text().splitlines()]
            for name in ("one", "two")
        )
        assert [line["epoch"] for line in two] == [1, 2]
        for expected, found in zip(one, two, strict=True):
            assert found["train"]["accuracy"] == pytest.approx(expected["train"]["accuracy"])
            assert found["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=1e-5)
            assert found["train"]["terms"] == pytest.approx(expected["train"]["terms"], rel=1e-5)
            assert found["validation"] == expected["validation"]


def test_an_epoch_trains_on_each_sample_once(launched: dict[str, Any]) -> None:
    seen = launched["facts"][0]["seen"]  # 23 in batches of 5; the last 3 are the first process's, 2 stand in for them
    assert sorted(seen[:-2]) == list(range(23))
    assert set(seen[-2:]) <= set(seen[: len(seen) // 2])


@pytest.mark.parametrize(("count", "size", "processes"), [(23, 5, 2), (23, 5, 3), (9, 4, 8), (5, 1, 2), (64, 16, 4)])
def test_the_pieces_of_all_processes_are_the_batches(count: int, size: int, processes: int) -> None:
    split = Split(torch.arange(float(count)).reshape(-1, 1), [0] * count, ["a"], "train")
    whole = list(batches(split, batch_size=size, seed=3))
    streams = [list(batches(split, batch_size=size, seed=3, part=(rank, processes))) for rank in range(processes)]
    for batch, *pieces in zip(whole, *streams, strict=True):
        counted = [piece for piece in pieces if piece.counted]
        assert torch.equal(torch.cat([piece.index for piece in counted]), batch.index)
        assert torch.equal(torch.cat([piece.inputs for piece in counted]), batch.inputs)
        assert min(len(piece) for piece in counted) >= min(2, len(batch)), "BatchNorm can not train on one"
        assert all(1 <= len(piece) <= 2 for piece in pieces if not piece.counted)


def test_predictions_are_those_of_one_process_to_the_bit(launched: dict[str, Any]) -> None:
    one, two = (of(launched[name], "predicted/") for name in ("one", "two"))
    for name, value in one.items():
        assert torch.equal(two[name], value), name
    assert {name: tuple(value.shape) for name, value in two.items() if name.startswith("9/")} == {
        "9/logits": (9, 3), "9/targets": (9,), "9/members": (2, 9, 3), "9/weights": (2,), "9/one": (9, 3),
    }  # fmt: skip


def test_labels_and_counts_of_pixels_are_those_of_one_process(launched: dict[str, Any]) -> None:
    one, two = (of(launched[name], "pixels/") for name in ("one", "two"))
    assert set(one) == set(two)
    for name, value in one.items():
        same = torch.allclose if name.endswith("confidence") else torch.equal  # its sums have another order
        assert same(two[name], value), name
    assert sorted(name for name in two if name.startswith("2/module/labels")) == [
        "2/module/labels.000000",
        "2/module/labels.000001",
    ]
    assert not [name for name in two if "/counts/labels" in name]
    assert tuple(two["5/module/labels.000004"].shape) == (13, 8)
    assert int(two["5/module/confusion"].sum()) == int(two["5/teacher/margins"][:, 1].sum()) > 400


def test_words_of_the_first_process_and_sums_over_all(launched: dict[str, Any]) -> None:
    expected = {"summed": [2.0, 10.0], "agreed": {"rank": 0, "none": None}, "first": [0, 0.1], "gathered": [[1, 1]]}
    assert [facts["helpers"] for facts in launched["facts"]] == [expected, expected]


def test_a_failure_in_one_process_ends_all_with_its_message(launched: dict[str, Any]) -> None:
    first, second = (facts["failed"] for facts in launched["facts"])
    assert second["nan"].startswith("NumericsError 5 term 'kl' is not finite for 4 of 4 samples (samples: ")
    assert first["nan"].startswith("RankFailed 5 rank 1 of 2: term 'kl' is not finite for 4 of 4 samples")
    assert first["data"] == "RankFailed 3 rank 1 of 2: photo 7.jpg is cut off moved []"
    assert second["data"] == "DataError 3 photo 7.jpg is cut off moved []"
    assert first["nan"].endswith("moved []"), "the step reaches the weights of no process"
    assert second["nan"].endswith("moved []")


def test_a_signal_to_one_process_stops_all_and_the_same_number_resumes_to_the_same_bits(
    launched: dict[str, Any],
) -> None:
    for facts in launched["facts"]:
        assert facts["stopped"] == ["Interrupted", True]
        assert facts["resumed"] == []


def test_another_number_of_processes_resumes_and_says_what_is_not_promised(launched: dict[str, Any]) -> None:
    assert launched["facts"][0]["told"] == ["bit-identical resuming is not promised: processes 2 -> 1"]


def test_a_killed_process_ends_the_others_soon(launched: dict[str, Any]) -> None:
    assert launched["last"].startswith("rank 1 of 2 died without a word\n  cure: ")
    assert launched["code"] != 0
    assert "Signal 9 (SIGKILL)" in launched["errors"]
    assert launched["seconds"] < 30


def test_without_torchrun_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # as schedulers leave it
    monkeypatch.setenv("RANK", "3")
    with processes() as here:
        assert here == world()
        assert not here.several
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 16])
def test_shares_are_all_of_it_once(size: int, count: int) -> None:
    shares = [World(rank, size).share(count) for rank in range(size)]
    assert [one for share in shares for one in share] == list(range(count))


class Kept(dict[str, str]):
    """torch's store in this process; what the first process does happens while it is looked at."""

    def __init__(self, *later: tuple[str, str]) -> None:
        super().__init__()
        self.later = list(later)

    def check(self, keys: list[str]) -> bool:
        there = all(key in self for key in keys)
        for key, value in self.later:
            self[key] = value
        return there

    def get(self, key: str, default: Any = None) -> str:
        return self[key]


def test_an_answer_counts_though_the_process_that_gave_it_stops_at_once() -> None:
    stop = ("failed", json.dumps([0, "interrupted", 143]))
    assert World(1, 2, store=Kept(("answer/0", "7"), stop)).from_first(lambda: None) == 7
    with pytest.raises(RankFailed, match="rank 0 of 2: interrupted"):
        World(1, 2, store=Kept(stop)).from_first(lambda: None)
