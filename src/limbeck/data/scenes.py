"""Pictures whose every pixel has a label: whole scenes, and the patches of them that a model is trained on."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from limbeck.data.about import About
from limbeck.data.convert import UNLABELED, scaled
from limbeck.data.held import Held
from limbeck.data.split import Split
from limbeck.data.windows import EDGES, Size, places
from limbeck.errors import DataError, RecipeError, nearest

IGNORED = 255  # in the bytes of a mask: a pixel without a label
MOST_CLASSES = 255


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture with its mask.

    Args:
        name: its file.
        size: height and width.
        digest: of its pixels and its mask.
        counts: int64 ``[C + 1]``, pixels of each class, then those without a label.
        read: gives the picture, uint8 ``[C, H, W]``, and the mask, uint8 ``[H, W]`` with :data:`IGNORED`.
        group: scenes of one group, such as a tile, resemble each other.
        channels: of the picture.
    """

    name: str
    size: Size
    digest: bytes
    counts: Tensor
    read: Callable[[], tuple[Tensor, Tensor]]
    group: str | None = None
    channels: int = 3

    @classmethod
    def of(
        cls,
        name: str,
        picture: Tensor,
        mask: Tensor,
        classes: int,
        group: str | None = None,
        read: Callable[[], tuple[Tensor, Tensor]] | None = None,
    ) -> Scene:
        """A scene of pixels that are there.

        Args:
            name: its file, or what it is called.
            picture: uint8 ``[C, H, W]``.
            mask: uint8 ``[H, W]``.
            classes: how many.
            group: see :class:`Scene`.
            read: gives them again; None: they are held in memory.

        Example:
            >>> Scene.of("a", torch.zeros(3, 2, 2).byte(), torch.tensor([[0, 0], [1, 255]]).byte(), 2).counts
            tensor([2, 1, 1])
        """
        digest = hashlib.sha256(repr((tuple(picture.shape), tuple(mask.shape))).encode())
        digest.update(picture.contiguous().numpy().data)
        digest.update(mask.contiguous().numpy().data)
        size, again = (picture.shape[1], picture.shape[2]), read or Held((picture, mask))
        return cls(name, size, digest.digest(), counted(mask, classes), again, group, picture.shape[0])


