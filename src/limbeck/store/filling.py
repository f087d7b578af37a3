"""A store that is being made: records come in any order, from any process, and none is lost with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FileError, ResumeError
from limbeck.files import Slots, describe, make_folder, read_json, remove_file, write_bytes, write_json
from limbeck.store.codec import Records
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.store.shards import gathered, mapped

BEGIN = "begin.json"
_SHARDS, _LEAST, _MOST = 64, 1024, 2**20  # about so many shards, of so many records each


def per_shard(records: int) -> int:
    """How many records a shard holds.

    Example:
        >>> per_shard(100), per_shard(960_000), per_shard(10**9)
        (1024, 15000, 1048576)
    """
    return min(max(-(-records // _SHARDS), _LEAST), _MOST)


@dataclass
class _Part:
    """A shard that is being filled: its file, which of its records are known, and whether that was written down."""

    slots: Slots
    records: Records
    known: NDArray[np.bool_]
    noted: bool = True


@dataclass
class Filling:
    """A store that is being made in a folder; made again from the same, it goes on.

    Args:
        folder: of the store.
        layout: of a record.
        samples: of the split, N.
        views: of each sample, V.
        identity: what the records depend on; a folder that was begun with another one is refused.

    Raises:
        ResumeError: if the folder holds the beginning of another store.
        FileError: if the disk has no room for all of it, or can not be written.
    """

    folder: Path
    layout: Layout
    samples: int
    views: int
    identity: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = self.samples * self.views
        self.per_shard = per_shard(self.records)
        self.notes: list[str] = []
        self._parts: dict[int, _Part] = {}
        make_folder(self.folder)
        asked = json.loads(json.dumps(
            {"record": self.layout.to_dict(), "samples": self.samples, "views": self.views, "identity": self.identity}
        ))  # fmt: skip
        begin = self.folder / BEGIN
        if not begin.exists():
            self._check_space()
            write_json(begin, asked)
        elif read_json(begin) != asked:
            raise ResumeError(
                f"{self.folder} holds the beginning of a store of another teacher, data or views",
                cure="give another path, or remove that folder",
            )

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.records // self.per_shard)

    def missing(self, addresses: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the addresses have no record yet, ``[B]``."""
        found = np.empty(len(addresses), dtype=np.bool_)
        numbers = addresses // self.per_shard
        for number in np.unique(numbers).tolist():
            here = numbers == number
            found[here] = ~self._part(number).known[addresses[here] - number * self.per_shard]
        return found

    def put(self, addresses: NDArray[np.int64], records: Records) -> None:
        """Keep records at addresses; one that was there is written over."""
        order = np.argsort(addresses, kind="stable")
        addresses, records = addresses[order], records[order]
        numbers = addresses // self.per_shard
        breaks = np.flatnonzero((np.diff(addresses) != 1) | (np.diff(numbers) != 0)) + 1
        for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(addresses)], strict=True):
            if start == stop:
                continue
            part, first = self._part(int(numbers[start])), int(addresses[start] % self.per_shard)
            part.slots.write(first * self.layout.stride, records[start:stop].tobytes())
            part.known[first : first + stop - start] = True
            part.noted = False

    def get(self, addresses: NDArray[np.int64]) -> Records:
        """The records at addresses, in their order; zeros where there is none."""
        return gathered(addresses, self.per_shard, self.layout.dtype, lambda number: self._part(number).records)

    def flush(self) -> None:
        """Put all records on the disk, then which ones there are."""
        for number, part in sorted(self._parts.items()):
            if not part.noted:
                part.slots.sync()
                write_bytes(self._note(number), _noted(part))
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
        self.flush()
        gaps = sum(int((~self._part(number).known).sum()) for number in range(self.shards))
        if gaps:
            raise FileError(f"{self.folder} lacks {gaps} of {self.records} records", cure="go on with its building")
        shards = []
        for number in range(self.shards):
            path = self.file(number)
            shards.append({"file": path.name, "records": self._length(number), **describe(path)})
        size = (self.layout, self.samples, self.views, self.per_shard)
        manifest = Manifest(*size, tuple(shards), dict(self.identity), **facts)
        manifest.write(self.folder)
        self.close()
        for number in range(self.shards):
            remove_file(self._note(number))
        remove_file(self.folder / BEGIN)
        return manifest

    def close(self) -> None:
        """Close the files."""
        for part in self._parts.values():
            part.slots.close()
        self._parts.clear()

    def file(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:05d}.bin"

    def _note(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.known"

    def _length(self, number: int) -> int:
        return min(self.per_shard, self.records - number * self.per_shard)

    def _part(self, number: int) -> _Part:
        if number not in self._parts:
            length, path = self._length(number), self.file(number)
            slots = Slots(path, length * self.layout.stride)
            records = mapped(path, self.layout.dtype, length)
            known = self._read_note(number, records)
            self._parts[number] = _Part(slots, records, known)
        return self._parts[number]

    def _read_note(self, number: int, records: Records) -> NDArray[np.bool_]:
        """Which records of a shard are known; none, if the files do not agree."""
        path = self._note(number)
        nothing = np.zeros(len(records), dtype=np.bool_)
        if not path.exists():
            return nothing
        head, _, bits = path.read_bytes().partition(b"\n")
        known = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=len(records)).astype(np.bool_)
        if head.decode("ascii", "replace") != _digest(records, known, bits):
            self.notes.append(f"{self.file(number)} is not as it was left: its records are asked for again")
            return nothing
        return known

    def _check_space(self) -> None:
        needed, free = self.records * self.layout.stride, shutil.disk_usage(self.folder).free
        if needed > free:
            raise FileError(
                f"a store of {self.samples} samples in {self.views} views has {needed:,} bytes; {free:,} are free "
                f"where {self.folder} is",
                cure="keep fewer views, or choose another path",
            )


def _noted(part: _Part) -> bytes:
    """Which records of a shard are known, with a digest of them."""
    bits = np.packbits(part.known).tobytes()
    return _digest(part.records, part.known, bits).encode() + b"\n" + bits


def _digest(records: Records, known: NDArray[np.bool_], bits: bytes) -> str:
    digest = hashlib.sha256(bits)
    digest.update(records[known].tobytes())
    return digest.hexdigest()
