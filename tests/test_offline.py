"""The guards in conftest.py work: nothing leaves the machine, threads are pinned."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch


def test_an_address_outside_is_refused() -> None:
    with socket.socket() as s, pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):
        s.connect(("192.0.2.1", 80))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s,
        pytest.raises(RuntimeError, match=r"192\.0\.2\.1"),
    ):
        s.sendto(b"x", ("192.0.2.1", 53))


def test_a_name_outside_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"example\.com"):
        socket.create_connection(("example.com", 80), timeout=1)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("localhost", port), timeout=5) as client:
            client.sendall(b"hello")
            peer, _ = server.accept()
            with peer:
                assert peer.recv(5) == b"hello"


def test_unix_sockets_work(in_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")


def test_threads_are_pinned() -> None:
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1" or "PYTEST_XDIST_WORKER" not in os.environ
