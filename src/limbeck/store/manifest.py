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
from limbeck.store.layout import Layout

FILE = "manifest.json"
FORMAT, VERSION = "limbeck-store", 1


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Args:
        layout: of a record.
        samples: of the split, N.
        views: of each sample, V; there are V · N records.
        per_shard: records of a shard; the last one has what is left.
        shards: for each, its ``file``, ``records``, ``bytes`` and ``sha256``.
        identity: what the records depend on, see :mod:`limbeck.store.identity`.
        said: for each other split, its ``file``, ``sha256`` and ``split`` (its fingerprint).
        certificate: how well the teacher is kept.
        built: when, where, how long.
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

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.samples * self.views

    def write(self, folder: Path) -> Path:
        """Write it, whole or not at all."""
        return write_text(folder / FILE, _text(self._content()))

    def _content(self) -> dict[str, Any]:
        return {
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
        """Read it back.

        Raises:
            FileError: if it is missing, was changed, or is of another version.
        """
        path = folder / FILE
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
        except FileNotFoundError:
            raise _missing(folder) from None
        except OSError as error:
            raise FileError(f"{path} can not be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path} is damaged: it is not JSON ({error})", cure="build the store again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FileError(f"{path} is no manifest of a store of teacher outputs")
        if content.get("version") != VERSION:
            raise FileError(
                f"{path}: version is {content.get('version')!r}, and this limbeck reads {VERSION}",
                cure="update limbeck, or build the store again",
            )
        digest = content.pop("sha256", None)
        if text != _text(content) or digest != _digest(content):
            raise FileError(f"{path} is damaged: it is not as it was written", cure="build the store again")
        return cls(
            Layout.from_dict(content["record"]),
            content["samples"],
            content["views"],
            content["records_per_shard"],
            tuple(content["shards"]),
            content["identity"],
            content["said"],
            content["certificate"],
            content["built"],
        )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    whole = {**content, "sha256": _digest(content)}
    return json.dumps(whole, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _missing(folder: Path) -> FileError:
    if (folder / "begin.json").exists():
        return FileError(
            f"{folder} holds a store that is not finished", cure="run the command that began it again: it goes on"
        )
    return FileError(f"{folder / FILE} is missing: there is no store", cure="build one with limbeck store RECIPE")
