"""Turn CIFAR kept as strips into one ``.npz`` file that limbeck's source ``arrays`` reads.

    python examples/strips_to_npz.py FOLDER OUT.npz

A strip is one tall picture of many square images, one below another; strips are lossless, so the pixels are exact.
FOLDER holds them and ``labels.csv`` with the columns ``split`` (train or test), ``file``, ``row`` (from 0, of the image
in its strip), ``label`` (a number from 0) and ``class`` (its name). Each image is taken from the file and row that its
line names, never by order. The layout is a packaging of its own, which is why this is an example and no source.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image


def read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of ``OUT.npz``: bytes ``[N, side, side, 3]`` and labels of each split, and the class names."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_file: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_file[row["file"]].append(number)
    images: list[np.ndarray | None] = [None] * len(rows)
    for name, numbers in sorted(by_file.items()):
        strip = np.asarray(Image.open(folder / name).convert("RGB"))
        side = strip.shape[1]
        if strip.shape[0] % side:
            sys.exit(f"{folder / name} is {strip.shape[1]}×{strip.shape[0]}: no whole number of square images")
        for number in numbers:
            at = int(rows[number]["row"])
            if not 0 <= at < strip.shape[0] // side:
                sys.exit(f"labels.csv line {number + 2}: {name} has no row {at}")
            images[number] = strip[at * side : (at + 1) * side]
    names: dict[int, str] = {}
    for number, row in enumerate(rows):
        if names.setdefault(int(row["label"]), row["class"]) != row["class"]:
            sys.exit(f"labels.csv line {number + 2}: label {row['label']} is {names[int(row['label'])]} elsewhere")
    if sorted(names) != list(range(len(names))):
        sys.exit(f"labels.csv has the labels {sorted(names)}, expected 0 to {len(names) - 1}")
    found = {"classes": np.array([names[label] for label in sorted(names)])}
    for split in ("train", "test"):
        chosen = [number for number, row in enumerate(rows) if row["split"] == split]
        found[f"x_{split}"] = np.stack([images[number] for number in chosen])
        found[f"y_{split}"] = np.array([int(rows[number]["label"]) for number in chosen], dtype=np.int64)
    return found


def main() -> None:
    """Read a folder of strips, write the file, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    arrays = read(given.folder)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.out, **arrays)
    print(", ".join(f"{key} {value.shape}" for key, value in arrays.items()))


if __name__ == "__main__":
    main()
