"""A split over image files, which are decoded when fetched, or held decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.about import About
from limbeck.data.convert import as_targets, scaled
from limbeck.data.pictures import Frame, read_picture
from limbeck.data.split import Addressed, check


class ImageSplit(Addressed):
    """Image files as samples: float32 ``[C, H, W]`` in [0, 1].

    Args:
        root: folder of the files.
        files: of the samples, relative to ``root``; also their names.
        targets: int64 ``[N]``.
        classes: class names.
        name: of the split.
        frame: size and channels.
        contents: a hash of each picture's pixels, see :func:`limbeck.data.sources.scan.scan`.
        pixels: uint8 ``[N, C, H, W]``, the pictures held decoded; None: each fetch reads files.
        about: of the samples; their names are the files.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        targets: Sequence[int],
        classes: Sequence[str],
        name: str,
        *,
        frame: Frame,
        contents: Sequence[bytes],
        pixels: Tensor | None = None,
        about: About | None = None,
    ) -> None:
        self.root, self.files, self.frame = root, tuple(files), frame
        self._contents, self._pixels = tuple(contents), pixels
        self._rows, self._shape = torch.arange(len(files)), frame.shape
        self.targets, self.classes, self.name = as_targets(targets, name), tuple(classes), name
        self.about = About(self.files, *((about.groups, about.slices) if about else ()))
        check(self, len(files))

    @property
    def input_range(self) -> str:
        return "bytes"

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._rows[index]
        if self._pixels is not None:
            return scaled(self._pixels[rows]), self.targets[index]
        read = [self.frame(read_picture(self.root / self.files[at], self.frame.channels)) for at in rows.tolist()]
        return scaled(torch.stack([torch.from_numpy(one) for one in read])), self.targets[index]

    def digests(self) -> list[bytes] | None:
        return [self._contents[at] for at in self._rows.tolist()]

    def fingerprint(self) -> str:
        """sha256 over the pixels of all pictures, how they are fitted, labels and class names."""
        digest = hashlib.sha256(repr((self.frame, self.classes)).encode())
        digest.update(b"".join(self.digests() or []))
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()
