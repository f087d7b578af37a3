"""What every test and docstring example runs under: offline, one thread, no color, no trace left behind."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

# Before torch is imported, and inherited by the processes that tests start. COLUMNS and the color switches decide
# how help and tables are wrapped; GITHUB_ACTIONS makes typer believe in a terminal.
for _name in ("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(_name, None)
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.update(
    MPLBACKEND="Agg", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", COLUMNS="80", NO_COLOR="1", TERM="dumb"
)
# A process that a test starts does not see the guard below; a proxy that refuses stops its plain downloads.
for _name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ[_name] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("limbeck", deadline=None, derandomize=True, database=None)
settings.load_profile("limbeck")


class NetworkBlocked(RuntimeError):
    """A test tried to leave the machine. Not an OSError, which code might take for a missing network."""


def _refuse_if_foreign(host: Any) -> None:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local and host not in ("0.0.0.0", "::"):
        raise NetworkBlocked(f"a test tried to reach {host}: tests run offline")


def _guarded(original: Any) -> Any:
    def call(self: socket.socket, *args: Any) -> Any:
        address = args[-1]
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            _refuse_if_foreign(address[0])
        return original(self, *args)

    return call


def pytest_configure() -> None:
    torch.set_num_threads(1)
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    lookup = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_if_foreign(host)
        return lookup(host, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Global generators start alike, so that a test that forgot its seed does not depend on the order of tests."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _process_state() -> dict[str, Any]:
    return {
        "torch.get_num_threads": torch.get_num_threads(),
        "torch.get_default_dtype": torch.get_default_dtype(),
        "torch.is_grad_enabled": torch.is_grad_enabled(),
        "torch.are_deterministic_algorithms_enabled": torch.are_deterministic_algorithms_enabled(),
        "os.getcwd": os.getcwd(),
    }


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """The user's process is as it was: threads, precision, gradient mode, folder."""
    before = _process_state()
    yield
    after = _process_state()
    torch.set_num_threads(before["torch.get_num_threads"])
    torch.set_default_dtype(before["torch.get_default_dtype"])
    torch.set_grad_enabled(before["torch.is_grad_enabled"])
    torch.use_deterministic_algorithms(before["torch.are_deterministic_algorithms_enabled"])
    os.chdir(before["os.getcwd"])
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    if changed:
        pytest.fail("left changed in the process: " + ", ".join(changed))


@pytest.fixture(autouse=True)
def _examples_write_elsewhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """A docstring example runs in an empty folder, so that what it writes does not land in the checkout."""
    if isinstance(request.node, pytest.DoctestItem):
        here = os.getcwd()
        os.chdir(request.getfixturevalue("tmp_path"))
        yield
        os.chdir(here)
    else:
        yield


@pytest.fixture
def in_tmp(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The test's own empty folder, as the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
