"""Device, precision and memory format: what is chosen, and what it does to tensors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.training import precision
from limbeck.training.precision import choose, find_device, has_bf16


@pytest.mark.parametrize(
    ("bf16", "asked", "fast", "name", "channels_last"),
    [
        (True, "auto", True, "bf16", True),
        (False, "auto", True, "fp32", True),
        (True, "auto", False, "fp32", False),
        (False, "auto", False, "fp32", False),
        (True, "fp32", True, "fp32", True),
        (False, "bf16", True, "bf16", True),
        (False, "bf16", False, "bf16", False),
    ],
)
def test_the_choice_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, asked: str, fast: bool, name: str, channels_last: bool
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: bf16)
    chosen = choose("cpu", asked, fast=fast)
    assert (chosen.name, chosen.channels_last, chosen.device) == (name, channels_last, torch.device("cpu"))
    assert not chosen.needs_scaler


def test_bf16_is_what_the_processor_says() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    if flags is None:
        pytest.skip("no x86 Linux")
    known = flags[1].split()
    assert has_bf16(torch.device("cpu")) == ("avx512_bf16" in known or "amx_tile" in known)


@pytest.mark.parametrize("probe", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_one_of_both_instruction_sets_is_enough(monkeypatch: pytest.MonkeyPatch, probe: str) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == probe)
    assert has_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, probe, lambda: False)
    assert not has_bf16(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, probe)  # another version of torch
    assert not has_bf16(torch.device("cpu"))


def test_what_a_machine_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "abacus"):
        with pytest.raises(RecipeError, match=f"device '{name}' is not on this machine"):
            choose(name)
    with pytest.raises(RecipeError, match="fp16 is not for the CPU"):
        choose("cpu", "fp16")


def test_placing_changes_the_layout_and_no_value() -> None:
    fast, plain = choose("cpu", "fp32", fast=True), choose("cpu", "fp32", fast=False)
    module, images, vectors = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 5, 5), torch.rand(2, 3)
    before = module.weight.detach().clone()
    assert fast.place(module) is module
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(module.weight, before)
    assert fast.inputs(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(fast.inputs(images), images)
    assert fast.inputs(vectors) is vectors
    assert plain.inputs(images) is images


def test_autocast_is_on_where_it_is_asked_for() -> None:
    layer, x = nn.Linear(3, 2), torch.rand(1, 3)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with choose("cpu", name).autocast():
            assert layer(x).dtype == dtype
        assert layer(x).dtype == torch.float32


def test_seeding_is_torchs_own_seed() -> None:
    for value in (0, 17, (1 << 63) - 1):
        torch.manual_seed(value)
        expected = torch.rand(3)
        choose("cpu").seed(value)
        assert torch.equal(torch.rand(3), expected)


def test_the_environment_names_what_bits_depend_on() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = choose("cpu", "bf16", fast=True).environment()
    finally:
        torch.set_num_threads(threads)
    assert found["threads"] == "2"
    assert found["torch"] == torch.__version__
    assert (found["device"], found["precision"], found["memory format"]) == ("cpu", "bf16", "channels last")
    assert all(isinstance(value, str) for value in found.values())
