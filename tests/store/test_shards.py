"""Records from many files: the right ones in their order, with memory that does not grow with the store."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.store.written import SAMPLES, VIEWS, write_store

from limbeck.data.batch import Batch
from limbeck.errors import FileError
from limbeck.files import describe
from limbeck.store import shards as shards_module
from limbeck.store import verifying
from limbeck.store.codec import decode
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.store.shards import Shards, gathered, mapped
from limbeck.store.store import Store
from limbeck.store.verifying import faults
from limbeck.training.progress import Silent

GIB = 2**30
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, which only Linux has")
LAYOUTS = [
    Layout(5),
    Layout(5, 3, (0.25, 0.5, 0.25)),
    Layout(90, top=4, temperatures=(4.0, 1.0), features={"a": 3}),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["dense", "ensemble", "top"])
@pytest.mark.parametrize("per_shard", [1, 16, 71, 1000])
def test_the_right_records_in_their_order(tmp_path: Path, layout: Layout, per_shard: int) -> None:
    records = write_store(tmp_path, layout, per_shard=per_shard)
    shards = Shards(tmp_path, Manifest.read(tmp_path))
    draw = np.random.default_rng(0)
    for addresses in (
        np.arange(72), np.arange(72)[::-1], draw.permutation(72), draw.integers(0, 72, 500), np.array([71]),
        np.array([16, 15, 16]), np.empty(0, np.int64),
    ):  # fmt: skip
        found = shards.gather(addresses)
        assert found.dtype == layout.dtype
        assert found.tobytes() == records[addresses].tobytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=["dense", "ensemble", "top"])
def test_a_batch_of_several_views(tmp_path: Path, layout: Layout) -> None:
    records = write_store(tmp_path, layout)
    store = Store.open(tmp_path)
    index, view = torch.tensor([23, 0, 23, 7]), torch.tensor([2, 1, 0, 2])
    at = [2 * 24 + 23, 1 * 24 + 0, 0 * 24 + 23, 2 * 24 + 7]
    pixels = torch.from_numpy(records["pixels"][at].astype(np.int64))
    inputs = torch.zeros(4, 1)
    found = store.recall(Batch(index, inputs, index, view=view, pixels=pixels), inputs)
    assert torch.equal(found.logits, decode(layout, records[at]).logits)
    pixels[2] ^= 1 << 31
    with pytest.raises(FileError, match=r"view 0 of sample 23 has other pixels now"):
        store.recall(Batch(index, inputs, index, view=view, pixels=pixels), inputs)


@pytest.mark.parametrize("address", [-1, SAMPLES * VIEWS, 2**62])
def test_no_such_record(tmp_path: Path, address: int) -> None:
    write_store(tmp_path)
    with pytest.raises(FileError, match=rf"keeps records 0 to 71; asked for .*{address}"):
        Shards(tmp_path, Manifest.read(tmp_path)).gather(np.array([3, address]))


def test_what_vanished_after_opening(tmp_path: Path) -> None:
    write_store(tmp_path)
    store = Store.open(tmp_path, verify=False)
    store.shards.gather(np.array([0]))
    (tmp_path / "shard-00002.bin").unlink()
    (tmp_path / "shard-00003.bin").write_bytes(b"short")
    store.shards.gather(np.array([0, 17, 71]))
    with pytest.raises(FileError, match=r"shard-00002.bin is missing"):
        store.shards.gather(np.array([0, 33]))
    with pytest.raises(FileError, match=r"shard-00003.bin has 5 bytes, expected 224"):
        store.shards.gather(np.array([48]))
    (tmp_path / "shard-00003.bin").unlink()
    (tmp_path / "shard-00003.bin").mkdir()
    with pytest.raises(FileError, match=r"shard-00003.bin (has|can not be read)"):
        store.shards.gather(np.array([48]))


def test_in_another_process_it_opens_the_files_itself(tmp_path: Path) -> None:
    records = write_store(tmp_path)
    shards = Shards(tmp_path, Manifest.read(tmp_path), scattered=True)
    shards.gather(np.arange(72))
    again = copy.deepcopy(shards)  # by way of what a pickle holds
    assert not again._maps
    assert again.gather(np.arange(72)).tobytes() == records.tobytes()
    assert again.scattered


def test_records_that_were_read_can_be_changed_and_the_files_stay(tmp_path: Path) -> None:
    records = write_store(tmp_path)
    shards = Shards(tmp_path, Manifest.read(tmp_path))
    shards.gather(np.arange(72))["logits"][:] = 0
    assert shards.gather(np.arange(72)).tobytes() == records.tobytes()


def test_arrays_as_shards() -> None:
    parts = [np.array([True, False]), np.array([False, True]), np.array([True])]
    found = gathered(np.array([4, 0, 3, 1, 4]), 2, np.dtype(np.bool_), parts.__getitem__)
    assert found.tolist() == [True, True, True, False, True]


def test_a_file_as_an_array(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes([1, 0, 0, 1]))
    found = mapped(tmp_path / "a", np.dtype("<u2"), 2)
    assert found.tolist() == [1, 256]
    assert not found.flags.writeable
    with pytest.raises(FileError, match="has 4 bytes, expected 6"):
        mapped(tmp_path / "a", np.dtype("<u2"), 3)


@LINUX
def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = write_store(tmp_path, per_shard=1)
    monkeypatch.setattr(shards_module, "OPEN", 5)
    shards = Shards(tmp_path, Manifest.read(tmp_path))

    def opened() -> list[str]:
        maps = Path("/proc/self/maps").read_text().splitlines()
        found = [line.split()[-1] for line in maps if str(tmp_path) in line]
        links = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.exists()]
        assert sum(str(tmp_path) in one for one in links) <= len(found)
        return sorted(Path(one).name for one in found)

    assert shards.gather(np.arange(72)[::-1]).tobytes() == records[::-1].tobytes()
    assert opened() == [f"shard-{number:05d}.bin" for number in range(67, 72)]
    shards.gather(np.array([67]))  # so that it is not the next to go
    shards.gather(np.array([3]))
    assert opened() == [f"shard-{number:05d}.bin" for number in (3, 67, 69, 70, 71)]


def status(field: str) -> int:
    """A line of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