@dataclass(frozen=True)
class Region:
    """The part of a scene that belongs to a split: all of it, or one patch.

    Args:
        scene: which.
        top, left: its corner.
        size: height and width.
    """

    scene: Scene
    top: int
    left: int
    size: Size

    @classmethod
    def whole(cls, scene: Scene) -> Region:
        """All of a scene."""
        return cls(scene, 0, 0, scene.size)

    @property
    def name(self) -> str:
        """The scene's name; of a patch with its place."""
        return self.scene.name if self.size == self.scene.size else f"{self.scene.name} at {self.top}, {self.left}"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, height, width."""
        return self.top, self.left, *self.size

    def read(self) -> tuple[Tensor, Tensor]:
        """Its picture, uint8 ``[C, H, W]``, and its mask, uint8 ``[H, W]``."""
        picture, mask = self.scene.read()
        rows, columns = slice(self.top, self.top + self.size[0]), slice(self.left, self.left + self.size[1])
        return picture[:, rows, columns], mask[rows, columns]


class SceneSplit(Split):
    """Regions of scenes as a split: its samples are patches, and it can be looked at region by region.

    A patch of a region that is smaller than a patch is filled up with black, without labels. A sample has no label of
    its own: ``targets`` are all -1, what :meth:`fetch` gives are the labels of its pixels.

    Args:
        regions: at least one, of pictures with equal channels.
        classes: class names, in the order of the masks' numbers.
        name: of the split.
        patch: height and width of the samples.
        step: from one patch to the next, down and across; None: the patch's own size, without overlap.
        edges: of regions that a patch does not divide, see :func:`limbeck.data.windows.starts`; of regions smaller
            than a patch ``drop`` makes no sample.

    Raises:
        DataError: if there is no region or no patch, or channels differ.
        RecipeError: if patch, step or edges are impossible.

    Example:
        >>> scene = Scene.of("a", torch.zeros(3, 4, 6).byte(), torch.ones(4, 6).byte(), 2)
        >>> split = SceneSplit([Region.whole(scene)], ["land", "water"], "train", patch=(4, 4))
        >>> [tuple(one.shape) for one in split.fetch(torch.tensor([0, 1]))], split.class_counts()
        ([(2, 3, 4, 4), (2, 4, 4)], tensor([ 0, 24]))
    """

    dense = True

    def __init__(
        self,
        regions: Sequence[Region],
        classes: Sequence[str],
        name: str,
        *,
        patch: Size,
        step: Size | None = None,
        edges: str = "cover",
    ) -> None:
        if not regions:
            raise DataError(f"split '{name}' holds no picture")
        check_cut(patch, step or patch, edges)
        self.regions, self.classes, self.name = tuple(regions), tuple(str(one) for one in classes), name
        self.patch, self.step, self.edges = patch, step or patch, edges
        self.channels = _channels(self.regions, name)
        rows = [
            (number, top, left)
            for number, region in enumerate(self.regions)
            for top, left in places(region.size, self.patch, self.step, edges)
        ]
        if not rows:
            largest = max((region.size for region in self.regions), key=lambda size: size[0] * size[1])
            raise DataError(
                f"no picture of split '{name}' holds a patch of {patch[0]}×{patch[1]}: the largest is "
                f"{largest[0]}×{largest[1]}, and edges: drop leaves out what is no whole patch",
                cure="take smaller patches, or edges: cover",
            )
        self._take(torch.tensor(rows, dtype=torch.int64))

    def _take(self, rows: Tensor) -> None:
        self.rows = rows
        self.targets = torch.full((len(rows),), UNLABELED)
        named = [(self.regions[number], top, left) for number, top, left in rows.tolist()]
        groups = tuple(region.scene.group or region.scene.name for region, _, _ in named)
        names = tuple(f"{one.scene.name} at {one.top + top}, {one.left + left}" for one, top, left in named)
        self.about = About(names=names, groups=groups)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.patch)

    @property
    def input_range(self) -> str:
        return "bytes"

    @property
    def labeled(self) -> int:
        """How many patches lie in a region that has a label."""
        having = torch.tensor([bool(one.any()) for one in self.region_counts()])
        return int(having[self.rows[:, 0]].sum())

    @cached_property
    def _counts(self) -> list[Tensor]:
        return [
            one.scene.counts if one.size == one.scene.size else counted(one.read()[1], len(self.classes))
            for one in self.regions
        ]

    def region_counts(self) -> list[Tensor]:
        """Pixels of each class, int64 ``[C]``, of each region."""
        return [one[:-1] for one in self._counts]

    def class_counts(self) -> Tensor:
        """Pixels of each class over all regions, int64 ``[C]``."""
        return torch.stack(self.region_counts()).sum(0)

    @property
    def ignored(self) -> int:
        """Pixels without a label."""
        return sum(int(one[-1]) for one in self._counts)

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Patches, float32 ``[B, C, H, W]``, and the labels of their pixels, int64 ``[B, H, W]``; -1 for none."""
        rows = self.rows[index]
        pictures = torch.zeros(len(rows), *self.shape, dtype=torch.uint8)
        masks = torch.full((len(rows), *self.patch), IGNORED, dtype=torch.uint8)
        for place, row in enumerate(rows.tolist()):
            picture, mask = self._part(*row)
            high, wide = mask.shape
            pictures[place, :, :high, :wide], masks[place, :high, :wide] = picture, mask
        return scaled(pictures), labels(masks)

    def _part(self, number: int, top: int, left: int) -> tuple[Tensor, Tensor]:
        """A patch as bytes, without what lies beyond its region."""
        picture, mask = self.regions[number].read()
        rows, columns = slice(top, top + self.patch[0]), slice(left, left + self.patch[1])
        return picture[:, rows, columns], mask[rows, columns]

    def parted(self, numbers: Sequence[int], name: str, *, step: Size | None = None) -> SceneSplit:
        """The regions of these numbers, cut anew.

        Args:
            numbers: of regions.
            name: of the split.
            step: from one patch to the next; None: without overlap.
        """
        kept = [self.regions[number] for number in numbers]
        return SceneSplit(kept, self.classes, name, patch=self.patch, step=step, edges=self.edges)

    def subset(self, index: Any, name: str | None = None) -> SceneSplit:
        """The patches at ``index``, and of the regions those that they lie in."""
        rows = self.rows[torch.as_tensor(index, dtype=torch.int64)]
        kept, numbers = rows[:, 0].unique(return_inverse=True)
        other = copy.copy(self)
        other.__dict__.pop("_counts", None)
        other.regions, other.name = tuple(self.regions[number] for number in kept.tolist()), name or self.name
        other._take(torch.cat([numbers[:, None], rows[:, 1:]], dim=1))
        return other

    def without_labels(self, keep: Any) -> Split:
        raise DataError(
            f"split '{self.name}' has masks, and labels of pixels can not be taken from some of its samples",
            cure="leave student.labels out",
        )

    def joined(self, other: Split) -> Split:
        raise DataError(
            f"split '{self.name}' has masks, and samples of split '{other.name}' can not be put beside its patches",
            cure="leave unlabeled out; pixels without a label are those of no class in the masks",
        )

    def digests(self) -> list[bytes] | None:
        """A hash of each patch's pixels."""
        found = []
        for number, top, left in self.rows.tolist():
            part = self._part(number, top, left)[0]
            digest = hashlib.sha256(repr(tuple(part.shape)).encode())
            digest.update(part.contiguous().numpy().data)
            found.append(digest.digest())
        return found

    def fingerprint(self) -> str:
        """sha256 over pictures and masks, which parts of them are used, the patches, and the class names."""
        digest = hashlib.sha256(repr((self.classes, self.patch)).encode())
        for region in self.regions:
            digest.update(region.scene.digest + repr(region.box).encode())
        digest.update(self.rows.contiguous().numpy().data)
        return digest.hexdigest()


