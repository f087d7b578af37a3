"""Pictures with masks, paired by name in nested folders, and divided."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.data.order import permutation
from limbeck.data.pictures import pictures_under, see
from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.data.sources.colors import ColorTable
from limbeck.data.sources.scan import telling
from limbeck.data.windows import Size, places
from limbeck.errors import DataError, RecipeError

_LISTED = 20
SPLIT_BY = ("image", "patch", "group")


@dataclass(frozen=True)
class Masked:
    """Where pictures and masks lie, and what becomes of them.

    Args:
        root: the folder.
        images, masks: names of the folders, at any depth, that hold the pictures and the masks.
        colors: see :meth:`ColorTable.of`.
        ignore: names in ``colors`` whose pixels have no label.
        patch: side of the samples, or (height, width).
        overlap: pixels that neighboring training patches share.
        edges: of pictures that a patch does not divide: ``cover`` or ``drop``.
        split_by: ``image``: a picture is in one split; ``patch``: its patches are drawn apart, which leaks; ``group``:
            the pictures of one folder are in one split.
        held_out: by split patterns of names, such as ``*_part_003``; a split without them is drawn by its share.
        validation, test: shares that are drawn.
        seed: of the drawing.
        workers: threads that read; 0: one a core, at most 8.
    """

    root: str | Path | None
    colors: Mapping[str, Any] = field(default_factory=dict)
    images: str = "images"
    masks: str = "masks"
    ignore: Sequence[str] = ()
    patch: int | Sequence[int] = 256
    overlap: int = 0
    edges: str = "cover"
    split_by: str = "image"
    held_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    validation: float | int | None = None
    test: float | int | None = None
    seed: int = 0
    workers: int = 0

    @property
    def size(self) -> Size:
        """Height and width of a patch."""
        return (self.patch, self.patch) if isinstance(self.patch, int) else (self.patch[0], self.patch[1])


def load_masked(masked: Masked) -> dict[str, Any]:
    """The parts of :class:`limbeck.data.data.Data`: splits by name, classes, and ``notes``.

    Raises:
        DataError: naming files: a picture without mask or a mask without picture, different sizes, what can not be
            read, an empty folder or split.
        RecipeError: if a key is wrong.
    """
    if masked.root is None:
        raise RecipeError("a source of masks needs data.root", cure="root: FOLDER")
    root, table = Path(masked.root), ColorTable.of(masked.colors, masked.ignore)
    pairs, notes = paired(root, masked.images, masked.masks)
    scenes, more = read_scenes(root, pairs, table, workers=masked.workers)
    regions = divided(scenes, masked)
    high, wide = masked.size
    step = (high - masked.overlap, wide - masked.overlap)
    parts: dict[str, Any] = {}
    for name, found in regions.items():
        own = step if name == "train" else masked.size
        parts[name] = SceneSplit(found, table.classes, name, patch=masked.size, step=own, edges=masked.edges)
    return {**parts, "classes": table.classes, "notes": [*notes, *more, *_told(parts, masked)]}


def paired(root: Path, images: str, masks: str) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Pictures and masks of one name: name, picture, mask; and notes.

    The name is the path below ``root`` without the folder ``images`` or ``masks`` and without the ending.

    Raises:
        DataError: if one lacks the other, or two files have one name.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", cure="check data.root")
    found: dict[str, dict[str, Path]] = {images: {}, masks: {}}
    files, other = pictures_under(root)
    aside = list(other)
    for path in files:
        parts = path.relative_to(root).parts
        kind = next((one for one in reversed(parts[:-1]) if one in found), None)
        if kind is None:
            aside.append(path)
            continue
        at = len(parts) - 2 - parts[-2::-1].index(kind)
        name = Path(*parts[:at], *parts[at + 1 : -1], path.stem).as_posix()
        if name in found[kind]:
            raise DataError(f"{found[kind][name]} and {path} have one name", cure="remove one of them")
        found[kind][name] = path
    if not found[images] and not found[masks]:
        raise DataError(
            f"{root} holds no pictures in folders '{images}' and '{masks}'",
            cure="say how these folders are called with data.images and data.masks",
        )
    _refuse_single(found[images], found[masks], "picture", "mask")
    _refuse_single(found[masks], found[images], "mask", "picture")
    notes = [f"{len(aside)} files are neither picture nor mask, the first: {aside[0].name}"] if aside else []
    return [(name, path, found[masks][name]) for name, path in sorted(found[images].items())], notes


def _refuse_single(these: Mapping[str, Path], those: Mapping[str, Path], one: str, other: str) -> None:
    single = [str(path) for name, path in sorted(these.items()) if name not in those]
    if single:
        more = f" and {len(single) - _LISTED} more" if len(single) > _LISTED else ""
        raise DataError(
            f"{len(single)} of {len(these)} {one}s have no {other} of their name: {', '.join(single[:_LISTED])}{more}",
            cure=f"add the {other}, or remove the {one}",
        )


def read_scenes(
    root: Path, pairs: Sequence[tuple[str, Path, Path]], table: ColorTable, *, workers: int = 0
) -> tuple[list[Scene], list[str]]:
    """Read all pictures and masks, in threads.

    Raises:
        DataError: naming the file.
    """
    tell, strange = telling(len(pairs), "reading pictures and masks"), dict[int, tuple[int, int]]()

    def read(pair: tuple[str, Path, Path]) -> tuple[Scene, dict[int, int]]:
        name, picture_file, mask_file = pair
        seen = see(picture_file, 3)
        picture = torch.from_numpy(np.array(seen.picture)).permute(2, 0, 1).contiguous()
        mask, unknown = table.read(mask_file)
        if mask.shape != tuple(picture.shape[1:]):
            raise DataError(
                f"{picture_file} is {picture.shape[1]}×{picture.shape[2]}, its mask {mask_file} "
                f"{mask.shape[0]}×{mask.shape[1]}",
                cure="give every picture a mask of its size",
            )
        group = name.rpartition("/")[0]
        return Scene.of(name, picture, torch.from_numpy(mask), len(table.classes), group or None), unknown

    scenes = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for scene, unknown in pool.map(read, pairs):
            scenes.append(scene)
            tell(len(scenes))
            for code, count in unknown.items():
                files, pixels = strange.get(code, (0, 0))
                strange[code] = (files + 1, pixels + count)
    return scenes, _unknown(strange, table, sum(scene.size[0] * scene.size[1] for scene in scenes))


def _unknown(strange: Mapping[int, tuple[int, int]], table: ColorTable, total: int) -> list[str]:
    if not strange:
        return []
    pixels = sum(count for _, count in strange.values())
    kind = "numbers" if table.numbers else "colors"
    ranked = sorted(strange.items(), key=lambda one: -one[1][1])
    told = [f"{table.name(code)} ({count:,} pixels in {files} masks)" for code, (files, count) in ranked[:_LISTED]]
    return [
        f"{len(strange)} {kind} of the masks stand for no class; their {pixels:,} pixels ({pixels / total:.3%}) have no "
        f"label: {', '.join(told)}{', …' if len(ranked) > _LISTED else ''}"
    ]


def divided(scenes: Sequence[Scene], masked: Masked) -> dict[str, list[Region]]:
    """The regions of each split.

    Raises:
        RecipeError: if a pattern is of no picture, or a picture of two splits.
        DataError: if a split is empty.
    """
    if masked.split_by == "patch":
        if any(masked.held_out.values()):
            raise RecipeError("data.held_out names pictures, and data.split_by is patch", cure="leave it out")
        units = [
            [Region(scene, top, left, masked.size)]
            for scene in scenes
            for top, left in places(scene.size, masked.size, masked.size, "drop")
            if min(have - want for have, want in zip(scene.size, masked.size, strict=True)) >= 0
        ]
        return _drawn(units, {}, masked)
    names: dict[str, list[Region]] = {}
    for scene in scenes:
        key = scene.name if masked.split_by == "image" else (scene.group or scene.name)
        names.setdefault(key, []).append(Region.whole(scene))
    taken: dict[str, str] = {}
    held_out = {split: patterns for split, patterns in masked.held_out.items() if patterns}
    for split, patterns in held_out.items():
        for pattern in patterns:
            hit = [name for name in names if fnmatchcase(name, pattern)]
            if not hit:
                raise RecipeError(
                    f"data.held_out.{split}: '{pattern}' is the name of nothing",
                    cure=f"names are such as '{next(iter(names))}'; * stands for anything",
                )
            for name in hit:
                if taken.setdefault(name, split) != split:
                    raise RecipeError(f"data.held_out: '{name}' is in {taken[name]} and in {split}")
    units = [regions for name, regions in names.items() if name not in taken]
    given = {split: [one for name, regions in names.items() if taken.get(name) == split for one in regions] for split in held_out}
    return _drawn(units, given, masked)


def _drawn(units: list[list[Region]], given: dict[str, list[Region]], masked: Masked) -> dict[str, list[Region]]:
    """Splits that are given, and those that are drawn from the rest."""
    order = permutation(masked.seed, 0, len(units)).tolist() if units else []
    found, start = dict(given), 0
    for split, share, usual in (("test", masked.test, 0.2), ("validation", masked.validation, 0.1)):
        if split in found:
            continue
        share = usual if share is None else share
        count = share if isinstance(share, int) else max(round(share * len(units)), 1)
        found[split] = [one for at in sorted(order[start : start + count]) for one in units[at]]
        start += count
    found["train"] = [one for at in sorted(order[start:]) for one in units[at]]
    for split, regions in found.items():
        if not regions:
            raise DataError(
                f"of {len(units)} pictures or patches none is left for split '{split}'", cure="hold out fewer"
            )
    return {split: found[split] for split in ("train", "validation", "test")}


def _told(parts: Mapping[str, SceneSplit], masked: Masked) -> list[str]:
    """How the data were divided, and what is missing where."""
    how = {
        "image": "by image: whole pictures are held out",
        "patch": "by patch: patches of one picture lie in several splits, which makes scores too good (leaky)",
        "group": "by group: whole folders are held out",
    }[masked.split_by]
    found = [f"divided {how}"]
    for name, split in parts.items():
        counts = split.class_counts()
        missing = [one for one, count in zip(split.classes, counts.tolist(), strict=True) if not count]
        if missing:
            found.append(f"split '{name}' has no pixel of class {', '.join(missing)}: its scores are of the other classes")
    return found


__all__ = ["Masked", "divided", "load_masked", "paired", "read_scenes"]