@LINUX
def test_a_store_far_larger_than_memory(tmp_path: Path) -> None:
    layout, per_shard, count = Layout(10), 2**29 + 7, 6  # 12 GiB a file, of which no byte takes room on the disk
    draw = np.random.default_rng(0)
    marked = np.sort(draw.integers(0, per_shard * count, 50))
    expected = np.zeros(50, layout.dtype)
    expected["pixels"] = draw.integers(1, 2**32, 50)
    facts = []
    for number in range(count):
        path, size = tmp_path / f"shard-{number:05d}.bin", per_shard * layout.stride
        with open(path, "wb") as file:
            file.truncate(size)
            for place in np.flatnonzero(marked // per_shard == number):
                file.seek(int(marked[place] % per_shard) * layout.stride)
                file.write(expected[place].tobytes())
        facts.append({"file": path.name, "records": per_shard, "bytes": size, "sha256": "0" * 64})
    assert sum(one["bytes"] for one in facts) > 70 * GIB
    Manifest(layout, per_shard, count, per_shard, tuple(facts), {"views": {"seed": 0}}).write(tmp_path)

    store = Store.open(tmp_path, verify=False)
    store.shards.scattered = True  # as it is where a view is larger than the memory, which this machine's may not be
    assert store.shards.gather(marked).tobytes() == expected.tobytes()  # beyond the reach of 32 bits, too
    before = {field: status(field) for field in ("RssAnon", "RssFile", "RssShmem")}
    batches, size = 100, 128
    for _ in range(batches):
        found = store.shards.gather(draw.integers(0, per_shard * count, size))
        assert found.nbytes == size * layout.stride
        assert found.base is not None
    grown = {field: status(field) - before[field] for field in before}
    assert grown["RssAnon"] < 4 * 2**20, grown
    pages = 3 * batches * size * os.sysconf("SC_PAGE_SIZE") // 2  # some records lie on two
    assert grown["RssFile"] + grown["RssShmem"] < pages, grown  # and nothing of what lies around them


@pytest.mark.parametrize(("have", "scattered"), [(2 * 24 * 14, False), (2 * 24 * 14 - 1, True)])
def test_what_lies_around_a_record_is_read_where_a_view_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, have: int, scattered: bool
) -> None:
    records = write_store(tmp_path)
    monkeypatch.setattr(shards_module, "memory", lambda: have)
    shards = Shards(tmp_path, Manifest.read(tmp_path))
    assert shards.scattered is scattered
    assert shards.gather(np.arange(72)).tobytes() == records.tobytes()


class Heard(Silent):
    """What a reporter is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self, *told: Any) -> None:
        self.calls.append(("begin", *told))

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.calls.append((epoch, done, samples, loss))

    def end(self) -> None:
        self.calls.append("end")


@pytest.mark.parametrize("threads", [False, True], ids=["one", "several"])
def test_progress_of_verifying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: bool) -> None:
    if threads:
        monkeypatch.setattr(verifying, "_WORTH", 1)
        monkeypatch.setattr(os, "cpu_count", lambda: 3)
    write_store(tmp_path)
    told = Heard()
    store = Store.open(tmp_path, told=told)
    parts = [(1, 1, 16, None), (1, 2, 16, None), (1, 3, 16, None), (1, 4, 16, None), (1, 5, 8, None)]
    expected = [("begin", "verify", 1, 7, 72), *parts, (1, 6, 0, None), (1, 7, 0, None), "end"]
    assert told.calls == expected
    damaged = bytearray((tmp_path / "shard-00001.bin").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "shard-00001.bin").write_bytes(damaged)
    told = Heard()
    with pytest.raises(FileError, match=r"shard-00001.bin is damaged"):
        store.verify(told)
    assert told.calls == [*expected[:2], "end"]


@pytest.mark.parametrize("threads", [False, True], ids=["one", "several"])
def test_all_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: bool) -> None:
    monkeypatch.setattr(verifying, "_WORTH", 1 if threads else 2**60)
    names = [f"{number}.bin" for number in range(9)]
    files = []
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 10_000)
        files.append({"file": name, **describe(tmp_path / name)})
    assert list(faults(tmp_path, files)) == []
    (tmp_path / names[7]).unlink()
    (tmp_path / names[5]).write_bytes(b"")
    for number in (6, 2):
        (tmp_path / names[number]).write_bytes(b"other" * 10_000)

    def read(path: Path) -> str:
        if path.name == names[4]:
            raise FileError(f"{path} can not be read: no such device")
        return describe(path)["sha256"]

    monkeypatch.setattr(verifying, "sha256", read)
    found = [str(one.what).rpartition("/")[2] for one in faults(tmp_path, files)]
    assert found == [
        "5.bin has 0 bytes, expected 50000", "7.bin is missing",
        "2.bin is damaged: it is not as it was written, its sha256 is another",
        "4.bin can not be read: no such device",
        "6.bin is damaged: it is not as it was written, its sha256 is another",
    ]  # fmt: skip
    assert [str(one.what).rpartition("/")[2] for one in faults(tmp_path, files, read=False)] == found[:2]
