"""The one writer: whole or not at all; and readers that run no code."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

from limbeck import files
from limbeck.errors import FileError
from limbeck.files import Journal


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full after a few bytes."""
    real = files.tempfile.NamedTemporaryFile

    def opened(*args: Any, **kwargs: Any) -> Any:
        handle = real(*args, **kwargs)
        monkeypatch.setattr(handle, "write", full, raising=False)
        return handle

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", opened)


BREAK: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "write": failing_write,
    "fsync": lambda patch: patch.setattr(os, "fsync", full),
    "replace": lambda patch: patch.setattr(os, "replace", full),
    "create": lambda patch: patch.setattr(files.tempfile, "NamedTemporaryFile", full),
}


@pytest.mark.parametrize("broken", BREAK)
@pytest.mark.parametrize("kind", ["bytes", "json", "tensors"])
def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, kind: str
) -> None:
    path = tmp_path / "kept.bin"
    write: Callable[[Any], Path] = {
        "bytes": lambda value: files.write_bytes(path, bytes([value] * 100)),
        "json": lambda value: files.write_json(path, {"value": value}),
        "tensors": lambda value: files.write_tensors(path, {"value": torch.full((50,), value)}),
    }[kind]
    write(1)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        BREAK[broken](patch)
        with pytest.raises(FileError, match=r"kept\.bin can not be written: No space left on device") as caught:
            write(2)
    assert caught.value.cure
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "no temporary file stays"
    write(2)
    assert path.read_bytes() != before


def test_a_file_is_flushed_before_it_takes_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        if done[-1] == "file":
            assert os.fstat(handle).st_size == 3, "all bytes are in the file when it is flushed"
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    files.write_bytes(tmp_path / "a", b"abc")
    assert done == ["file", "rename", "folder"]


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    for write in (
        lambda: files.write_text(file / "a" / "b.txt", "x"),
        lambda: files.make_folder(file / "run"),
        lambda: files.make_folder(file),
        lambda: Journal(file / "metrics.jsonl").append({}),
    ):
        with pytest.raises(FileError, match=r"file.* can not be written") as caught:
            write()
        assert caught.value.exit_code == 6
    assert file.read_text() == "in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="Permission denied"):
            files.make_folder(tmp_path)
        with pytest.raises(FileError, match="Permission denied"):
            files.write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)


def test_strays_are_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda one, other: (names.append(Path(one).name), real(one, other)))
    files.write_text(tmp_path / "model.json", "{}")
    (tmp_path / names[0]).write_text("half a file")
    (tmp_path / ".hidden").write_text("the user's")
    files.copy_folder(tmp_path, tmp_path / "copy", last="model.json")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [".hidden", "model.json"]
    files.remove_strays(tmp_path)
    files.remove_strays(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "copy", "model.json"]


def test_json_is_strict_and_comes_back(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "a.json", {"n": math.nan, "list": (1.5, -math.inf), "text": "Größe", 3: None})
    assert json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name)) == {
        "n": None,
        "list": [1.5, None],
        "text": "Größe",
        "3": None,
    }
    assert files.read_json(path)["text"] == "Größe"


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000, b"{} {}"])
def test_json_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"summary\.json is not valid JSON"):
        files.read_json(path)
    with pytest.raises(FileError, match="is missing"):
        files.read_json(tmp_path / "other.json")
    with pytest.raises(FileError, match="can not be read"):
        files.read_json(tmp_path)


def test_tensors_are_plain_safetensors(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    shared = torch.arange(6.0)
    given = {"image": image, "one": shared, "part": shared[2:4], "turned": torch.rand(2, 3).T}
    path = files.write_tensors(tmp_path / "w.safetensors", given, {"by": "test"})
    other = safetensors.numpy.load_file(path)
    found, metadata = files.read_tensors(path)
    for name, value in given.items():
        np.testing.assert_array_equal(other[name], value.numpy())
        assert torch.equal(found[name], value)
    assert metadata == {"by": "test"}


def test_the_bytes_of_a_file_do_not_depend_on_the_order_of_names(tmp_path: Path) -> None:
    given = {"b": torch.ones(2), "a": torch.zeros(3), "c": torch.tensor(1)}
    one = files.write_tensors(tmp_path / "one", given).read_bytes()
    other = files.write_tensors(tmp_path / "other", dict(reversed(given.items()))).read_bytes()
    assert one == other


@pytest.mark.parametrize(
    "content", [b"", b"12345678", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}x", b"PK\3\4" + b"0" * 50]
)
def test_tensors_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"teacher\.safetensors is not a whole safetensors file"):
        files.read_tensors(path)
    with pytest.raises(FileError, match=r"teacher\.safetensors is not a whole"):
        files.read_weights(path)


def test_weights_of_other_programs(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    for number, wrapped in enumerate(
        [state, {"state_dict": state, "epoch": 3}, {"model": state}, {"model_state_dict": state}]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(wrapped, path)
        found = files.read_weights(path)
        assert list(found) == ["weight", "bias"]
        assert all(torch.equal(found[name], state[name]) for name in state)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("where", ["alone", "beside", "pickle"])
def test_a_pickle_runs_no_code(tmp_path: Path, where: str) -> None:
    trap, path = tmp_path / "executed", tmp_path / "weights.pt"
    if where == "pickle":
        path.write_bytes(pickle.dumps(Payload(trap)))
    else:
        torch.save(Payload(trap) if where == "alone" else {"weight": torch.ones(2), "x": Payload(trap)}, path)
    with pytest.raises(FileError, match=r"weights\.pt can not be read as plain weights") as caught:
        files.read_weights(path)
    assert "\n" not in caught.value.what
    assert not trap.exists()
    with open(path, "rb") as file:  # the trap works: it is the reader that does not step on it
        (pickle.load if where == "pickle" else lambda one: torch.load(one, weights_only=False))(file)
    assert trap.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\3\4broken", b"\x80\x02."])
def test_weights_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"weights\.pth"):
        files.read_weights(path)
    with pytest.raises(FileError, match="missing"):
        files.read_weights(tmp_path / "none.pth")


def test_a_file_without_names_is_no_state_dict(tmp_path: Path) -> None:
    for value in (torch.ones(3), [torch.ones(2)], {"epoch": 3}, {"state_dict": 5}):
        torch.save(value, tmp_path / "w.pt")
        with pytest.raises(FileError, match="holds no state dict"):
            files.read_weights(tmp_path / "w.pt")


def test_checksums(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    path = files.write_bytes(tmp_path / "a", data)
    assert files.describe(path) == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    with pytest.raises(FileError, match="can not be read"):
        files.sha256(tmp_path / "none")


def test_a_journal_is_cut_to_what_a_checkpoint_remembers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.truncate(0)
    mark = journal.append({"epoch": 1, "loss": math.nan})
    assert mark == journal.path.stat().st_size
    journal.append({"epoch": 2})
    with open(journal.path, "ab") as file:
        file.write(b'{"epoch": 3, "lo')  # a process died here
    assert [line["epoch"] for line in journal.read()] == [1, 2]
    journal.truncate(mark)
    assert journal.read() == [{"epoch": 1, "loss": None}]
    with pytest.raises(FileError, match=r"metrics\.jsonl has \d+ bytes, expected at least 999"):
        journal.truncate(999)
    assert journal.append({"epoch": 2}) > mark
    assert [line["epoch"] for line in journal.read()] == [1, 2]


def test_a_journal_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"epoch": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"metrics\.jsonl can not be written: No space left"):
        journal.append({"epoch": 2})