def labels(mask: Tensor) -> Tensor:
    """Class numbers, int64, of a mask's bytes; -1 for no label.

    Example:
        >>> labels(torch.tensor([0, 5, 255]).byte())
        tensor([ 0,  5, -1])
    """
    found = mask.long()
    return found.masked_fill_(found == IGNORED, UNLABELED)


def counted(mask: Tensor, classes: int) -> Tensor:
    """Pixels of each class of a mask's bytes, then those without a label: int64 ``[C + 1]``."""
    found = torch.bincount(mask.flatten(), minlength=IGNORED + 1)
    return torch.cat([found[:classes], found[IGNORED:]])


def check_cut(patch: Size, step: Size, edges: str) -> None:
    """See that patches can be cut.

    Raises:
        RecipeError: naming the key.
    """
    if min(patch) < 1:
        raise RecipeError(f"data.patch is {list(patch)}, expected sides of at least 1")
    if min(step) < 1:
        overlap = max(have - one for have, one in zip(patch, step, strict=True))
        raise RecipeError(
            f"data.overlap is {overlap} and a patch {patch[0]}×{patch[1]}: the next one would be in the same place",
            cure="overlap less than a patch's side, such as a quarter of it",
        )
    if edges not in EDGES:
        raise RecipeError(f"data.edges is {edges!r}, expected {' or '.join(EDGES)}{nearest(str(edges), EDGES)}")


def _channels(regions: Sequence[Region], name: str) -> int:
    first = regions[0].scene
    for region in regions:
        if region.scene.channels != first.channels:
            raise DataError(
                f"split '{name}': picture {first.name} has {first.channels} channels, {region.scene.name} "
                f"{region.scene.channels}",
                cure="prepare all pictures in the same way",
            )
    return first.channels


__all__ = ["IGNORED", "MOST_CLASSES", "Region", "Scene", "SceneSplit", "check_cut", "counted", "labels"]
