"""The manifest: what is written is read; what can not be true is refused by the name of its field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.store.written import rewrite, write_store

from limbeck.errors import FileError
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.store.store import Store

Content = dict[str, Any]


def put(path: str, value: Any) -> Callable[[Content], None]:
    """An edit: a value under a path such as ``shards.3.records``."""

    def edit(content: Content) -> None:
        *where, last = path.split(".")
        inner: Any = content
        for part in where:
            inner = inner[int(part)] if isinstance(inner, list) else inner[part]
        inner[int(last) if isinstance(inner, list) else last] = value

    edit.__name__ = f"{path}={str(value)[:30]}"
    return edit


def drop(name: str) -> Callable[[Content], None]:
    def edit(content: Content) -> None:
        del content[name]

    edit.__name__ = f"without {name}"
    return edit


def top(path: str, value: Any) -> Callable[[Content], None]:
    """An edit of a manifest whose records hold the two largest of five logits."""

    def edit(content: Content) -> None:
        content["record"].update(kind="top", top=2, temperatures=[4.0])
        put(path, value)(content)

    edit.__name__ = f"top {path}={str(value)[:30]}"
    return edit


WRONG: list[tuple[Callable[[Content], None], str]] = [
    (drop("samples"), "samples is missing, expected a whole number of at least 1"),
    (drop("record"), "record is missing, expected an object"),
    (drop("said"), "said is missing"),
    (put("record", [1]), "record is [1], expected an object"),
    (put("record.kind", "sparse"), 'record.kind is "sparse", expected dense or top'),
    (put("record.kind", "top"), "record.top is 0, expected 1 to 4"),
    (put("record.classes", 0), "record.classes is 0, expected a whole number, 1 to"),
    (put("record.classes", "5"), 'record.classes is "5", expected a whole number'),
    (put("record.classes", True), "record.classes is true, expected a whole number"),
    (put("record.classes", 5.0), "record.classes is 5.0, expected a whole number"),
    (put("record.classes", 2**33), "record.classes is 8589934592, expected a whole number, 1 to 4294967296"),
    (put("record.classes", 2**32), "a record of 1 x 4294967296 logits and its features is above 2 GiB"),
    (put("record.classes", 6), "record.bytes is 14, expected 16, which such a record has"),
    (put("record.members", -1), "record.members is -1, expected a whole number of at least 1"),
    (put("record.members", 2), "record: a store of 2 members has 0 weights, expected one each"),
    (put("record.weights", [0.5, 0.5]), "record: a store of 1 members has 2 weights"),
    (put("record.weights", ["1"]), 'record.weights[0] is "1", expected a list of numbers'),
    (put("record.weights", [0.7]), "weights of an ensemble's members are (0.7,), expected them to add up to 1"),
    (put("record.weights", {}), "record.weights is {}, expected a list of numbers"),
    (put("record.top", 3), "record.top is 3, expected 0 to 0"),
    (put("record.temperatures", [4]), "record.temperatures is [4], expected none, where all logits are kept"),
    (top("record.top", 5), "record.top is 5, expected 1 to 4"),
    (top("record.temperatures", []), "record: the largest logits alone do not say how much the other classes weigh"),
    (top("record.temperatures", [0]), "record.temperatures[0] is 0, expected a list of positive numbers"),
    (top("record.temperatures", [4, 4.0]), "are (4.0, 4.0), expected positive numbers, each once"),
    (put("record.features", [["a", 0]]), 'record.features[0] is ["a", 0], expected a list of [layer, length]'),
    (put("record.features", [["", 2]]), "record.features[0] is"),
    (put("record.features", [["a", 1], ["a", 1]]), "expected each layer once"),
    (put("record.bytes", 24), "record.bytes is 24, expected 14"),
    (put("record.packing", "zstd"), "record.packing is not known to this limbeck"),
    (put("record.clases", 5), "record.clases is not known to this limbeck; did you mean 'classes'?"),
    (put("samples", 0), "samples is 0, expected a whole number of at least 1"),
    (put("samples", 2.5), "samples is 2.5"),
    (put("samples", None), "samples is null"),
    (put("samples", 2**63), "samples is 9223372036854775808"),
    (put("samples", 25), "shards[4].records is 8, expected 11"),
    (put("views", 2**60), "views is 1152921504606846976, expected a whole number of at least 1, of less than"),
    (put("views", 4), "shards are 5, expected 6: 96 records, 16 of each"),
    (put("views", "3"), 'views is "3"'),
    (put("records_per_shard", 0), "records_per_shard is 0, expected a whole number of at least 1"),
    (put("records_per_shard", 17), "shards[0].records is 16, expected 17"),
    (put("records_per_shard", 100), "shards are 5, expected 1: 72 records, 100 of each"),
    (put("shards", {}), "shards is {}, expected a list"),
    (put("shards", []), "shards are 0, expected 5"),
    (put("shards.3", "shard-00003.bin"), 'shards[3] is "shard-00003.bin", expected an object'),
    (put("shards.3.records", 15), "shards[3].records is 15, expected 16"),
    (put("shards.3.records", True), "shards[3].records is true, expected 16"),
    (put("shards.4.records", 16), "shards[4].records is 16, expected 8"),
    (put("shards.3.bytes", 225), "shards[3].bytes is 225, expected 224, of records of 14"),
    (put("shards.3.offset", 8), "shards[3].offset is not known to this limbeck"),
    (put("shards.3.sha256", "A" * 64), "expected 64 hexadecimal digits"),
    (put("shards.3.sha256", "0" * 63), "expected 64 hexadecimal digits"),
    (put("shards.3.sha256", 7), "shards[3].sha256 is 7"),
    (put("shards.3.file", "../shard-00003.bin"), 'shards[3].file is "../shard-00003.bin", expected the name of a file'),
    (put("shards.3.file", "/etc/passwd"), 'shards[3].file is "/etc/passwd", expected the name of a file'),
    (put("shards.3.file", "a\\b"), "expected the name of a file beside the manifest"),
    (put("shards.3.file", ".."), 'shards[3].file is "..", expected the name of a file'),
    (put("shards.3.file", ""), 'shards[3].file is "", expected the name of a file'),
    (put("shards.3.file", "a\0b"), "expected the name of a file beside the manifest"),
    (put("shards.3.file", "a.bin\n"), "expected the name of a file beside the manifest"),
    (put("shards.3.file", "x" * 129), "expected the name of a file beside the manifest"),
    (put("shards.3.file", "shard-00001.bin"), 'shards[3].file is "shard-00001.bin", expected a name that no other'),
    (put("shards.3.file", "SHARD-00001.bin"), "expected a name that no other file of the store has"),
    (put("shards.3.file", "manifest.json"), "expected a name that no other file of the store has"),
    (put("said.test.file", "shard-00001.bin"), "said.test.file is"),
    (put("said.test.file", "../test"), 'said.test.file is "../test", expected the name of a file'),
    (put("said.test", []), "said.test is [], expected an object"),
    (put("said.test.bytes", 0), "said.test.bytes is 0"),
    (put("said.test.split", 3), "said.test.split is 3, expected the fingerprint of the split"),
    (put("identity", "mine"), 'identity is "mine", expected an object'),
    (put("certificate", 1), "certificate is 1, expected an object"),
    (put("built", None), "built is null, expected an object"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(("edit", "text"), WRONG, ids=lambda one: getattr(one, "__name__", ""))
def test_refused_by_field(folder: Path, edit: Callable[[Content], None], text: str) -> None:
    rewrite(folder, lambda content: None)
    Store.open(folder, verify=False)  # the digest of what another tool wrote is right
    rewrite(folder, edit)
    with pytest.raises(FileError) as error:
        Store.open(folder, verify=False)
    assert text in error.value.what
    assert error.value.what.startswith(f"{folder / 'manifest.json'}: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["samples", "identity"])
def test_what_is_no_number(folder: Path, field: str, number: str) -> None:
    rewrite(folder, put(field, "HERE"))
    path = folder / "manifest.json"
    content = path.read_text()
    path.write_text(content.replace('"HERE"', number))
    with pytest.raises(FileError, match=rf"manifest.json is damaged: it is not JSON \({number} is "):
        Store.open(folder)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is damaged: it is not JSON"),
        (b"\xff\xfe", "is damaged: it is not JSON"),
        (b"[" * 100_000, "is damaged: it is not JSON"),
        (b'{"format": "limbeck-store", "format": "limbeck-store"}', "key 'format' stands twice"),
        (b'{"samples": ' + b"9" * 5000 + b"}", "is damaged: it is not JSON"),
        (b"[]", "is no manifest of a store of teacher outputs"),
        (b'{"format": "limbeck-checkpoint-1"}', "its format is not 'limbeck-store'"),
        (b'{"format": "limbeck-store"}', "is damaged: it is not as it was written, its sha256 is another"),
        (b'{"format": "limbeck-store", "version": 1, "sha256": ""}', "its sha256 is another"),
        (b'{"format": "limbeck-store", "version": 1, "sha256": 0}', "its sha256 is another"),
    ],
)
def test_what_is_no_manifest(folder: Path, data: bytes, text: str) -> None:
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(FileError) as error:
        Store.open(folder)
    assert text in error.value.what
    assert "manifest.json" in error.value.what


def test_of_a_newer_version(folder: Path) -> None:
    rewrite(folder, put("version", 2))
    with pytest.raises(FileError) as error:
        Store.open(folder)
    assert error.value.what == f"{folder / 'manifest.json'}: version is 2, and this limbeck reads 1"
    assert error.value.cure == "update limbeck, or build the store again"
    (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"samples": 24', '"samples":24')
    )
    with pytest.raises(FileError, match="reads 1; and its sha256 is not right"):
        Store.open(folder)


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.0, True])
def test_of_no_version(folder: Path, version: Any) -> None:
    rewrite(folder, put("version", version))
    with pytest.raises(FileError, match=r"version is .*, and this limbeck reads 1"):
        Store.open(folder)


def test_no_store(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere is missing: there is no store"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"shard-00000.bin is a file, and a store is a folder"):
        Store.open(folder / "shard-00000.bin")
    (folder / "manifest.json").unlink()
    with pytest.raises(FileError, match=r"manifest.json is missing: there is no store"):
        Store.open(folder)
    (folder / "begin.json").write_text("{}")
    with pytest.raises(FileError, match=r"store that is not finished: begin.json is there") as error:
        Store.open(folder)
    assert "goes on" in str(error.value.cure)
    (folder / "manifest.json").mkdir()
    with pytest.raises(FileError, match=r"manifest.json can not be read"):
        Store.open(folder)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    layout = Layout(70_000, top=3, temperatures=(4.0, 0.5), features={"Ünïcode\n": 3, "layer4": 2})
    facts = [{"file": f"s{n}.bin", "records": n, "bytes": n * layout.stride, "sha256": f"{n:064x}"} for n in (4, 2)]
    about = {"teacher": {"weights": "ab", "n": [1, 2.5, None, True, "é\u2028\ud800"]}}
    manifest = Manifest(
        layout,
        3,
        2,
        4,
        tuple(facts),
        about,
        {"test": {**facts[0], "file": "t", "split": "f"}},
        {"kl": 1e-7},
        {"on": "x"},
    )
    path = manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert path.read_bytes().isascii()
    before = path.read_bytes()
    Manifest.read(tmp_path).write(tmp_path)
    assert path.read_bytes() == before


def test_the_digest_is_that_of_the_text_with_zeros_in_its_place(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    digest = json.loads(text)["sha256"]
    start = text.index(digest)
    assert hashlib.sha256((text[:start] + "0" * 64 + text[start + 64 :]).encode()).hexdigest() == digest


def test_keys_that_say_more_are_kept(folder: Path) -> None:
    """A later limbeck may say more beside what version 1 says, and this one writes it again."""

    def edit(content: Content) -> None:
        content.update(license="CC0", layout={"new": [1]}, more=2)
        content["said"]["test"]["shape"] = [7, 5]
        content["built"]["by"] = "a later one"

    rewrite(folder, edit)
    Store.open(folder)
    replace(Manifest.read(folder), certificate={"kl": 0.5}).write(folder)
    found = json.loads((folder / "manifest.json").read_text())
    assert (found["license"], found["layout"], found["more"]) == ("CC0", {"new": [1]}, 2)
    assert found["certificate"] == {"kl": 0.5}
    assert found["said"]["test"]["shape"] == [7, 5]
    Store.open(folder)


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    manifest = Manifest(Layout(2), 1, 1, 1, certificate={"kl": float("nan")})
    with pytest.raises(FileError, match=r"manifest.json can not be written: a number in it is NaN or infinite"):
        manifest.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_leads_elsewhere_is_never_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes((folder / "shard-00003.bin").read_bytes())
    rewrite(folder, put("shards.3.file", "../secret.bin"))
    opened: list[str] = []
    look = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **options: opened.append(self.name) or look(self, **options))
    with pytest.raises(FileError, match="expected the name of a file beside the manifest"):
        Store.open(folder)
    assert "secret.bin" not in opened


def test_the_seed_of_the_views_is_needed(folder: Path) -> None:
    assert Store.open(folder).replay.views == 3
    rewrite(folder, put("identity.views.seed", "0"))
    with pytest.raises(FileError, match=r'manifest.json: identity.views.seed is "0", expected a whole number'):
        Store.open(folder).replay  # noqa: B018
