"""Checkpoints: what is written comes back bit for bit, and what is not as written is refused by name."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import FileError, LimbeckError, ResumeError
from limbeck.files import write_tensors
from limbeck.training.checkpoint import load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint
from limbeck.training.loop import CHECKPOINT, Job, fit
from limbeck.training.optimizers import build_optimizer
from limbeck.training.settings import Optimizer

Make = Callable[..., Job]


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "model/weight": torch.randn(7, 5),
        "model/count": torch.tensor(3),
        "half": torch.randn(9).bfloat16(),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "double": torch.randn(3, dtype=torch.float64),
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    progress = {"key": "a", "progress": {"epoch": 3, "name": "Größe"}, "rate": 0.1 + 0.2}
    return save_checkpoint(tmp_path / CHECKPOINT, tensors(), progress)


def test_everything_comes_back(written: Path) -> None:
    found, progress = load_checkpoint(written)
    expected = tensors()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    assert progress == {"key": "a", "progress": {"epoch": 3, "name": "Größe"}, "rate": 0.1 + 0.2}


def test_every_flipped_bit_is_refused_by_file_name(written: Path) -> None:
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    chance = random.Random(0)
    bits = [(at, bit) for at in range(header) for bit in range(8)]  # the header: names, shapes, offsets, progress
    bits = chance.sample(bits, 700) + [(at, chance.randrange(8)) for at in range(header, len(whole))]
    for at, bit in bits:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        written.write_bytes(damaged)
        with pytest.raises(LimbeckError) as caught:
            load_checkpoint(written)
        assert CHECKPOINT in str(caught.value), (at, bit)
    assert len(bits) > 800


def test_every_truncation_and_addition_is_refused_by_file_name(written: Path) -> None:
    whole = written.read_bytes()
    lengths = {*range(12), *random.Random(1).sample(range(len(whole)), 100), len(whole) - 1}
    for data in [*(whole[:length] for length in sorted(lengths)), whole + b"\0", whole + whole]:
        written.write_bytes(data)
        with pytest.raises(FileError, match=CHECKPOINT):
            load_checkpoint(written)


def test_swapped_tensors_and_foreign_files_are_refused(written: Path) -> None:
    whole = written.read_bytes()
    start = whole.index(torch.randn(7, 5, generator=torch.manual_seed(0)).numpy().tobytes())
    swapped = bytearray(whole)
    swapped[start : start + 4], swapped[start + 4 : start + 8] = whole[start + 4 : start + 8], whole[start : start + 4]
    written.write_bytes(swapped)
    with pytest.raises(FileError, match=f"{CHECKPOINT} is damaged"):
        load_checkpoint(written)
    write_tensors(written, {"weight": torch.ones(2)})
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} is not a checkpoint of this version"):
        load_checkpoint(written)
    written.unlink()
    with pytest.raises(FileError, match=f"{CHECKPOINT} is missing"):
        load_checkpoint(written)


def test_a_training_does_not_start_from_a_damaged_checkpoint(make_job: Make) -> None:
    job = make_job(epochs=2, checkpoint_seconds=0.0)
    fit(job)
    path = job.folder / CHECKPOINT
    whole, chance = path.read_bytes(), random.Random(2)
    for _ in range(40):
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        with pytest.raises(LimbeckError, match=CHECKPOINT):
            fit(make_job(epochs=2))


def test_the_checkpoint_of_another_training_is_refused(make_job: Make, nets: Any) -> None:
    job = make_job(checkpoint_seconds=0.0, key="one")
    fit(job)
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} belongs to a training with other settings"):
        fit(make_job(key="other"))
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} does not fit this model and optimizer"):
        fit(make_job(nets["convolutional"](), key="one"))
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} does not fit this model and optimizer"):
        fit(make_job(nets["dense"](classes=4), key="one"))
    with pytest.raises(ResumeError, match=f"{CHECKPOINT} does not fit this model and optimizer"):
        fit(make_job(key="one", ema=0.9))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_optimizer_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, name: Any, memory_format: torch.memory_format
) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
        return module.to(memory_format=memory_format)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        optimizer.zero_grad()
        module(torch.randn(4, 3, 5, 5).to(memory_format=memory_format)).square().mean().backward()
        optimizer.step()

    first, second = net(), net()
    one = build_optimizer(Optimizer(name), first.parameters())
    for number in range(3):
        step(first, one, number)
    path = save_checkpoint(tmp_path / CHECKPOINT, optimizer_tensors(one), {})
    second.load_state_dict(first.state_dict())
    two = build_optimizer(Optimizer(name), second.parameters())
    load_optimizer(two, load_checkpoint(path)[0])
    for number in range(3, 6):
        step(first, one, number)
        step(second, two, number)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    moments = [value for state in two.state.values() for value in state.values() if value.ndim == 4]
    assert moments
    assert all(value.is_contiguous(memory_format=memory_format) for value in moments)
