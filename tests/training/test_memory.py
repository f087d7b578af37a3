"""Memory that a step freed is kept for the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.training import memory as memory_module
from limbeck.training.memory import memory

STEPS = """
import resource, sys, torch
from limbeck.training.memory import keep_freed
from limbeck.training.precision import choose
if sys.argv[1] == "keep":
    choose("cpu")
    print(keep_freed())
def step():
    kept = [torch.ones(2 << 20) for _ in range(8)]
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def said(what: str, **environment: str) -> list[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    command, env = [sys.executable, "-c", STEPS, what], {**clean, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_not_given_back() -> None:
    done, faults = said("keep")
    assert done == "True"
    assert int(faults) < 5000  # 3 steps of 8 tensors of 8 MiB are 49152 pages of 4 KiB
    assert int(said("leave")[0]) > 5 * int(faults)


def test_a_users_own_setting_stays() -> None:
    assert said("keep", MALLOC_ARENA_MAX="2")[0] == "False"


def test_a_container_has_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_module, "_CGROUP", limit)
    whole = memory()
    limit.write_text("max\n")
    assert memory() == whole
    assert whole is None or whole > 2**20
    limit.write_text("1048576\n")
    assert memory() == 2**20
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory() is None
