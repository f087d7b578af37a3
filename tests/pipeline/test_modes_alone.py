"""Self-distillation and mutual learning as runs: stages, controls, resuming, the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import limbeck
from limbeck.data import Data, load
from limbeck.errors import ModelError, RecipeError
from limbeck.files import sha256
from limbeck.models import MLP
from limbeck.pipeline import stages
from limbeck.training import loop

SHORT: dict[str, Any] = {"export": (), "quiet": True, "batch_size": 32, "fast": False, "epochs": 2}


def make() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


@pytest.fixture(scope="module")
def data() -> Data:
    digits = load("digits").train
    return Data((digits.fetch(torch.arange(240))[0], digits.targets[:240]))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, data: Data) -> limbeck.Result:
    return limbeck.mutual([make, make, make], data, run=tmp_path_factory.mktemp("mutual") / "r", **SHORT)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory, data: Data) -> limbeck.Result:
    return limbeck.self_distill(make, data, decay=0.9, run=tmp_path_factory.mktemp("ema") / "r", **SHORT)


def test_each_network_is_scored_beside_itself_trained_alone(taught: limbeck.Result) -> None:
    summary = taught.summary
    roles = ["control", "control_peer2", "control_peer3", "student", "peer2", "peer3"]
    assert list(summary["models"]) == roles
    assert [one["control"] for one in summary["mode"]["networks"]] == roles[:3]
    for one in summary["mode"]["networks"]:
        scores = [summary["models"][role]["metrics"]["test"]["accuracy"] for role in (one["role"], one["control"])]
        assert one["difference"]["mean"] == pytest.approx(scores[0] - scores[1])
    assert "all updated at the same step" in summary["verdict"]
    page = taught.report.read_text(encoding="utf-8")
    assert "peer 2" in page
    assert "Three networks learned from each other" in page


def test_networks_are_the_cohorts_parts_and_learned_other_things_than_alone(taught: limbeck.Result, data: Data) -> None:
    whole = load_file(taught.folder / "models/cohort/seed0/last.safetensors")
    digests = set()
    for number, role in enumerate(("student", "peer2", "peer3")):
        own = load_file(taught.folder / f"models/{role}/seed0/last.safetensors")
        assert own
        for name, value in own.items():
            assert torch.equal(value, whole[f"networks.{number}.{name}"])
        digests |= {sha256(taught.folder / f"models/{one}/seed0/last.safetensors") for one in (role, _alone(role))}
        assert own["2.num_batches_tracked"].item() == 2 * math.ceil(len(data.train) / 32)  # in train mode at every step
    assert len(digests) == 6
    assert not taught.model("peer2").training


def _alone(role: str) -> str:
    return "control" if role == "student" else f"control_{role}"


def test_networks_and_their_controls_begin_alike(tmp_path: Path, data: Data) -> None:
    still = {**SHORT, "lr": 1e-12, "optimizer": {"name": "sgd", "weight_decay": 0.0}, "epochs": 1}
    found = limbeck.mutual([make, make], data, run=tmp_path / "r", **still)
    weights = {
        role: load_file(found.folder / f"models/{role}/seed0/last.safetensors")["1.weight"]
        for role in ("student", "control", "peer2", "control_peer2")
    }
    torch.testing.assert_close(weights["student"], weights["control"])
    torch.testing.assert_close(weights["peer2"], weights["control_peer2"])
    assert not torch.allclose(weights["student"], weights["peer2"], atol=1e-3)


def dying(monkeypatch: pytest.MonkeyPatch, training: int, step: int) -> None:
    """Stop in the middle of a training, after a checkpoint."""
    fit, taken, begun = stages.fit, loop._step, list[int]()

    def counting(job: Any) -> Any:
        begun.append(0)
        return fit(job)

    def stopping(job: Any, state: Any, precision: Any, batch: Any, keeper: Any) -> Any:
        found = taken(job, state, precision, batch, keeper)
        begun[-1] += 1
        if len(begun) == training and begun[-1] == step:
            keeper._time = float("-inf")
        if len(begun) == training and begun[-1] == step + 1:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(stages, "fit", counting)
    monkeypatch.setattr(loop, "_step", stopping)


def test_a_killed_mutual_training_goes_on_bit_for_bit(
    tmp_path: Path, taught: limbeck.Result, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, training=4, step=3)  # three controls first
    with pytest.raises(KeyboardInterrupt):
        limbeck.mutual([make, make, make], data, run=tmp_path / "r", **SHORT)
    assert (tmp_path / "r/models/cohort/seed0/checkpoint.safetensors").exists()
    monkeypatch.undo()
    found = limbeck.mutual([make, make, make], data, run=tmp_path / "r", **SHORT)
    for role in ("student", "peer2", "peer3"):
        name = f"models/{role}/seed0/last.safetensors"
        assert sha256(found.folder / name) == sha256(taught.folder / name)


def test_a_student_learns_from_its_average_beside_its_control(averaged: limbeck.Result) -> None:
    summary = averaged.summary
    assert list(summary["models"]) == ["control", "student"]
    assert summary["mode"] == {
        "kind": "ema",
        "decay": 0.9,
        "sentence": "The student's teacher was the moving average of its own weights, of decay 0.9.",
    }
    lines = (averaged.folder / "models/student/seed0/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["train"]["terms"]["kl"] > 0
    assert "moving average" in averaged.report.read_text(encoding="utf-8")
    with pytest.raises(AttributeError, match="no teacher"):
        _ = averaged.teacher


def test_a_killed_self_distillation_goes_on_bit_for_bit(
    tmp_path: Path, averaged: limbeck.Result, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, training=2, step=3)
    with pytest.raises(KeyboardInterrupt):
        limbeck.self_distill(make, data, decay=0.9, run=tmp_path / "r", **SHORT)
    assert (tmp_path / "r/models/student/seed0/checkpoint.safetensors").exists()
    monkeypatch.undo()
    found = limbeck.self_distill(make, data, decay=0.9, run=tmp_path / "r", **SHORT)
    for role in ("control", "student"):
        name = f"models/{role}/seed0/last.safetensors"
        assert sha256(found.folder / name) == sha256(averaged.folder / name)


def test_what_can_not_learn_is_refused(tmp_path: Path, data: Data) -> None:
    one = MLP((1, 8, 8), 10, hidden=[4])
    with pytest.raises(ModelError, match="begin with the same weights"):
        limbeck.mutual([one, one], data, run=tmp_path / "a", **SHORT)
    with pytest.raises(RecipeError, match="two networks at least"):
        limbeck.mutual([one], data, run=tmp_path / "b", **SHORT)
    with pytest.raises(RecipeError, match="auto"):
        limbeck.self_distill(one, data, objective="auto", run=tmp_path / "c", **SHORT)
    with pytest.raises(ModelError, match="decay"):
        limbeck.self_distill(one, data, decay=1.0, run=tmp_path / "d", **SHORT)
