"""docs/store_format.md is true: its tables and examples are what is written, a reader made from it alone reads it."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.store import second_reader
from tests.store.second_reader import Reader, checksum, key, unpack
from tests.store.written import said, write_store

import limbeck
from limbeck.data.replay import pixel_checksum
from limbeck.outputs import Outputs
from limbeck.store.codec import encode
from limbeck.store.fields import PLAIN
from limbeck.store.filling import Filling, per_shard
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.store.store import Store

PAGE = Path(limbeck.__file__).parents[2] / "docs" / "store_format.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
BLOCKS = dict(re.findall(r"^```((?:hex|file) [^\n]+)\n(.*?)^```", TEXT, re.S | re.M))
LAYOUTS = {
    "dense": Layout(5),
    "ensemble": Layout(5, 3, (0.25, 0.5, 0.25), features={"b": 2, "a": 3}),
    "top": Layout(90, top=4, temperatures=(4.0, 1.0), features={"a": 3}),
    "wide": Layout(70_000, top=3, temperatures=(2.0,)),
}


def table(after: str, text: str = TEXT) -> list[list[str]]:
    """The rows of the first table after a piece of text, without its head; code marks taken off."""
    lines = iter(text[text.index(after) + len(after) :].splitlines())
    rows: list[list[str]] = []
    for line in lines:
        if line.strip().startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip().strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


def in_hex(data: str) -> bytes:
    """The bytes of a block, whose lines may have words after two spaces."""
    return bytes.fromhex("".join(line.split("   ")[0] for line in data.splitlines()))


def test_the_second_reader_knows_nothing_of_limbeck() -> None:
    tree = ast.parse(Path(second_reader.__file__).read_text(encoding="utf-8"))
    names = {one.module or "" for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    names |= {alias.name for one in ast.walk(tree) if isinstance(one, ast.Import) for alias in one.names}
    assert names == {"__future__", "hashlib", "json", "math", "struct", "pathlib", "typing"}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_second_reader_reads_what_is_written(tmp_path: Path, kind: str) -> None:
    layout, samples, views = LAYOUTS[kind], 24, 3
    written = write_store(tmp_path, layout)
    outputs = said(layout, samples * views)
    reader = Reader(tmp_path)
    for view, sample in ((0, 0), (0, 23), (1, 0), (2, 22), (2, 23)):
        at = view * samples + sample
        found = reader.record(view, sample)
        for name in layout.dtype.names or ():
            assert found[name] == tuple(np.ravel(written[name][at]).tolist())
        for t in layout.temperatures or (1.0, 4.0):
            p = torch.softmax(outputs.logits_at(t)[at].double() / t, dim=0)
            got = reader.probabilities(view, sample, t)
            rest = got.pop(-1, None)
            assert got == pytest.approx({one: p[one].item() for one in got}, abs=3e-3)
            if rest is not None:
                assert rest == pytest.approx(1 - sum(p[one].item() for one in got), abs=3e-3)


def test_the_second_reader_reads_what_is_built(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 4, 4), torch.arange(60) % 3
    teacher = limbeck.models.MLP((1, 4, 4), 3).eval()
    limbeck.Store.build(
        teacher, limbeck.Data((x, y)), tmp_path / "s", views=1, quiet=True, precision="fp32", device="cpu"
    )
    reader, data = Reader(tmp_path / "s"), limbeck.Data((x, y)).train
    assert set(reader.manifest["said"]) == {"validation", "test"}
    for sample in range(0, len(data), 7):
        inputs = data.fetch(torch.tensor([sample]))[0]
        assert reader.record(0, sample)["pixels"] == (checksum(inputs.flatten().tolist()),)
        with torch.no_grad():
            live = teacher(inputs)[0].tolist()
        assert reader.record(0, sample)["logits"] == pytest.approx(live, abs=1e-3)
    assert not [one for one in (tmp_path / "s").iterdir() if not PLAIN.fullmatch(one.name)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_offsets(layout: Layout) -> None:
    sizes = {
        "C": layout.classes, "M": layout.members, "K": layout.top, "t": len(layout.temperatures),
        "w": 2 if layout.classes <= 65_536 else 4,
    }  # fmt: skip
    rows = table("(`kind` is `top`)" if layout.top else "(`kind` is `dense`)")
    fields, end = layout.dtype.fields, 0
    assert fields is not None
    for name, offset, length, count, kind in rows:
        found, at = fields[name][:2]
        assert (eval(offset, sizes), eval(length, sizes)) == (at, found.itemsize)  # noqa: S307
        assert math.prod(found.shape or (1,)) == eval(count, sizes)  # noqa: S307
        assert found.base.str[1:] in re.findall(r"[uf]\d", kind)
        assert found.base.str[0] == "<"
        end = at + found.itemsize
    names = [row[0] for row in rows] + [f"feature{number}" for number in range(len(layout.features))]
    assert names == list(layout.dtype.names or ())
    for name, length in zip(names[len(rows) :], layout.features.values(), strict=True):
        assert fields[name] == (np.dtype(("<f2", (length,))), end)
        end += 2 * length
    assert end == layout.stride
    assert ("dense", "top")[layout.top > 0] == layout.to_dict()["kind"]


EXAMPLES: dict[str, tuple[Layout, Outputs, int]] = {
    "hex dense C=2": (Layout(2), Outputs(torch.tensor([[1.5, -2.0]])), checksum([0.0, 1.0])),
    "hex ensemble C=3 M=2 features=2": (
        Layout(3, 2, (0.5, 0.5), features={"layer": 2}),
        Outputs(torch.zeros(1, 3), {"layer": torch.tensor([[0.125, 2.0]])},
                torch.tensor([[[1.5, -2.0, 0.25]], [[0.5, 1.0, -1.0]]]), torch.tensor([0.5, 0.5])),
        0x01020304,
    ),
    "hex top C=5 K=2 t=2": (
        Layout(5, top=2, temperatures=(4.0, 1.0)), Outputs(torch.tensor([[0.5, 3.0, -1.0, 1.25, 0.0]])), 0x01020304
    ),
}  # fmt: skip


def test_every_example_is_looked_at() -> None:
    files = {"file shard-00000.bin", "file shard-00001.bin", "file manifest.json"}
    assert set(BLOCKS) == {*EXAMPLES, *files}


@pytest.mark.parametrize("name", EXAMPLES)
def test_records_in_hex(name: str) -> None:
    layout, outputs, pixels = EXAMPLES[name]
    written = encode(layout, outputs, torch.tensor([pixels])).tobytes()
    assert in_hex(BLOCKS[name]) == written
    fields: dict[str, list[str]] = {}
    for line in BLOCKS[name].splitlines():
        field, *values = re.split(r"\s{2,}", line)[1:2] + line.split("  ")[-1].split()
        fields.setdefault(field, []).extend(values)
    found = unpack(layout.to_dict(), written)
    assert {name: tuple(float(int(one, 16)) if "x" in one else float(one) for one in values)
            for name, values in fields.items()} == found  # fmt: skip


def test_keys_and_checksums() -> None:
    rows = table("agree with a chance of about 2^-32")
    assert rows
    for i, value in rows:
        assert key(int(i)) == int(value, 16)
    text = TEXT[TEXT.index("| `2` | `0x0a1349") :]
    rows = table("\n\n", text)
    assert len(rows) == 5
    for numbers, value in rows:
        vector = [float(one) for one in numbers.split()]
        assert checksum(vector) == int(value, 16) == pixel_checksum(torch.tensor([vector])).item()


def test_checksums_of_pictures() -> None:
    pictures = torch.rand(3, 3, 5, 4)
    assert pixel_checksum(pictures).tolist() == [checksum(one.flatten().tolist()) for one in pictures]


@pytest.mark.parametrize(
    ("heading", "where"),
    [("## manifest.json", ""), ("`record`:", "record"), ("An object of `shards`:", "shards"),
     ("An object of `said`:", "said")],
)  # fmt: skip
def test_keys_of_the_manifest(tmp_path: Path, heading: str, where: str) -> None:
    kinds: dict[str, Any] = {
        "text": lambda one: isinstance(one, str),
        "whole": lambda one: type(one) is int and 0 <= one < 2**63,
        "object": lambda one: isinstance(one, dict),
        "list": lambda one: isinstance(one, list),
        "digest": lambda one: re.fullmatch("[0-9a-f]{64}", one),
        "name": lambda one: re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", one),
    }
    for kind, layout in LAYOUTS.items():
        write_store(tmp_path / kind, layout)
        content = json.loads((tmp_path / kind / "manifest.json").read_text(encoding="utf-8"))
        inner = content[where] if where else content
        listed = inner if where == "shards" else list(inner.values()) if where == "said" else [inner]
        assert listed
        for one in listed:
            rows = table(heading)
            assert sorted(one) == sorted(row[0] for row in rows)
            for name, type_, _ in rows:
                assert kinds[type_](one[name]), name
    assert [table("## manifest.json")[place][2].strip("`") for place in (0, 1)] == ["limbeck-store", "1"]


def test_the_whole_store(tmp_path: Path) -> None:
    for name in ("shard-00000.bin", "shard-00001.bin"):
        (tmp_path / name).write_bytes(in_hex(BLOCKS[f"file {name}"]))
    (tmp_path / "manifest.json").write_text(BLOCKS["file manifest.json"])
    store, reader = Store.open(tmp_path), Reader(tmp_path)
    rows = table("The pixels of the views are")
    assert len(rows) == 4
    written = []
    for view, sample, numbers, logits in rows:
        vector, z = ([float(one) for one in cell.split()] for cell in (numbers, logits))
        found = store(torch.tensor([vector]), torch.tensor([int(view) * 2 + int(sample)]))
        assert found.logits.tolist() == [z]
        assert reader.record(int(view), int(sample)) == {"pixels": (checksum(vector),), "logits": tuple(z)}
        written.append(encode(Layout(2), Outputs(torch.tensor([z])), torch.tensor([checksum(vector)])).tobytes())
    assert b"".join(written) == b"".join(in_hex(BLOCKS[f"file shard-0000{n}.bin"]) for n in (0, 1))
    Manifest.read(tmp_path).write(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == BLOCKS["file manifest.json"]


@pytest.mark.parametrize("records", [1, 65_536, 65_537, 10**6, 10**12])
def test_how_many_records_a_shard_has(records: int) -> None:
    assert "`ceil(V · N / 64)` records in each, but at least 1,024 and at most 2^24" in " ".join(TEXT.split())
    assert per_shard(records) == min(max(math.ceil(records / 64), 1024), 2**24)


def test_a_store_that_is_being_made(tmp_path: Path) -> None:
    layout, count = Layout(2), 1024 + 30
    identity = {"views": {"seed": 0}, "a": ["é", 1.5]}
    filling = Filling(tmp_path, layout, count, 1, identity)
    there = {0: [3, 4, 9], 1: [0, 29]}
    records = encode(layout, said(layout, count), torch.arange(count))
    for known in ([3, 9], [4, 1024, 1053], []):
        addresses = np.array(known, dtype=np.int64)
        filling.put(addresses, records[addresses])
        filling.flush()
    begun = json.loads((tmp_path / "begin.json").read_text(encoding="utf-8"))
    assert begun == {"record": layout.to_dict(), "samples": count, "views": 1, "identity": identity}
    of_begin = hashlib.sha256(json.dumps(begun, sort_keys=True, separators=(", ", ": ")).encode()).digest()
    rows = {row[0]: row[1:3] for row in table("A note is")}
    for number, length, turn in ((0, 1024, 2), (1, 30, 1)):
        data = (tmp_path / f"shard-{number:05d}.bin").read_bytes()
        assert len(data) == 8 * length
        note = (tmp_path / f"shard-{number:05d}.known").read_bytes()
        half = 40 + math.ceil(length / 8)
        assert len(note) == 2 * half
        note = note[half:] if turn % 2 else note[:half]
        sizes = {"n": length, "ceil": math.ceil}
        found = {name: (int(at), eval(size, sizes)) for name, (at, size) in rows.items()}  # noqa: S307
        assert found == {"turn": (0, 8), "sha256": (8, 32), "bits": (40, half - 40)}
        assert struct.unpack("<Q", note[:8]) == (turn,)
        known = [place for place in range(length) if note[40 + place // 8] & 128 >> place % 8]
        assert known == there[number]
        digest = hashlib.sha256(of_begin + struct.pack("<Q", number) + note[:8] + note[40:])
        digest.update(b"".join(data[8 * place : 8 * place + 8] for place in known))
        assert note[8:40] == digest.digest()
        others = [place for place in range(length) if place not in known]
        assert not any(any(data[8 * place : 8 * place + 8]) for place in others)
    assert (tmp_path / ".lock").exists()
    filling.close()
