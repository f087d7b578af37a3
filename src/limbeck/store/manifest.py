"""The manifest of a store: what it holds and what it was made of, with a checksum over itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import FileError
from limbeck.files import write_text
from limbeck.store.fields import MOST, PLAIN, SHA256, Fields, strict_json, text, whole
from limbeck.store.layout import Layout

FILE = "manifest.json"
BEGIN = "begin.json"  # there as long as a store is not finished
FORMAT, VERSION = "limbeck-store", 1
_ZEROS = "0" * 64
_KEYS = {"format", "version", "sha256", "record", "samples", "views", "records_per_shard", "shards", "identity", "said",
         "certificate", "built"}  # fmt: skip
_AGAIN = "build the store again, or get the file again from where it was written"


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says, see ``docs/store_format.md``.

    Args:
        layout: of a record.
        samples: of the split, N.
        views: of each sample, V; there are V · N records.
        per_shard: records of a shard; the last one has what is left.
        shards: for each, its ``file``, ``records``, ``bytes`` and ``sha256``.
        identity: what the records depend on, see :mod:`limbeck.store.identity`.
        said: for each other split, its ``file``, ``bytes``, ``sha256`` and ``split`` (its fingerprint).
        certificate: how well the teacher is kept.
        built: when, where, how long.
        more: what else a later limbeck wrote beside these; kept when the manifest is written again.
    """

    layout: Layout
    samples: int
    views: int
    per_shard: int
    shards: tuple[Mapping[str, Any], ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    certificate: Mapping[str, Any] = field(default_factory=dict)
    built: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.samples * self.views

    @property
    def files(self) -> list[Mapping[str, Any]]:
        """All files beside the manifest: ``file``, ``bytes`` and ``sha256`` of each."""
        return [*self.shards, *self.said.values()]

    def write(self, folder: Path) -> Path:
        """Write it, whole or not at all.

        Raises:
            FileError: if it can not be written, or holds a number that is not finite.
        """
        return write_text(folder / FILE, signed(folder / FILE, self._content()))

    def _content(self) -> dict[str, Any]:
        return {
            **self.more,
            "format": FORMAT,
            "version": VERSION,
            "record": self.layout.to_dict(),
            "samples": self.samples,
            "views": self.views,
            "records_per_shard": self.per_shard,
            "shards": [dict(one) for one in self.shards],
            "identity": dict(self.identity),
            "said": {name: dict(one) for name, one in self.said.items()},
            "certificate": dict(self.certificate),
            "built": dict(self.built),
        }

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it back, and see that it can be true.

        Raises:
            FileError: if it is missing, was changed, is of another version, or a field is not what it has to be.
        """
        path = folder / FILE
        content = _whole(path, _bytes(folder))
        known = Fields.of(content, str(path))
        layout = Layout.from_dict(known.object("record").value, f"{path}: record")
        size = "a whole number of at least 1"
        samples = known.take("samples", whole(1), size)
        views = known.take("views", whole(1, MOST // (samples * layout.stride)), f"{size}, of less than 2^63 bytes")
        per_shard = known.take("records_per_shard", whole(1), size)
        manifest = cls(
            layout, samples, views, per_shard,
            tuple(one.value for one in known.each("shards")),
            known.object("identity").value,
            {name: known.object("said").object(name).value for name in known.object("said").value},
            known.object("certificate").value,
            known.object("built").value,
            {name: value for name, value in content.items() if name not in _KEYS},
        )  # fmt: skip
        manifest._check(known)
        return manifest

    def _check(self, known: Fields) -> None:
        """See that the files listed are those that this store has to have."""
        count = -(-self.records // self.per_shard)
        if len(self.shards) != count:
            raise FileError(
                f"{known.file}: shards are {len(self.shards)}, expected {count}: {self.records} records, "
                f"{self.per_shard} of each",
                cure=_AGAIN,
            )
        for place, shard in enumerate(known.each("shards")):
            shard.only("file", "records", "bytes", "sha256")
            records = min(self.per_shard, self.records - place * self.per_shard)
            shard.take("records", whole(records, records), f"{records}")
            size = records * self.layout.stride
            shard.take("bytes", whole(size, size), f"{size}, of records of {self.layout.stride}")
        said = known.object("said")
        others = [said.object(name) for name in said.value]
        for one in others:
            one.take("bytes", whole(1), "a whole number of at least 1")
            one.take("split", lambda value: isinstance(value, str), "the fingerprint of the split")
        taken = {FILE, BEGIN}
        for one in [*known.each("shards"), *others]:
            name = one.take("file", text(PLAIN), "the name of a file beside the manifest")
            one.take("sha256", text(SHA256), "64 hexadecimal digits")
            if name.lower() in taken:
                raise one.wrong("file", "a name that no other file of the store has")
            taken.add(name.lower())


def signed(path: Path, content: Mapping[str, Any]) -> str:
    """The text of a manifest with its digest in it: that of the same text with 64 zeros in the digest's place.

    Raises:
        FileError: if a number of it is not finite.
    """
    try:
        blank = json.dumps({**content, "sha256": _ZEROS}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except ValueError:
        raise FileError(f"{path} can not be written: a number in it is NaN or infinite") from None
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return blank.replace(f'\n  "sha256": "{_ZEROS}"', f'\n  "sha256": "{digest}"', 1)  # the one that is least indented


def _whole(path: Path, data: bytes) -> dict[str, Any]:
    """The content of a manifest whose digest is right."""
    try:
        content = strict_json(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: it is not JSON ({error})", cure=_AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path} is no manifest of a store of teacher outputs: its format is not '{FORMAT}'")
    digest, version = content.get("sha256"), content.get("version")
    right = isinstance(digest, str) and SHA256.fullmatch(digest) is not None and data.count(digest.encode()) == 1
    right = right and hashlib.sha256(data.replace(str(digest).encode(), _ZEROS.encode())).hexdigest() == digest
    if isinstance(version, int) and version > VERSION:
        raise FileError(
            f"{path}: version is {version}, and this limbeck reads {VERSION}"
            + ("" if right else "; and its sha256 is not right: it was changed or is damaged"),
            cure="update limbeck, or build the store again",
        )
    if not right:
        raise FileError(f"{path} is damaged: it is not as it was written, its sha256 is another", cure=_AGAIN)
    if not whole(VERSION, VERSION)(version):
        raise FileError(f"{path}: version is {version!r}, and this limbeck reads {VERSION}", cure=_AGAIN)
    return content


def _bytes(folder: Path) -> bytes:
    path = folder / FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if (folder / BEGIN).exists():
            raise FileError(
                f"{folder} holds a store that is not finished: {BEGIN} is there, {FILE} is not",
                cure="run the command that began it again: it goes on",
            ) from None
        what = f"{path} is missing: there is no store" if folder.is_dir() else f"{folder} is missing: there is no store"
        raise FileError(what, cure="check the path, or build one with limbeck store RECIPE") from None
    except NotADirectoryError:
        raise FileError(f"{folder} is a file, and a store is a folder", cure="give the folder that holds it") from None
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
