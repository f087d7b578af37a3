"""A reader of stores written from docs/store_format.md alone; imports nothing of limbeck."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

MASK = 2**64 - 1


def mix(s: int) -> int:
    s = (s + 0x9E3779B97F4A7C15) & MASK
    s = ((s ^ (s >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    s = ((s ^ (s >> 27)) * 0x94D049BB133111EB) & MASK
    return s ^ (s >> 31)


def key(i: int) -> int:
    return mix(mix(0x6C696D6265636B) ^ i)


def checksum(numbers: list[float]) -> int:
    """Of the pixels of one sample."""
    x = struct.unpack(f"<{len(numbers)}I", struct.pack(f"<{len(numbers)}f", *numbers))
    return ((key(0) + sum(key(i) * one for i, one in enumerate(x, start=1))) & MASK) >> 32


def unpack(layout: dict[str, Any], data: bytes) -> dict[str, tuple[float, ...]]:
    """The fields of a record."""
    fields = [("pixels", 1, "I")]
    if layout["kind"] == "top":
        fields.append(("ids", layout["top"], "H" if layout["classes"] <= 65_536 else "I"))
        fields.append(("logits", layout["top"], "e"))
        fields.append(("rest", len(layout["temperatures"]), "e"))
    else:
        fields.append(("logits", layout["members"] * layout["classes"], "e"))
    fields += [(f"feature{number}", size, "e") for number, (_, size) in enumerate(layout["features"])]
    values = iter(struct.unpack("<" + "".join(f"{count}{kind}" for _, count, kind in fields), data))
    return {name: tuple(next(values) for _ in range(count)) for name, count, _ in fields}


def softmax(z: list[float]) -> list[float]:
    weights = [math.exp(one - max(z)) for one in z]
    return [one / sum(weights) for one in weights]


class Reader:
    """A finished store, every byte of it checked."""

    def __init__(self, folder: Path) -> None:
        data = (folder / "manifest.json").read_bytes()
        self.folder, self.manifest = folder, json.loads(data)
        digest = self.manifest["sha256"]
        assert hashlib.sha256(data.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
        assert (self.manifest["format"], self.manifest["version"]) == ("limbeck-store", 1)
        self.layout = self.manifest["record"]
        for one in [*self.manifest["shards"], *self.manifest["said"].values()]:
            data = (folder / one["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])

    def record(self, view: int, sample: int) -> dict[str, tuple[float, ...]]:
        """What is kept of a view."""
        shard, place = divmod(view * self.manifest["samples"] + sample, self.manifest["records_per_shard"])
        size = self.layout["bytes"]
        with open(self.folder / self.manifest["shards"][shard]["file"], "rb") as file:
            file.seek(place * size)
            return unpack(self.layout, file.read(size))

    def probabilities(self, view: int, sample: int, t: float) -> dict[int, float]:
        """Of the classes that are known, softened at a temperature; all others together are class -1."""
        found, classes = self.record(view, sample), self.layout["classes"]
        if self.layout["kind"] == "top":
            rest = found["rest"][self.layout["temperatures"].index(t)]
            weights = [math.exp((one - found["logits"][0]) / t) for one in found["logits"]]
            whole = sum(weights) + math.exp(rest)
            known = {int(one): weight / whole for one, weight in zip(found["ids"], weights, strict=True)}
            return {**known, -1: 1 - sum(known.values())}
        members = [found["logits"][at : at + classes] for at in range(0, len(found["logits"]), classes)]
        said = [softmax([one / t for one in member]) for member in members]
        weights = self.layout["weights"] or [1.0]
        return {c: sum(w * one[c] for w, one in zip(weights, said, strict=True)) for c in range(classes)}
