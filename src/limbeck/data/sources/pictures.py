"""Pictures in files as data: listed, looked at once, fitted to one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from limbeck.data.about import About
from limbeck.data.images import ImageSplit
from limbeck.data.pictures import Frame
from limbeck.data.sources.folder import read_folder
from limbeck.data.sources.listing import Listing, Row
from limbeck.data.sources.scan import Scan, scan
from limbeck.data.sources.table import read_table
from limbeck.errors import DataError, RecipeError

_SHOWN = 20  # class names in a note
_HELD = 2 << 30  # bytes of decoded pictures that are held in memory without being asked for


@dataclass(frozen=True)
class Images:
    """Where pictures lie and what becomes of them.

    Args:
        root: the folder.
        size: of the inputs: a side, or (height, width).
        fit: ``crop`` (the middle, its short side fitted) or ``whole`` (squeezed).
        channels: 1, 3 or 4.
        table: of ``image_csv``.
        columns: names of its columns ``file``, ``label``, ``split``.
        group: a column whose groups stay in one split.
        slices: columns by which metrics are also told apart.
        splits: by split, the folder or the word that stands for it.
        skip: largest share of undecodable pictures that is left out.
        cache: hold decoded pictures in memory; ``auto``: up to 2 GiB.
        workers: threads that look at the pictures; 0: one a core, at most 8.
    """

    root: str | Path | None
    size: int | Sequence[int] | None = None
    fit: str = "crop"
    channels: int = 3
    table: str | Path | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    group: str | None = None
    slices: Sequence[str] = ()
    splits: Mapping[str, str | None] = field(default_factory=dict)
    skip: float = 0.001
    cache: str | bool = "auto"
    workers: int = 0

    @property
    def frame(self) -> Frame:
        """Size and channels of the inputs."""
        if self.size is None:
            raise RecipeError("a source of pictures needs data.size", cure="size: 224, or size: [HEIGHT, WIDTH]")
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return Frame((height, width), self.fit, self.channels)


def load_images(images: Images, *, table: bool = False) -> dict[str, Any]:
    """The parts of :class:`limbeck.data.data.Data`: splits by name, classes, and ``notes``.

    Raises:
        DataError: see :func:`read_folder`, :func:`read_table` and :func:`scan`.
    """
    frame, splits = images.frame, {split: word for split, word in images.splits.items() if word}
    if images.root is None:
        raise RecipeError("a source of pictures needs data.root", cure="root: FOLDER")
    root = Path(images.root)
    if table:
        if images.table is None:
            raise RecipeError("data.source 'image_csv' needs data.table", cure="table: FILE.csv")
        columns = {name: column for name, column in images.columns.items() if column}
        listing = read_table(
            root, images.table, columns=columns, group=images.group, slices=images.slices, splits=splits
        )
    else:
        listing = read_folder(root, splits)
    files = [row.file for rows in listing.rows.values() for row in rows]
    needed = len(files) * frame.channels * frame.size[0] * frame.size[1]
    keep = needed <= _HELD if images.cache == "auto" else bool(images.cache)
    seen = scan(root, files, frame, skip=images.skip, keep=keep, workers=images.workers)
    parts = dict(_splits(root, listing, seen, frame))
    more = ", …" if len(listing.classes) > _SHOWN else ""
    order = f"{len(listing.classes)} classes, in this order: {', '.join(listing.classes[:_SHOWN])}{more}"
    return {**parts, "classes": listing.classes, "notes": [order, *listing.notes, *seen.notes()]}


def _splits(root: Path, listing: Listing, seen: Scan, frame: Frame) -> list[tuple[str, ImageSplit]]:
    found, start = [], 0
    for name, rows in listing.rows.items():
        kept = [at for at in range(start, start + len(rows)) if seen.contents[at] is not None]
        good = [rows[at - start] for at in kept]
        if not good:
            raise DataError(f"of split '{name}' no picture can be read", cure="restore them")
        split = ImageSplit(
            root,
            [row.file for row in good],
            [row.label for row in good],
            listing.classes,
            name,
            frame=frame,
            contents=[digest for at in kept if (digest := seen.contents[at]) is not None],
            pixels=_pixels(seen, start, len(rows), kept),
            about=_about(good, listing.columns),
        )
        found.append((name, split))
        start += len(rows)
    return found


def _pixels(seen: Scan, start: int, size: int, kept: list[int]) -> torch.Tensor | None:
    if seen.pixels is None:
        return None
    part = seen.pixels[start : start + size]
    return part if len(kept) == size else part[torch.tensor(kept) - start]


def _about(rows: list[Row], columns: tuple[str, ...]) -> About:
    groups = tuple(row.group for row in rows if row.group is not None)
    slices = {column: tuple(row.slices[at] for row in rows) for at, column in enumerate(columns)}
    return About(groups=groups or None, slices=slices)
