"""A folder and a table: paired by name, and every fault named with its line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.painting import paint

from limbeck.data.sources.named import load
from limbeck.data.sources.table import read_table
from limbeck.errors import DataError, RecipeError

Lines = list[dict[str, str]]


def table(root: Path, count: int = 24) -> Lines:
    """``root/N.png``: a picture of its own number in every pixel; label cat for even numbers, groups of three."""
    lines = []
    for at in range(count):
        Image.new("RGB", (8, 8), (at, at, at)).save(root / f"{at}.png")
        split = ("train", "train", "val", "test")[at // 3 % 4]
        group = f"tile {at // 3}"
        lines.append({"file": f"{at}.png", "label": ("cat", "dog")[at % 2], "split": split, "group": group, "hue": "x"})
    return lines


def write(root: Path, lines: Lines, encoding: str = "utf-8", end: str = "\n") -> Path:
    path = root / "table.csv"
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator=end)
        writer.writeheader()
        writer.writerows(lines)
    return path


def read(root: Path, **options: Any) -> Any:
    return load("image_csv", root=root, table=root / "table.csv", size=8, **options)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_made_by_name_whatever_the_order_of_rows_or_files(tmp_path: Path, seed: int) -> None:
    lines = table(tmp_path)
    np.random.default_rng(seed).shuffle(lines)
    write(tmp_path, lines)
    data = read(tmp_path, slices=["hue"], group="group")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "validation": 6, "test": 6}
    assert data.classes == ("cat", "dog")
    for name, split in data.splits.items():
        inputs, targets = split.fetch(torch.arange(len(split)))
        numbers = (inputs[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(targets, numbers % 2)  # the label belongs to what the picture shows
        assert split.names == tuple(f"{number}.png" for number in numbers)
        assert split.groups == tuple(f"tile {number // 3}" for number in numbers)
        assert split.slices == {"hue": ("x",) * len(split)}
        assert {("train", "train", "validation", "test")[number // 3 % 4] for number in numbers} == {name}


def test_a_spreadsheets_habits_are_understood(tmp_path: Path) -> None:
    lines = table(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / 'with, "comma".png')
    lines.append({**lines[0], "file": 'with, "comma".png'})
    path = write(tmp_path, lines, encoding="utf-8-sig", end="\r\n")
    path.write_bytes(path.read_bytes() + b"\r\n")  # an empty line at the end
    assert 'with, "comma".png' in (read(tmp_path).train.names or ())


def test_columns_have_any_names_and_split_words_too(tmp_path: Path) -> None:
    names = {"file": "path", "label": "class", "split": "fold", "group": "patient", "hue": "hue"}
    lines = [{names[key]: value for key, value in line.items()} for line in table(tmp_path)]
    for line in lines:
        line["fold"] = {"train": "A", "val": "B", "test": "C"}[line["fold"]]
    write(tmp_path, lines)
    columns = {"file": "path", "label": "class", "split": "fold"}
    data = read(tmp_path, columns=columns, splits={"train": "A", "validation": "b", "test": "C"})
    assert [len(split) for split in data.splits.values()] == [12, 6, 6]
    with pytest.raises(DataError, match="a word that is no split in 6 rows: line 8"):
        read(tmp_path, columns=columns, splits={"train": "A", "test": "C"})
    with pytest.raises(DataError, match="no column 'file'"):
        read(tmp_path)


def test_without_a_split_column_whole_groups_are_divided(tmp_path: Path) -> None:
    write(tmp_path, [{key: value for key, value in line.items() if key != "split"} for line in table(tmp_path, 60)])
    data = read(tmp_path, group="group", validation=0.2, test=0.3)
    homes = [set(split.groups or ()) for split in data.splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 20
    assert [len(split) for split in data.splits.values()] == [33, 9, 18]
    assert any("whole groups" in note for note in data.notes)


def test_numbers_are_class_numbers(tmp_path: Path) -> None:
    lines = table(tmp_path)
    for at, line in enumerate(lines):
        line["label"] = str((at * 7) % 12)
    write(tmp_path, lines)
    listing = read_table(tmp_path, tmp_path / "table.csv")
    assert listing.classes == tuple(map(str, range(12)))  # 10 after 9, not after 1
    assert {row.file: row.label for rows in listing.rows.values() for row in rows} == {
        f"{at}.png": at * 7 % 12 for at in range(24)
    }


def test_a_file_without_a_row_is_reported(tmp_path: Path) -> None:
    lines = table(tmp_path)
    paint(tmp_path / "deep" / "extra.png")
    (tmp_path / "notes.txt").touch()
    write(tmp_path, lines)
    data = read(tmp_path)
    assert "used for nothing: pictures without a row in table.csv; 1 in all, the first: deep/extra.png" in data.notes
    assert sum(map(len, data.splits.values())) == 24


def edit(at: int, **cells: str) -> Any:
    return lambda lines: lines[at].update(cells)


FAULTS = {
    "row without a file": (edit(3, file="gone.png"), r"not under .* in 1 rows: line 5 \(gone\.png\)"),
    "file twice": (edit(3, file="./1.png"), r"has a row already in 1 rows: line 5 \(1\.png, as line 3\)"),
    "outside": (edit(3, file="../../etc/passwd"), r"a file outside of .* line 5 \(\.\./\.\./etc/passwd\)"),
    "absolute": (edit(3, file="/etc/passwd"), "a file outside of"),
    "hidden way out": (edit(3, file="a/../../b.png"), "a file outside of"),
    "no file": (edit(3, file=" "), "no file in 1 rows: line 5"),
    "no label": (edit(3, label=""), "no label in 1 rows: line 5"),
    "no split": (edit(3, split=""), "no split in 1 rows: line 5"),
    "no group": (edit(3, group=""), "no group in 1 rows: line 5"),
    "unknown split": (edit(3, split="trian"), r"no split in 1 rows: line 5 \('trian'; did you mean 'train'\?\)"),
    "group in two splits": (edit(3, group="tile 0", split="test"), "1 groups lie in two splits: 'tile 0' in train and"),
    "case": (edit(3, label="Cat"), "'Cat' and 'cat', which differ only in case"),
    "class missing": (edit(0, label="cow"), "split 'validation' has no sample of class cow"),
    "one class": (lambda lines: [line.update(label="cat") for line in lines], "fewer than two classes: cat"),
    "no train": (lambda lines: [line.update(split="val") for line in lines], "no row of the split train"),
    "below 0": (lambda lines: [line.update(label=str(at % 3 - 1)) for at, line in enumerate(lines)],
                r"a label below 0 in 8 rows: line 2 \(-1\), line 5"),
    "from 1": (lambda lines: [line.update(label=str(at % 2 + 1)) for at, line in enumerate(lines)], "none is 0"),
    "gap": (lambda lines: [line.update(label="9" if at == 3 else str(at % 2)) for at, line in enumerate(lines)],
            r"labels up to 9 \(line 5\), but none is 2"),
    "a column twice": (lambda lines: [line.update({"file ": "x"}) for line in lines], "two columns 'file'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_table_is_named_with_its_line(tmp_path: Path, fault: str) -> None:
    lines = table(tmp_path)
    change, message = FAULTS[fault]
    change(lines)
    write(tmp_path, lines)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, group="group")
    assert "table.csv" in str(caught.value) or fault == "class missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"file,label\n", "has no rows"),
        (b"file,label\n0.png,a,b\n", r"not the 2 cells of the first line in 1 rows: line 2 \(3 cells\)"),
        (b"file;label\n0.png;a\n", "no column 'file'"),
        (b"fiel,label\n0.png,a\n", "no column 'file'; did you mean 'fiel'"),
        (b'file,label\n"0.png,a\n', "can not be read as CSV"),
        (b"file,label\n\xff.png,a\n", "can not be read as CSV"),
        (b"file,label\n" + b"a" * 200_000 + b",a\n", "can not be read as CSV"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv is missing"):
        read(tmp_path)
    with pytest.raises(RecipeError, match=r"data\.table"):
        load("image_csv", root=tmp_path, size=8)
    with pytest.raises(DataError, match="is no folder"):
        load("image_csv", root=tmp_path / "nowhere", table="t.csv", size=8)
    write(tmp_path, table(tmp_path))
    with pytest.raises(DataError, match="no column 'patient'"):
        read(tmp_path, group="patient")
    with pytest.raises(DataError, match="no column 'scanner'"):
        read(tmp_path, slices=["scanner"])
    with pytest.raises(DataError, match="no column 'fold'"):
        read(tmp_path, columns={"split": "fold"})
