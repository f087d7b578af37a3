"""The examples run, and do what they say."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.sources.named import load

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, *words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """Two strips of four images; the table lists them in another order, one not at all."""
    rng = np.random.default_rng(0)
    lines = []
    for name in ("a.webp", "b.webp"):
        strip = rng.integers(0, 256, (4 * 16, 16, 3)).astype(np.uint8)
        Image.fromarray(strip).save(tmp_path / name, lossless=True)
        for row in range(4):
            split = "test" if name == "b.webp" and row < 2 else "train"
            label = row % 2
            lines.append([split, name, row, label, ("cat", "dog")[label]])
    rng.shuffle(lines)
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["split", "file", "row", "label", "class"], *lines[:-1]])
    return tmp_path


def test_strips_become_arrays_image_by_image(strips: Path) -> None:
    said = run("strips_to_npz.py", strips, strips / "out" / "set.npz")
    assert "x_train" in said
    with np.load(strips / "out" / "set.npz") as file:
        found = {key: file[key] for key in file.files}
    assert found["classes"].tolist() == ["cat", "dog"]
    with (strips / "labels.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    for split in ("train", "test"):
        rows = [line for line in lines if line["split"] == split]
        assert found[f"y_{split}"].tolist() == [int(line["label"]) for line in rows]
        for image, line in zip(found[f"x_{split}"], rows, strict=True):
            at = 16 * int(line["row"])
            with Image.open(strips / line["file"]) as strip:
                assert np.array_equal(image, np.asarray(strip.convert("RGB"))[at : at + 16])


def test_what_it_writes_is_read_by_the_source_arrays(tmp_path: Path) -> None:
    strip = np.random.default_rng(0).integers(0, 256, (60 * 8, 8, 3)).astype(np.uint8)
    Image.fromarray(strip).save(tmp_path / "a.webp", lossless=True)
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        rows = [("train" if at < 40 else "test", "a.webp", at, at % 2, "ab"[at % 2]) for at in range(60)]
        csv.writer(stream).writerows([("split", "file", "row", "label", "class"), *rows])
    run("strips_to_npz.py", tmp_path, tmp_path / "set.npz")
    data = load("arrays", path=tmp_path / "set.npz", validation=8)
    assert data.classes == ("a", "b")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "validation": 8, "test": 20}
    assert np.array_equal(data.test.inputs.permute(0, 2, 3, 1).numpy(), strip[320:].reshape(20, 8, 8, 3))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["train", "a.webp", 4, 0, "cat"], "a.webp has no row 4"),
        (["train", "a.webp", 0, 1, "cat"], "elsewhere"),
        (["train", "a.webp", 0, 7, "cow"], "expected 0 to 2"),
    ],
)
def test_a_mistake_in_the_table_of_strips_is_named(strips: Path, line: list[str], message: str) -> None:
    with (strips / "labels.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow(line)
    assert message in run("strips_to_npz.py", strips, strips / "set.npz")
    assert not (strips / "set.npz").exists()


def test_a_table_is_thinned_by_whole_groups(tmp_path: Path) -> None:
    lines = [(f"{at}.png", ("ill", "well")[at % 2], "train" if at < 48 else "test", f"p{at // 4}") for at in range(60)]
    with (tmp_path / "all.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "class", "split", "patient"), *lines])
    where = ("--where", "split=train", "--where", "class=ill", "--group", "patient", "--keep", "3")
    said = run("thin_table.py", tmp_path / "all.csv", tmp_path / "thin.csv", *where)
    with (tmp_path / "thin.csv").open(newline="") as stream:
        left = [tuple(line.values()) for line in csv.DictReader(stream)]
    assert set(left) <= set(lines)
    ill = [line for line in left if line[1:3] == ("ill", "train")]
    assert len({line[3] for line in ill}) == 3
    assert len(ill) == 6
    assert [line for line in lines if line[1:3] != ("ill", "train")] == [
        line for line in left if line[1:3] != ("ill", "train")
    ]
    assert said.startswith("42 of 60 rows")
    assert "12 groups match" in run("thin_table.py", tmp_path / "all.csv", tmp_path / "no.csv", *where[:-1], "12")
