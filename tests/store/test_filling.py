"""A store in the making against a dict: what is known is right, whatever happened to its files."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck import slots
from limbeck.errors import FileError, ResumeError
from limbeck.files import sha256, write_json
from limbeck.slots import Claim, Slots
from limbeck.store import filling as module
from limbeck.store.filling import BEGIN, LOCK, Filling, per_shard
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest

LAYOUT = Layout(classes=3)  # 10 bytes: 4 of a checksum, 3 · 2 of logits
SAMPLES, VIEWS = 37, 3
ALL = np.arange(SAMPLES * VIEWS)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """7 shards: six of 16 records and one of 15."""
    monkeypatch.setattr(module, "_LEAST", 16)


def begin(folder: Path, **changes: Any) -> Filling:
    return Filling(**{"folder": folder, "layout": LAYOUT, "samples": SAMPLES, "views": VIEWS, **changes})


def said(addresses: NDArray[Any], salt: int = 0) -> NDArray[Any]:
    """Records that tell their own address."""
    found = np.zeros(len(addresses), LAYOUT.dtype)
    found["pixels"] = addresses * 7 + salt
    found["logits"] = (addresses[:, None, None] + np.array([0, 0.5, 0.25])) / 8 + salt
    return found


def known(filling: Filling) -> set[int]:
    return set(ALL[~filling.missing(ALL)].tolist())


def full(folder: Path, **changes: Any) -> Filling:
    filling = begin(folder, **changes)
    filling.put(ALL, said(ALL))
    filling.flush()
    return filling


def test_records_come_in_any_order_and_the_first_of_an_address_stays(tmp_path: Path) -> None:
    chance, model = random.Random(3), dict[int, int]()
    filling = begin(tmp_path)
    assert filling.shards == 7
    assert [filling.length(number) for number in range(7)] == [16] * 6 + [15]
    flushed: set[int] = set()
    for turn in range(60):
        addresses = np.array(chance.choices(range(len(ALL)), k=chance.randint(0, 12)), dtype=np.int64)
        assert filling.missing(addresses).tolist() == [one not in model for one in addresses.tolist()]
        filling.put(addresses, said(addresses, salt=turn))
        for one in addresses.tolist():
            model.setdefault(one, turn)
        assert known(filling) == set(model)
        there = np.array(chance.sample(sorted(model), k=min(len(model), 9)), dtype=np.int64)
        salts = np.array([model[one] for one in there.tolist()])
        assert filling.get(there).tobytes() == b"".join(
            said(there[at : at + 1], int(salts[at])).tobytes() for at in range(len(there))
        )
        if chance.random() < 0.2:
            filling.flush()
            flushed = set(model)
        if chance.random() < 0.2:  # as if killed: what was not flushed is not known
            filling.close()
            filling = begin(tmp_path)
            assert known(filling) == flushed
            model = {one: model[one] for one in flushed}
    assert len(flushed) > 30
    assert filling.notes == []


def test_of_two_for_one_address_in_a_batch_the_first_is_kept(tmp_path: Path) -> None:
    filling = begin(tmp_path)
    filling.put(np.array([5, 3, 5]), np.concatenate([said(np.array([5]), 1), said(np.array([3])), said(np.array([5]))]))
    assert filling.get(np.array([5]))["pixels"].tolist() == [5 * 7 + 1]


def test_a_sealed_store_is_its_records_one_after_the_other(tmp_path: Path) -> None:
    filling = full(tmp_path, identity={"teacher": "t"})
    manifest = filling.seal(certificate={})
    text = b"".join((tmp_path / f"shard-{number:05d}.bin").read_bytes() for number in range(7))
    assert text == said(ALL).tobytes()
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", *(f"shard-{number:05d}.bin" for number in range(7))]
    assert [one["sha256"] for one in manifest.shards] == [sha256(tmp_path / one["file"]) for one in manifest.shards]
    assert Manifest.read(tmp_path).identity == {"teacher": "t"}
    with pytest.raises(ResumeError, match="holds a finished store"):
        begin(tmp_path, identity={"teacher": "t"})


def test_what_is_sealed_is_not_written_any_more(tmp_path: Path) -> None:
    filling = full(tmp_path)
    filling.seal()
    before = sorted(os.listdir(tmp_path))
    for use in (filling.missing, filling.get, lambda at: filling.put(at, said(at))):
        with pytest.raises(FileError, match="is finished and not filled any more"):
            use(ALL)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_store_with_a_gap_is_not_sealed(tmp_path: Path) -> None:
    filling = begin(tmp_path)
    filling.put(ALL[:-1], said(ALL[:-1]))
    with pytest.raises(FileError, match="lacks 1 of 111 records"):
        filling.seal()
    assert not (tmp_path / "manifest.json").exists()
    filling.put(ALL, said(ALL))
    filling.seal()
    assert (tmp_path / "manifest.json").exists()


def test_the_pieces_that_are_asked_are_those_with_a_gap(tmp_path: Path) -> None:
    filling = begin(tmp_path)
    filling.put(np.array([*range(5), *range(6, 21), 110]), said(np.array([*range(5), *range(6, 21), 110])))
    assert filling.pieces(0, 5).tolist() == [5]  # 0–4, 5–9, 10–14, 15
    assert filling.pieces(1, 5).tolist() == [21, 26, 31]
    assert filling.pieces(6, 7).tolist() == [96, 103]  # 96–102, 103–109, 110
    assert filling.known(1) == 5
    assert not filling.complete(0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"identity": {"teacher": "b", "views": {"shift": 2}}}, ["identity.teacher: kept a, now b"]),
        ({"identity": {"teacher": "a", "views": {"shift": 4}}}, ["identity.views.shift: kept 2, now 4"]),
        ({"layout": Layout(classes=4)}, ["record.classes: kept 3, now 4"]),
        ({"layout": Layout(classes=3, top=2, temperatures=(4.0,))}, ["record.kind: kept dense, now top"]),
        ({"samples": 38}, ["samples: kept 37, now 38"]),
        ({"views": 4}, ["views: kept 3, now 4"]),
    ],
)  # fmt: skip
def test_what_was_begun_for_something_else_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: list[str]
) -> None:
    own = {"identity": {"teacher": "a", "views": {"shift": 2}}}
    full(tmp_path, **own).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ResumeError) as refused:
        begin(tmp_path, **{**own, **changes})
    assert all(one in str(refused.value) for one in named), refused.value
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert known(begin(tmp_path, **own)) == set(ALL.tolist()), "nothing was lost, and nothing stays locked"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"record": 1}', "\xff"])
def test_a_damaged_beginning_is_refused(tmp_path: Path, text: str) -> None:
    full(tmp_path).close()
    (tmp_path / BEGIN).write_bytes(text.encode("latin-1"))
    with pytest.raises((FileError, ResumeError), match=r"begin\.json|something else"):
        begin(tmp_path)


def test_without_its_beginning_nothing_in_a_folder_is_believed(tmp_path: Path) -> None:
    full(tmp_path, identity={"teacher": "a"}).close()
    (tmp_path / BEGIN).unlink()
    filling = begin(tmp_path, identity={"teacher": "b"})
    assert known(filling) == set()
    assert len(filling.notes) == 7


def damage(path: Path, how: str) -> None:
    text = bytearray(path.read_bytes())
    half = len(text) // 2
    if how == "cut off":
        text = text[: half + 3]
    elif how == "empty":
        text = bytearray()
    elif how == "longer":
        text += b"x"
    elif how == "random":
        text = bytearray(random.Random(0).randbytes(len(text)))
    else:
        text[{"first half": 3, "second half": half + 3, "last byte": -1, "middle": half}[how]] ^= 4
    path.write_bytes(bytes(text))


@pytest.mark.parametrize("how", ["cut off", "longer", "random", "second half", "last byte", "middle"])
@pytest.mark.parametrize("kind", ["known", "bin"])
def test_a_damaged_shard_is_asked_again_and_no_other(tmp_path: Path, kind: str, how: str) -> None:
    full(tmp_path).close()
    damage(tmp_path / f"shard-00002.{kind}", how)
    filling = begin(tmp_path)
    found = known(filling)
    if (kind, how) != ("bin", "longer"):  # its records are all there
        assert found == set(ALL.tolist()) - set(range(32, 48))
        assert filling.notes == [f"{tmp_path}/shard-00002.bin is not as it was left: what it lacks is asked for again"]
    filling.put(ALL, said(ALL))
    filling.seal()
    assert b"".join(path.read_bytes() for path in sorted(tmp_path.glob("*.bin"))) == said(ALL).tobytes()


def test_a_note_that_is_cut_off_leaves_the_one_before(tmp_path: Path) -> None:
    filling = begin(tmp_path)
    for part in (ALL[:4], ALL[4:8], ALL[8:12]):  # the third note is written over the first
        filling.put(part, said(part))
        filling.flush()
    filling.close()
    damage(tmp_path / "shard-00000.known", "second half")
    filling = begin(tmp_path)
    assert known(filling) == set(range(8))
    assert len(filling.notes) == 1
    filling.put(ALL, said(ALL))
    filling.close()
    assert known(begin(tmp_path)) == set(range(8))


def test_shards_in_each_others_place_are_asked_again(tmp_path: Path) -> None:
    full(tmp_path).close()
    for kind in ("bin", "known"):
        one, other = (tmp_path / f"shard-0000{number}.{kind}" for number in (0, 1))
        texts = one.read_bytes(), other.read_bytes()
        other.write_bytes(texts[0])
        one.write_bytes(texts[1])
    assert known(begin(tmp_path)) == set(range(32, 111))


def test_a_shard_that_is_gone_is_asked_again(tmp_path: Path) -> None:
    full(tmp_path).close()
    (tmp_path / "shard-00001.bin").unlink()
    (tmp_path / "shard-00003.known").unlink()
    assert known(begin(tmp_path)) == set(ALL.tolist()) - set(range(16, 32)) - set(range(48, 64))


def replace(path: Path, text: bytes) -> None:
    """Some file systems wait for the disk if a file is cut to nothing and written again."""
    path.unlink()
    path.write_bytes(text)


def test_of_300_random_corruptions_none_is_believed(tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    chance = random.Random(seed)
    filling = begin(tmp_path)
    for start in range(0, 96, 8):
        filling.put(ALL[start : start + 8], said(ALL[start : start + 8]))
        filling.flush()
    filling.close()
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    paths = sorted(name for name in whole if name.startswith("shard"))
    for _ in range(300):
        name = chance.choice(paths)
        text = bytearray(whole[name])
        for _ in range(chance.choice([1, 1, 2, 9])):
            text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            text = text[: chance.randrange(len(text))]
        replace(tmp_path / name, bytes(text))
        filling = begin(tmp_path)
        found = np.array(sorted(known(filling)), dtype=np.int64)
        assert set(found.tolist()) <= set(range(96)), seed
        assert filling.get(found).tobytes() == said(found).tobytes(), f"{name} seed {seed}"
        filling.close()
        for one, content in whole.items():
            if (tmp_path / one).read_bytes() != content:
                replace(tmp_path / one, content)


# One process at a time.


def child(work: Any) -> int:
    """A process that does something and then waits to be killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            held = work()
            os.write(writer, b"!" if held is not None else b"?")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"!"
    os.close(reader)
    return pid


