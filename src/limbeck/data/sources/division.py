"""Scenes divided into splits: by picture, by patch or by group, by name or by share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from limbeck.data.order import permutation
from limbeck.data.scenes import Region, Scene
from limbeck.data.windows import Size, places, starts
from limbeck.errors import DataError, RecipeError, nearest

SPLIT_BY = ("image", "patch", "group")
USUAL = {"test": 0.2, "validation": 0.1}  # shares of what is divided


@dataclass(frozen=True)
class Division:
    """How scenes are divided.

    Args:
        by: ``image``: a picture is in one split; ``patch``: its patches are drawn apart, which leaks; ``group``: the
            pictures of one group are in one split.
        patch: height and width, of ``patch``.
        held_out: by split patterns of names; a split without them is drawn by its share.
        shares: by split, fraction or count of pictures, patches or groups; None: a fifth for test, a tenth for
            validation.
        seed: of the drawing.
    """

    by: str
    patch: Size
    held_out: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    shares: Mapping[str, float | int | None] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in SPLIT_BY:
            raise RecipeError(
                f"data.split_by is {self.by!r}, expected {', '.join(SPLIT_BY)}{nearest(str(self.by), SPLIT_BY)}"
            )
        for split, share in self.shares.items():
            if share is not None and self.held_out.get(split):
                raise RecipeError(f"data.{split} is {share}, and data.held_out.{split} names its pictures: keep one")
            if share is not None and not (isinstance(share, int) and share > 0) and not 0 < share < 1:
                raise RecipeError(f"data.{split} is {share}, expected a fraction below 1, or a count")
        if self.by == "patch" and any(self.held_out.values()):
            raise RecipeError("data.held_out names pictures, and data.split_by is patch", cure="leave it out")

    def __call__(self, scenes: Sequence[Scene]) -> dict[str, list[Region]]:
        """The regions of train, validation and test.

        Raises:
            RecipeError: if a pattern is of nothing, or a name of two splits.
            DataError: if a split is empty.
        """
        units = self._patches(scenes) if self.by == "patch" else self._pictures(scenes)
        taken = self._taken(list(units))
        free = [name for name in units if name not in taken]
        order = permutation(self.seed, 0, len(free)).tolist() if free else []
        names: dict[str, list[str]] = {"train": free}
        start = 0
        for split, usual in USUAL.items():
            if self.held_out.get(split):
                names[split] = [name for name in units if taken.get(name) == split]
                continue
            share = self.shares.get(split)
            share = usual if share is None else share
            count = share if isinstance(share, int) else max(round(share * len(units)), 1)
            names[split] = [free[at] for at in sorted(order[start : start + count])]
            start += count
        names["train"] = [free[at] for at in sorted(order[start:])]
        what = {"image": "pictures", "patch": "patches", "group": "groups"}[self.by]
        for split, found in names.items():
            if not found:
                raise DataError(f"of {len(units)} {what} none is left for split '{split}'", cure="hold out fewer")
        return {split: [one for name in names[split] for one in units[name]] for split in ("train", *reversed(USUAL))}

    def _pictures(self, scenes: Sequence[Scene]) -> dict[str, list[Region]]:
        found: dict[str, list[Region]] = {}
        for scene in scenes:
            found.setdefault(scene.name if self.by == "image" else scene.group or scene.name, []).append(
                Region.whole(scene)
            )
        return found

    def _patches(self, scenes: Sequence[Scene]) -> dict[str, list[Region]]:
        found = {
            f"{scene.name} at {top}, {left}": [Region(scene, top, left, self.patch)]
            for scene in scenes
            for top, left in places(scene.size, self.patch, self.patch, "drop")
        }
        if not found:
            raise DataError(
                f"none of {len(scenes)} pictures holds a patch of {self.patch[0]}×{self.patch[1]}, the first is "
                f"{scenes[0].size[0]}×{scenes[0].size[1]}: {scenes[0].name}",
                cure="take smaller patches",
            )
        return found

    def _taken(self, names: Sequence[str]) -> dict[str, str]:
        """By name the split that a pattern puts it into."""
        taken: dict[str, str] = {}
        for split, patterns in self.held_out.items():
            for pattern in patterns or ():
                hit = [name for name in names if fnmatchcase(name, pattern)]
                if not hit:
                    raise RecipeError(
                        f"data.held_out.{split}: '{pattern}' is the name of nothing{nearest(pattern, names)}",
                        cure=f"names are such as '{names[0]}'; * stands for anything",
                    )
                for name in hit:
                    if taken.setdefault(name, split) != split:
                        raise RecipeError(
                            f"data.held_out: '{name}' is in {taken[name]} and in {split}", cure="name it in one of them"
                        )
        return taken


def uncut(scenes: Sequence[Scene], patch: Size, step: Size) -> float:
    """The share of all pixels that is in no whole patch.

    Example:
        >>> from torch import zeros
        >>> uncut([Scene.of("a", zeros(3, 4, 6).byte(), zeros(4, 6).byte(), 2)], (4, 4), (4, 4))
        0.3333333333333333
    """
    total = sum(math.prod(scene.size) for scene in scenes)
    inside = 0
    for scene in scenes:
        reached = (
            max((at + length for at in starts(side, length, by, "drop")), default=0)
            for side, length, by in zip(scene.size, patch, step, strict=True)
        )
        inside += math.prod(reached)
    return (total - inside) / total


__all__ = ["SPLIT_BY", "Division", "uncut"]
