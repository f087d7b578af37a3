"""One look at every picture and its mask: what is in them, and everything that is wrong."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.data.held import Holding
from limbeck.data.pictures import decoded
from limbeck.data.scenes import Scene
from limbeck.data.sources.colors import ColorTable
from limbeck.data.sources.pairs import Pair, listed
from limbeck.data.sources.scan import telling
from limbeck.errors import DataError

MANY = 32  # colors that no one lists: what a smoothed or JPEG-compressed mask has
_SMOOTHED = (
    "so many are of masks that were resized with smoothing or saved as JPEG, most often: save them as PNG, resized by "
    "nearest neighbor"
)


@dataclass(frozen=True)
class Look:
    """What was seen of one pair.

    Args:
        picture: uint8 ``[3, H, W]``.
        mask: uint8 ``[H, W]``.
        unknown: by color or number that stands for no class, its pixels.
        changes: what was done to the picture and its mask.
    """

    picture: Tensor
    mask: Tensor
    unknown: Mapping[int, int]
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """Decodes pairs by a color table."""

    table: ColorTable

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Picture and mask, as they were at the first look."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on tags; what can not be decoded is an error
            seen = self.look(pair)
        return seen.picture, seen.mask

    def look(self, pair: Pair) -> Look:
        """A pair, and what is odd about it. Warnings are the caller's: this runs in threads.

        Raises:
            DataError: naming the file.
        """
        image, changes = decoded(pair.picture, 3)
        picture = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        mask, unknown, more = self.table.read(pair.mask)
        if mask.shape != tuple(picture.shape[1:]):
            high, wide = picture.shape[1:]
            raise DataError(
                f"{pair.picture} is {high}×{wide}, its mask {pair.mask} {mask.shape[0]}×{mask.shape[1]}",
                cure="give every picture a mask of its size",
            )
        return Look(picture, torch.from_numpy(mask), unknown, (*changes, *more))


def read_scenes(
    pairs: Sequence[Pair], table: ColorTable, *, cache: str | bool = "auto", workers: int = 0
) -> tuple[list[Scene], list[str]]:
    """Look at all pictures and masks, in threads: their scenes, and notes.

    Args:
        pairs: of files.
        table: of the masks.
        cache: hold what is decoded in memory; ``auto``: up to 2 GiB.
        workers: threads; 0: one a core, at most 8.

    Raises:
        DataError: naming the files that can not be read, whose sizes differ, or whose masks hold no listed color.
    """
    reader, tell = Reader(table), telling(len(pairs), "reading pictures and masks")
    holding, odd = Holding(reader, cache), _Odd(table)

    def look(pair: Pair) -> Look | DataError:
        try:
            return reader.look(pair)
        except DataError as error:
            return error

    scenes: list[Scene] = []
    wrong: list[DataError] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        warnings.simplefilter("ignore")  # set once, since the filters are not made for threads
        for number, (pair, seen) in enumerate(zip(pairs, pool.map(look, pairs), strict=True)):
            tell(number + 1)
            if isinstance(seen, DataError):
                wrong.append(seen)
                continue
            odd.add(pair, seen)
            read = holding.keep(pair, (seen.picture, seen.mask))
            group = pair.name.rpartition("/")[0] or None
            scenes.append(Scene.of(pair.name, seen.picture, seen.mask, len(table.classes), group, read))
    if wrong:
        _refuse(wrong, len(pairs))
    odd.refuse(len(pairs))
    told = odd.notes(sum(scene.size[0] * scene.size[1] for scene in scenes))
    if holding.count < len(scenes):
        told.append(f"decoded anew when fetched, not held in memory: {len(scenes) - holding.count} of {len(scenes)}")
    return scenes, told


def _refuse(wrong: Sequence[DataError], total: int) -> None:
    if len(wrong) == 1:
        raise wrong[0]
    cures = {error.cure for error in wrong}
    raise DataError(
        f"{len(wrong)} of {total} pictures with masks can not be used: {listed([error.what for error in wrong])}",
        cure=wrong[0].cure if len(cures) == 1 else "restore or remove them",
    )


class _Odd:
    """What is odd about pictures and masks, counted."""

    def __init__(self, table: ColorTable) -> None:
        self.table = table
        self.unknown: dict[int, tuple[int, int]] = {}  # by color: masks, pixels
        self.changes: dict[str, list[str]] = {}
        self.strangers: list[str] = []  # masks without any listed color

    def add(self, pair: Pair, seen: Look) -> None:
        for code, count in seen.unknown.items():
            masks, pixels = self.unknown.get(code, (0, 0))
            self.unknown[code] = (masks + 1, pixels + count)
        if sum(seen.unknown.values()) == seen.mask.numel():
            self.strangers.append(str(pair.mask))
        for change in seen.changes:
            self.changes.setdefault(change, []).append(pair.name)

    def refuse(self, total: int) -> None:
        """A mask that has nothing of the table is of another one."""
        if self.strangers:
            raise DataError(
                f"{len(self.strangers)} of {total} masks hold no {self._kind()[:-1]} of data.colors: "
                f"{listed(self.strangers)}; most of their pixels have {self._most()}",
                cure="check data.colors against these masks" + ("; " + _SMOOTHED if self._smoothed() else ""),
            )

    def notes(self, total: int) -> list[str]:
        told = [f"{what}; {len(names)} in all, the first: {names[0]}" for what, names in self.changes.items()]
        if not self.unknown:
            return told
        pixels = sum(count for _, count in self.unknown.values())
        what = (
            f"{len(self.unknown)} {self._kind()} of the masks stand for no class; their {pixels:,} pixels "
            f"({pixels / total:.3%}) have no label: {self._most()}"
        )
        return [*told, what + ("; " + _SMOOTHED if self._smoothed() else "")]

    def _kind(self) -> str:
        return "numbers" if self.table.numbers else "colors"

    def _smoothed(self) -> bool:
        return not self.table.numbers and len(self.unknown) > MANY

    def _most(self) -> str:
        ranked = sorted(self.unknown.items(), key=lambda one: -one[1][1])
        return listed([f"{self.table.name(code)} ({pixels:,} pixels in {masks} masks)"
                       for code, (masks, pixels) in ranked])  # fmt: skip


__all__ = ["Look", "Reader", "read_scenes"]