@pytest.fixture
def children() -> Iterator[list[int]]:
    found: list[int] = []
    yield found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_is_one_process_at_a_time(tmp_path: Path, children: list[int]) -> None:
    children.append(child(lambda: full(tmp_path)))
    with pytest.raises(FileError, match=rf"is being written by another process \(process {children[0]}\)"):
        begin(tmp_path)
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children.pop(), 0)
    assert (tmp_path / LOCK).exists()
    filling = begin(tmp_path)
    assert known(filling) == set(ALL.tolist()), "a killed process blocks nobody"
    filling.close()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_that_outlives_its_process_blocks_nobody(tmp_path: Path, children: list[int]) -> None:
    filling = begin(tmp_path)
    children.append(child(lambda: filling))
    assert filling._claim is not None
    filling._claim._file.close()  # as the end of the process does; the worker still has the file open
    again = begin(tmp_path)
    again.close()


def test_a_claim_on_a_file_that_was_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it, the process that had it removes it: that lock is worth nothing."""
    path, original, turns = tmp_path / LOCK, os.lockf, list[int]()

    def late(*arguments: Any) -> None:
        turns.append(1)
        if len(turns) == 1:
            path.unlink()
        original(*arguments)

    monkeypatch.setattr(slots.os, "lockf", late)
    claim = Claim(path)
    assert len(turns) == 2
    assert path.read_text() == f"process {os.getpid()}"
    claim.release()
    claim.release()
    assert not path.exists()


def test_where_files_can_not_be_locked_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(slots.os, "lockf", refuse)
    full(tmp_path).seal()
    monkeypatch.delattr(slots.os, "lockf")
    full(tmp_path / "windows").seal()


# Room on the disk.


def free(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    monkeypatch.setattr(module, "_free", lambda folder: value)


def test_room_is_checked_for_what_is_missing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", 1024)
    size: dict[str, Any] = {"samples": 5000, "views": 2}  # 9 shards of 10,240 bytes and one of 7,840
    blocks = 9 * 3 + 2 + 10 + 4  # of 4,096: the shards, a note of each, and some for the other files
    free(monkeypatch, blocks * 4096 - 1)
    with pytest.raises(FileError, match=r"5000 samples in 2 views needs 176,128 more bytes; 176,127 are") as refused:
        begin(tmp_path, **size)
    assert "free space, keep fewer views" in str(refused.value)
    assert list(tmp_path.iterdir()) == [], "nothing is begun"
    free(monkeypatch, blocks * 4096)
    filling = begin(tmp_path, **size)
    filling.put(np.arange(6 * 1024), said(np.arange(6 * 1024)))
    filling.flush()
    filling.close()
    free(monkeypatch, (blocks - 6 * 4) * 4096)  # 4 of 10 shards are missing
    begin(tmp_path, **size).close()
    with pytest.raises(FileError, match="needs 77,825 more bytes"):
        begin(tmp_path, **size, besides=1)
    with pytest.raises(FileError, match="needs 176,128"):
        begin(tmp_path / "other", **size)


def test_a_fault_in_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filling = begin(tmp_path)
    filling.put(ALL[:20], said(ALL[:20]))
    original = Slots.write

    def refuse(self: Slots, offset: int, data: bytes) -> None:
        if self.path.suffix == ".bin":
            self._file.write(data[:3])  # a part of it
            raise slots.refused(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        original(self, offset, data)

    monkeypatch.setattr(Slots, "write", refuse)
    with pytest.raises(FileError, match=r"shard-00001.bin can not be written: No space left on device\n  cure: free"):
        filling.put(ALL[18:25], said(ALL[18:25]))
    filling.flush()
    filling.close()
    monkeypatch.undo()
    monkeypatch.setattr(module, "_LEAST", 16)
    filling = begin(tmp_path)
    assert known(filling) == set(range(20))
    filling.put(ALL, said(ALL))
    filling.seal()


class Raw:
    """A file that takes only a part of what is written, as a disk does that has just become full."""

    def seek(self, offset: int) -> None: ...

    def write(self, data: bytes) -> int:
        return len(data) - 1


def test_what_is_written_in_part_is_not_written(tmp_path: Path) -> None:
    found = Slots(tmp_path / "s.bin", 10)
    found.close()
    found._file = Raw()  # type: ignore[assignment]
    with pytest.raises(FileError, match="No space left"):
        found.write(0, b"abc")


def test_reserved_slots_have_their_room(tmp_path: Path) -> None:
    Slots(tmp_path / "reserved", 50_000, reserved=True).close()
    Slots(tmp_path / "sparse", 50_000).close()
    blocks = {name: (tmp_path / name).stat().st_blocks * 512 for name in ("reserved", "sparse")}
    assert blocks["reserved"] >= 50_000 > blocks["sparse"]
    (tmp_path / "short").write_bytes(b"abc")
    Slots(tmp_path / "short", 5, reserved=True).close()
    assert (tmp_path / "short").read_bytes() == b"abc\0\0"
    Slots(tmp_path / "short", 2, reserved=True).close()
    assert (tmp_path / "short").read_bytes() == b"ab"


def test_folders_that_can_not_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file/store can not be written: Not a directory"):
        begin(tmp_path / "file" / "store")
    filling = begin(tmp_path / "store")
    (tmp_path / "store" / "shard-00000.bin").mkdir()
    with pytest.raises(FileError, match=r"shard-00000\.bin can not be written: Is a directory"):
        filling.put(ALL, said(ALL))


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    full(tmp_path).close()
    (tmp_path / ".begin.json.abc.part").write_text("{")
    begin(tmp_path).close()
    assert not (tmp_path / ".begin.json.abc.part").exists()


@pytest.mark.parametrize(
    ("records", "expected"), [(1, 1024), (64 * 1024, 1024), (64 * 1024 + 1, 1025), (10**6, 15625), (10**12, 2**24)]
)
def test_shards_are_about_64_of_a_size_that_is_bounded(
    monkeypatch: pytest.MonkeyPatch, records: int, expected: int
) -> None:
    monkeypatch.setattr(module, "_LEAST", 1024)
    assert per_shard(records) == expected


def test_a_beginning_says_what_it_is_for(tmp_path: Path) -> None:
    begin(tmp_path, identity={"teacher": {"weights": "w"}}).close()
    found = json.loads((tmp_path / BEGIN).read_text())
    assert found == {
        "record": LAYOUT.to_dict(), "samples": 37, "views": 3, "identity": {"teacher": {"weights": "w"}},
    }  # fmt: skip
    write_json(tmp_path / BEGIN, found)
    begin(tmp_path, identity={"teacher": {"weights": "w"}}).close()
