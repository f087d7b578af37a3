"""A thousand ways in which the files of a store are not what was written: all are noticed, and the file is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.store.written import rewrite, write_store
from torch import Tensor

from limbeck.errors import FileError
from limbeck.files import describe, write_tensors
from limbeck.store.store import Store

Corruption = Callable[["Folder", random.Random], set[str]]


class Folder:
    """A store, another one of the same sizes, and what their files were."""

    def __init__(self, path: Path) -> None:
        self.path = path / "store"
        write_store(self.path)
        write_store(path / "other", seed=5)
        self.files = {one.name: one.read_bytes() for one in sorted(self.path.iterdir())}
        self.other = {one.name: one.read_bytes() for one in sorted((path / "other").iterdir())}
        self.shards = [name for name in self.files if name.startswith("shard")]
        assert {name: len(data) for name, data in self.files.items() if name.endswith(".bin")} == {
            name: len(data) for name, data in self.other.items() if name.endswith(".bin")
        }

    def write(self, name: str, data: bytes) -> None:
        assert data != self.files.get(name)
        (self.path / name).write_bytes(data)

    def restore(self) -> None:
        for one in self.path.iterdir():
            if one.name not in self.files:
                one.unlink()
        for name, data in self.files.items():
            if not (self.path / name).exists() or (self.path / name).read_bytes() != data:
                (self.path / name).write_bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    made = Folder(tmp_path_factory.mktemp("corrupted"))
    Store.open(made.path)
    yield made
    assert {one.name for one in made.path.iterdir()} == set(made.files)
    Store.open(made.path)  # all was put back: what was noticed was the corruption


def one_bit(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    data = bytearray(folder.files[name])
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    folder.write(name, bytes(data))
    return {name}


def cut_off(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    folder.write(name, folder.files[name][: draw.randrange(len(folder.files[name]))])
    return {name}


def appended(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    folder.write(name, folder.files[name] + draw.choice([draw.randbytes(draw.randint(1, 500)), b"\0", b" ", b"\n"]))
    return {name}


def zeroed(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    data = bytearray(folder.files[name])
    start = draw.choice([place for place, byte in enumerate(data) if byte])
    stop = min(start + draw.choice([1, 16, 512]), len(data))
    data[start:stop] = bytes(stop - start)
    folder.write(name, bytes(data))
    return {name}


def swapped(folder: Folder, draw: random.Random) -> set[str]:
    one, two = draw.sample([name for name in folder.files if name != "manifest.json"], 2)
    folder.write(one, folder.files[two])
    folder.write(two, folder.files[one])
    return {one, two}


def of_another_store(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(folder.shards)
    folder.write(name, folder.other[name])
    return {name}


def moved_records(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(folder.shards)
    data, stride = folder.files[name], 14
    by = stride * draw.randrange(1, len(data) // stride)
    folder.write(name, data[by:] + data[:by])
    return {name}


def missing(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    (folder.path / name).unlink()
    return {name}


def renamed(folder: Folder, draw: random.Random) -> set[str]:
    name = draw.choice(list(folder.files))
    (folder.path / name).rename(folder.path / f"{draw.randrange(1000)}-of-mine")
    return {name}


def manifest_of_another_store(folder: Folder, draw: random.Random) -> set[str]:
    """The digest of the manifest is right; some of its shards are those of the other store."""
    names = draw.sample(folder.shards, draw.randint(1, len(folder.shards)))
    for name in names:
        (folder.path / name).write_bytes(folder.other[name])
    (folder.path / "manifest.json").write_bytes(folder.other["manifest.json"])
    return {*folder.files} - set(names)


def edited_manifest(folder: Folder, draw: random.Random) -> set[str]:
    """A field of the manifest is another number, and its digest that of the edited text."""
    field, shard = draw.choice(["samples", "views", "records_per_shard", "records", "bytes", "classes"]), None
    by = draw.choice([-1, 1, 7])
    shard = draw.randrange(5)

    def edit(content: dict) -> None:
        if field in ("records", "bytes"):
            content["shards"][shard][field] += by
        elif field == "classes":
            content["record"][field] += abs(by)
        else:
            content[field] += abs(by)

    rewrite(folder.path, edit)
    return {"manifest.json"}


def exchanged_digests(folder: Folder, draw: random.Random) -> set[str]:
    """The manifest lists the digest of another shard, and its own digest is right."""
    one, two = draw.sample(range(4), 2)

    def edit(content: dict) -> None:
        content["shards"][one]["sha256"] = content["shards"][two]["sha256"]

    rewrite(folder.path, edit)
    return {f"shard-{one:05d}.bin"}


CORRUPTIONS: dict[Corruption, int] = {
    one_bit: 500, cut_off: 100, appended: 100, zeroed: 100, swapped: 40, of_another_store: 30, moved_records: 30,
    missing: 20, renamed: 20, manifest_of_another_store: 20, edited_manifest: 20, exchanged_digests: 20,
}  # fmt: skip


def test_there_are_a_thousand() -> None:
    assert sum(CORRUPTIONS.values()) == 1000


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
def test_noticed_and_named(folder: Folder, corrupt: Corruption) -> None:
    draw = random.Random(corrupt.__name__)
    caught = 0
    for _ in range(CORRUPTIONS[corrupt]):
        guilty = corrupt(folder, draw)
        try:
            with pytest.raises(FileError) as error:
                Store.open(folder.path, verify=True)
            assert any(name in error.value.what for name in guilty), (guilty, str(error.value))
            caught += 1
        finally:
            folder.restore()
    assert caught == CORRUPTIONS[corrupt]


def test_without_verifying_only_sizes_are_looked_at(folder: Folder) -> None:
    """What shows that the digests are what noticed the others."""
    try:
        of_another_store(folder, random.Random(0))
        Store.open(folder.path, verify=False)
        (folder.path / "shard-00003.bin").write_bytes(b"short")
        with pytest.raises(FileError, match=r"shard-00003.bin has 5 bytes, expected 224"):
            Store.open(folder.path, verify=False)
        (folder.path / "shard-00003.bin").unlink()
        with pytest.raises(FileError, match=r"shard-00003.bin is missing"):
            Store.open(folder.path, verify=False)
        (folder.path / "shard-00003.bin").mkdir()
        with pytest.raises(FileError, match=r"shard-00003.bin is no file"):
            Store.open(folder.path, verify=False)
        (folder.path / "shard-00003.bin").rmdir()
    finally:
        folder.restore()


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({"logits": torch.zeros(5)}, "'logits': (5,)"),
        ({"logits": torch.zeros(7, 4)}, "'logits': (7, 4)"),
        ({"logits": torch.zeros(7, 5, dtype=torch.float64)}, "in float32"),
        ({"probabilities": torch.zeros(7, 5)}, "'probabilities': (7, 5)"),
        ({"logits": torch.zeros(7, 5), "members": torch.zeros(2, 7, 5), "weights": torch.zeros(2)}, "(2, 7, 5)"),
        (
            {"logits": torch.zeros(7, 5), "members": torch.zeros(1, 7, 5)},
            "expected {'logits': (7, 5), 'members': (1, 7, 5)",
        ),
        ({}, "holds {}, expected"),
    ],
)
def test_what_was_said_of_a_split_is_something_else(tmp_path: Path, tensors: dict[str, Tensor], found: str) -> None:
    """Its digest is right: another tool wrote it so."""
    write_store(tmp_path)
    assert Store.open(tmp_path).says("test").logits.shape == (7, 5)
    facts = describe(write_tensors(tmp_path / "said-test.safetensors", tensors))
    rewrite(tmp_path, lambda content: content["said"]["test"].update(facts))
    with pytest.raises(FileError) as error:
        Store.open(tmp_path).says("test")
    assert error.value.what.startswith(f"{tmp_path / 'said-test.safetensors'} holds ")
    assert found in error.value.what
