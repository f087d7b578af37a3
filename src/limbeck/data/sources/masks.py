"""Pictures with masks in folders as data: paired, looked at once, divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.data.scenes import Scene, SceneSplit, check_cut
from limbeck.data.sources.colors import ColorTable
from limbeck.data.sources.division import Division, uncut
from limbeck.data.sources.looks import read_scenes
from limbeck.data.sources.pairs import paired
from limbeck.data.windows import Size
from limbeck.errors import RecipeError

_HOW = {
    "image": "by image: whole pictures are held out",
    "patch": "by patch: patches of one picture lie in several splits, which makes scores too good (leaky)",
    "group": "by group: whole folders are held out",
}


@dataclass(frozen=True)
class Masked:
    """Where pictures and masks lie, and what becomes of them.

    Args:
        root: the folder.
        images, masks: names of the folders, at any depth, that hold the pictures and the masks.
        mask_suffix: how the names of masks end, such as ``_mask``, if it is not their folder that tells them.
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
        cache: hold decoded pictures in memory; ``auto``: up to 2 GiB.
        workers: threads that read; 0: one a core, at most 8.
    """

    root: str | Path | None
    colors: Mapping[str, Any] = field(default_factory=dict)
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str | None = None
    ignore: Sequence[str] = ()
    patch: int | Sequence[int] = 256
    overlap: int = 0
    edges: str = "cover"
    split_by: str = "image"
    held_out: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    validation: float | int | None = None
    test: float | int | None = None
    seed: int = 0
    cache: str | bool = "auto"
    workers: int = 0

    @property
    def size(self) -> Size:
        """Height and width of a patch."""
        return (self.patch, self.patch) if isinstance(self.patch, int) else (self.patch[0], self.patch[1])

    @property
    def step(self) -> Size:
        """From one training patch to the next."""
        return self.size[0] - self.overlap, self.size[1] - self.overlap


def load_masked(masked: Masked) -> dict[str, Any]:
    """The parts of :class:`limbeck.data.data.Data`: splits by name, classes, and ``notes``.

    Raises:
        DataError: naming files: a picture without mask or a mask without picture, different sizes, what can not be
            read, masks of another table, an empty folder or split.
        RecipeError: if a key is wrong.
    """
    if masked.root is None:
        raise RecipeError("a source of masks needs data.root", cure="root: FOLDER")
    table, size = ColorTable.of(masked.colors, masked.ignore), masked.size
    check_cut(size, masked.step, masked.edges)
    if masked.split_by == "patch" and masked.overlap:
        raise RecipeError(
            f"data.overlap is {masked.overlap}, and data.split_by is patch: overlapping ones would be in two splits",
            cure="leave it out",
        )
    shares = {"validation": masked.validation, "test": masked.test}
    division = Division(masked.split_by, size, masked.held_out, shares, masked.seed)
    pairs, notes = paired(Path(masked.root), masked.images, masked.masks, masked.mask_suffix)
    scenes, more = read_scenes(pairs, table, cache=masked.cache, workers=masked.workers)
    parts = {
        name: SceneSplit(
            found, table.classes, name, patch=size, step=masked.step if name == "train" else size, edges=masked.edges
        )
        for name, found in division(scenes).items()
    }
    return {**parts, "classes": table.classes, "notes": [*notes, *more, *_told(parts, scenes, masked)]}


def _told(parts: Mapping[str, SceneSplit], scenes: Sequence[Scene], masked: Masked) -> list[str]:
    """How the data were divided, and what is in no sample."""
    counts = []
    for name, split in parts.items():
        pictures = len({region.scene.name for region in split.regions})
        groups = {region.scene.group for region in split.regions} - {None}
        of = f" of {len(groups)} folders" if masked.split_by == "group" else ""
        counts.append(f"{name} {pictures} pictures{of}, {len(split)} patches")
    found = [f"divided {_HOW[masked.split_by]}; {'; '.join(counts)}"]
    if masked.split_by == "patch" or masked.edges == "drop":
        where = "in no split" if masked.split_by == "patch" else "in no training patch, of training pictures"
        left = scenes if masked.split_by == "patch" else [region.scene for region in parts["train"].regions]
        share = uncut(left, masked.size, masked.step)
        if share:
            found.append(f"{share:.1%} of the pixels are {where}: they are no whole {_sides(masked.size)} patch")
    for name, split in parts.items():
        small = sum(min(a - b for a, b in zip(one.size, masked.size, strict=True)) < 0 for one in split.regions)
        if small:
            what = "no sample is made of them" if masked.edges == "drop" else "filled up with black, without labels"
            found.append(f"{small} pictures of split '{name}' are smaller than a patch: {what}")
    return found


def _sides(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


__all__ = ["Masked", "load_masked"]
