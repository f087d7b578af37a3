"""A store that is being made: records come in any order, from any process, and none is lost with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FileError, ResumeError
from limbeck.files import describe, make_folder, read_json, remove_file, remove_strays, write_json
from limbeck.slots import Claim, Slots
from limbeck.store.codec import Records
from limbeck.store.identity import differences
from limbeck.store.layout import Layout
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.shards import gathered, mapped
from limbeck.training.distributed import world

BEGIN, LOCK = "begin.json", ".lock"
_SHARDS, _LEAST, _MOST = 64, 1024, 2**24  # about so many shards, of so many records each
_BLOCK = 4096  # bytes, of which a file on the disk has a whole number
_HEAD = 8 + 32  # of a note: its turn and its sha256


def per_shard(records: int) -> int:
    """How many records a shard holds.

    Example:
        >>> per_shard(100), per_shard(960_000), per_shard(2 * 10**10)
        (1024, 15000, 16777216)
    """
    return min(max(-(-records // _SHARDS), _LEAST), _MOST)


@dataclass
class _Part:
    """A shard that is being filled, and its note: which of its records are known, as it stands on the disk.

    A note has two halves, written in turns: one that is cut off leaves the other. Its room is taken before any record
    is written, so that on a full disk what is known can still be noted.
    """

    slots: Slots
    note: Slots
    records: Records
    known: NDArray[np.bool_]
    turn: int
    noted: bool = True

    def close(self) -> None:
        self.slots.close()
        self.note.close()


@dataclass
class Filling:
    """A store that is being made in a folder; made again from the same, it goes on.

    Of several processes, all must come here; each may then fill shards of its own.

    Args:
        folder: of the store.
        layout: of a record.
        samples: of the split, N.
        views: of each sample, V.
        identity: what the records depend on; a folder that was begun with another one is refused.
        besides: bytes that other files of the store will need.

    Raises:
        ResumeError: if the folder holds the beginning of another store, or a finished one.
        FileError: if the disk has no room for all that is missing, or can not be written, or another process is
            filling this folder.
    """

    folder: Path
    layout: Layout
    samples: int
    views: int
    identity: Mapping[str, Any] = field(default_factory=dict)
    besides: int = 0

    def __post_init__(self) -> None:
        self.records = self.samples * self.views
        self.per_shard = per_shard(self.records)
        self.notes: list[str] = []
        self._parts: dict[int, _Part] = {}
        self._claim: Claim | None = None
        self._sealed = False
        asked = {
            "record": self.layout.to_dict(), "samples": self.samples, "views": self.views, "identity": self.identity,
        }  # fmt: skip
        text = json.dumps(asked, sort_keys=True)
        self._for = hashlib.sha256(text.encode()).digest()  # in every note: one of another store is never believed
        world().from_first(lambda: self._begin(json.loads(text)))

    def _begin(self, asked: dict[str, Any]) -> None:
        make_folder(self.folder)
        self._claim = Claim(self.folder / LOCK)
        try:
            if (self.folder / FILE).exists():
                raise ResumeError(f"{self.folder} holds a finished store", cure="open it, or choose another path")
            remove_strays(self.folder)
            begin = self.folder / BEGIN
            if begin.exists():
                found = list(differences(_begun(begin), asked))
                if found:
                    raise ResumeError(
                        f"{self.folder} holds the beginning of a store of something else: {'; '.join(found[:6])}",
                        cure="put that back, give another path, or remove that folder",
                    )
            self._check_space()
            if not begin.exists():
                write_json(begin, asked)
        except BaseException:
            self._claim.release()
            raise

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.records // self.per_shard)

    def length(self, number: int) -> int:
        """How many records a shard holds."""
        return min(self.per_shard, self.records - number * self.per_shard)

    def missing(self, addresses: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the addresses have no record yet, ``[B]``."""
        return ~gathered(addresses, self.per_shard, np.dtype(np.bool_), lambda number: self._part(number).known)

    def known(self, number: int) -> int:
        """How many records of a shard there are."""
        return int(self._part(number).known.sum())

    def pieces(self, number: int, size: int) -> NDArray[np.int64]:
        """First addresses of the pieces of a shard, of ``size`` records each, that are not wholly known."""
        known = self._part(number).known
        starts = np.arange(0, len(known), size)
        return starts[~np.logical_and.reduceat(known, starts)] + number * self.per_shard

    def put(self, addresses: NDArray[np.int64], records: Records) -> None:
        """Keep records at addresses: of two for the same address the first, and nothing where there is one already.

        Raises:
            FileError: if the disk is full.
        """
        addresses, order = np.unique(addresses, return_index=True)
        new = self.missing(addresses)
        addresses, order = addresses[new], order[new]
        text, stride, numbers = memoryview(records[order].tobytes()), self.layout.stride, addresses // self.per_shard
        places = addresses - numbers * self.per_shard
        starts = _starts((np.diff(addresses) != 1) | (np.diff(numbers) != 0), len(addresses))
        ends = [*starts[1:].tolist(), len(addresses)]
        for low, high, number, place in zip(
            starts.tolist(), ends, numbers[starts].tolist(), places[starts].tolist(), strict=False
        ):
            self._parts[number].slots.write(place * stride, text[low * stride : high * stride])
        for rows in np.split(np.arange(len(addresses)), _starts(np.diff(numbers) != 0, len(addresses))[1:]):
            if len(rows):
                part = self._parts[int(numbers[rows[0]])]
                part.known[places[rows]] = True
                part.noted = False

    def get(self, addresses: NDArray[np.int64]) -> Records:
        """The records at addresses, in their order; zeros where there is none."""
        return gathered(addresses, self.per_shard, self.layout.dtype, lambda number: self._part(number).records)

    def flush(self) -> None:
        """Put all records on the disk, then which ones there are."""
        for number, part in sorted(self._parts.items()):
            if not part.noted:
                part.slots.sync()
                part.turn += 1
                text = self._noted(number, part.turn, part.known, part.records)
                part.note.write(part.turn % 2 * len(text), text)
                part.note.sync()
                part.noted = True

    def complete(self, number: int) -> bool:
        """Whether a shard has all its records."""
        return bool(self._part(number).known.all())

    def seal(self, **facts: Any) -> Manifest:
        """Write the manifest: from now on it is a store.

        Args:
            facts: what else :class:`limbeck.store.manifest.Manifest` says.

        Raises:
            FileError: if a record is missing.
        """
        self.release()
        gaps, shards = 0, []
        for number in range(self.shards):
            gaps += self.length(number) - self.known(number)
            self.release()
            if not gaps:
                path = self.file(number)
                shards.append({"file": path.name, "records": self.length(number), **describe(path)})
        if gaps:
            raise FileError(f"{self.folder} lacks {gaps} of {self.records} records", cure="go on with its building")
        size = (self.layout, self.samples, self.views, self.per_shard)
        manifest = Manifest(*size, tuple(shards), dict(self.identity), **facts)
        manifest.write(self.folder)
        tidy(self.folder)
        self.close()
        self._sealed = True
        return manifest

    def release(self) -> None:
        """Flush, and let go of all shards: what other processes have filled is seen, and memory is free."""
        self.flush()
        for part in self._parts.values():
            part.close()
        self._parts.clear()

    def close(self) -> None:
        """Let go of the folder. What was not flushed is asked for again."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()
        if self._claim is not None:
            self._claim.release()

    def file(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:05d}.bin"

    def _part(self, number: int) -> _Part:
        if self._sealed:
            raise FileError(f"{self.folder} is finished and not filled any more", cure="open the store")
        if number not in self._parts:
            length, path = self.length(number), self.file(number)
            slots, half = Slots(path, length * self.layout.stride), _half(length)
            records = mapped(path, self.layout.dtype, length)
            at = _note(path)
            try:
                text = at.read_bytes() if at.exists() else b""
            except OSError as error:
                raise FileError(f"{at} can not be read: {error.strerror}") from None
            turn, known = self._read(number, [text[:half], text[half:]], records)
            note = Slots(at, 2 * half, reserved=True)
            if not turn and any(text):
                note.write(0, bytes(2 * half))
            self._parts[number] = _Part(slots, note, records, known, turn)
        return self._parts[number]

    def _read(self, number: int, halves: list[bytes], records: Records) -> tuple[int, NDArray[np.bool_]]:
        """The last turn of a note that agrees with its shard, and which records were known then."""
        found = sorted((one for one in halves if any(one)), key=lambda one: one[:8][::-1], reverse=True)
        for text in found:
            turn, bits = int.from_bytes(text[:8], "little"), np.frombuffer(text[_HEAD:], dtype=np.uint8)
            if len(bits) == -(-len(records) // 8):
                known = np.unpackbits(bits, count=len(records)).astype(np.bool_)
                if text == self._noted(number, turn, known, records):
                    return turn, known
            lost = f"{self.file(number)} is not as it was left: what it lacks is asked for again"
            if text is found[0] and lost not in self.notes:
                self.notes.append(lost)
        return 0, np.zeros(len(records), dtype=np.bool_)

    def _noted(self, number: int, turn: int, known: NDArray[np.bool_], records: Records) -> bytes:
        """Which records of a shard are known, with a digest of them and of what they are for."""
        head, bits = turn.to_bytes(8, "little"), np.packbits(known).tobytes()
        digest = hashlib.sha256(self._for + number.to_bytes(8, "little") + head + bits)
        digest.update((records if known.all() else records[known]).tobytes())
        return head + digest.digest() + bits

    def _check_space(self) -> None:
        """See that what is missing has room: what a file has on the disk already does not count."""
        needed, free = self.besides + 4 * _BLOCK, _free(self.folder)  # the beginning, the lock and the manifest
        for number in range(self.shards):
            length, path = self.length(number), self.file(number)
            needed += _lacking(path, length * self.layout.stride) + _lacking(_note(path), 2 * _half(length))
        if needed > free:
            raise FileError(
                f"a store of {self.samples} samples in {self.views} views needs {needed:,} more bytes; {free:,} are "
                f"free where {self.folder} is",
                cure="free space, keep fewer views, or choose another path; what is there is kept",
            )


def tidy(folder: Path) -> None:
    """Remove what a finished store does not need any more, also where sealing was cut short."""
    for path in sorted(folder.glob("shard-*.known")):
        remove_file(path)
    for name in (BEGIN, LOCK):  # who waits for the lock finds the manifest then
        remove_file(folder / name)


def noted(folder: Path, number: int, length: int) -> int:
    """How many records of a shard are known by its note; the shard itself is not looked at.

    Args:
        folder: of a store that is being made.
        number: of the shard.
        length: how many records it will hold.

    Raises:
        FileError: if the note can not be read.
    """
    path, half = folder / f"shard-{number:05d}.known", _HEAD + -(-length // 8)
    try:
        text = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
    turns = [one for one in (text[:half], text[half:]) if len(one) == half]
    last = max(turns, key=lambda one: int.from_bytes(one[:8], "little"), default=b"")
    return int(np.unpackbits(np.frombuffer(last[_HEAD:], dtype=np.uint8)).sum())


def _begun(path: Path) -> Any:
    try:
        return read_json(path)
    except FileError as error:
        raise FileError(
            f"{error.what}: what the store was begun for is not known", cure=f"remove {path.parent}, and build it again"
        ) from None


def _starts(breaks: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Where runs of ``count`` things begin, from whether there is a break after each."""
    return np.concatenate([np.zeros(min(count, 1), dtype=np.int64), np.flatnonzero(breaks) + 1])


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _lacking(path: Path, size: int) -> int:
    """Bytes that a file of a size has not got on the disk yet; holes are not there, where the system knows them."""
    there = 0
    with suppress(OSError):
        found = path.stat()
        there = getattr(found, "st_blocks", found.st_size // 512) * 512
    return max(-(-size // _BLOCK) * _BLOCK - there, 0)


def _note(path: Path) -> Path:
    """The file of a shard's note."""
    return path.with_suffix(".known")


def _half(length: int) -> int:
    """Bytes of one half of a shard's note."""
    return _HEAD + -(-length // 8)
