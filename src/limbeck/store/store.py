"""The store: a teacher on disk, that says of each view what the teacher said when it was built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.replay import Replay, pixel_checksum
from limbeck.errors import FileError, ModelError, ResumeError, nearest
from limbeck.files import read_tensors, sha256
from limbeck.outputs import Outputs, Top
from limbeck.store.codec import Records, decode
from limbeck.store.identity import differences
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.store.shards import Shards
from limbeck.teachers import Place


class Store:
    """What a teacher said about every view of every sample, on disk; a Teacher.

    Made by :meth:`build` or opened by :meth:`open`.

    Example:
        >>> import tempfile, limbeck
        >>> x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 2
        >>> teacher, data = limbeck.models.MLP((1, 8, 8), 2), limbeck.Data((x, y))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.build(teacher, data, f"{folder}/s", views=2, augmentation={"shift": 1}, quiet=True)
        ...     print(store.replay, store.layout.stride)
        Replay(seed=0, views=2) 8
    """

    def __init__(self, folder: Path, manifest: Manifest, layers: Sequence[str] = ()) -> None:
        self.folder, self.manifest, self.layers = folder, manifest, tuple(layers)
        self.shards = Shards(folder, manifest)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Store:
        """Open a finished store.

        Args:
            path: its folder.
            verify: read every shard and compare its sha256; False: only sizes are looked at, when a shard is read.

        Raises:
            FileError: if a file of it is missing, cut off, changed, or of another version.
        """
        store = cls(Path(path), Manifest.read(Path(path)))
        if verify:
            store.verify()
        return store

    @classmethod
    def build(cls, teacher: Any, data: Any, path: str | Path, *, views: int = 1, **options: Any) -> Store:
        """Ask a teacher about every view of the training samples, and keep what it says.

        See :func:`limbeck.store.build.build` for the options. A store that is there already is opened, one that was
        begun is gone on with.
        """
        from limbeck.store.build import from_python

        return from_python(teacher, data, path, views=views, **options)

    @property
    def layout(self) -> Layout:
        """Of a record."""
        return self.manifest.layout

    @property
    def replay(self) -> Replay:
        """The views that are kept."""
        return Replay(self.manifest.identity["views"]["seed"], self.manifest.views)

    def verify(self) -> None:
        """Read all files and compare their sha256.

        Raises:
            FileError: naming the first one that is not as it was written.
        """
        self.shards.verify()
        for facts in self.manifest.said.values():
            path = self.folder / facts["file"]
            if not path.is_file():
                raise FileError(f"{path} is missing", cure="build the store again")
            if sha256(path) != facts["sha256"]:
                raise FileError(f"{path} is damaged: it is not as it was written", cure="build the store again")

    def check(self, identity: Mapping[str, Any]) -> None:
        """See that the store is of this teacher, data and views.

        Raises:
            ResumeError: naming each field that differs.
        """
        found = list(differences(self.manifest.identity, identity))
        if found:
            raise ResumeError(
                f"{self.folder} is a store of something else: {'; '.join(found[:6])}",
                cure="put that back, or build another store at another path",
            )

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        """What was said of views; ``index`` are their addresses, view · samples + sample.

        Raises:
            ModelError: without addresses.
            FileError: if the inputs are not the pixels that the teacher was asked about.
        """
        if index is None:
            raise ModelError("a store says something of views with addresses, and this batch has none")
        return self._said(index, pixel_checksum(inputs.detach().cpu().float()), inputs.device)

    def recall(self, batch: Batch, inputs: Tensor) -> Outputs:
        """What was said of a batch's views; their pixels must be those that the teacher was asked about."""
        pixels = batch.pixels if batch.pixels is not None else pixel_checksum(batch.inputs)
        return self._said(batch.address(self.manifest.samples), pixels, inputs.device)

    def flush(self) -> None:
        """Nothing: a finished store does not change."""

    def says(self, split: str) -> Outputs:
        """What the teacher said about every sample of another split, such as ``validation``, as it is.

        Raises:
            ModelError: if that was not kept.
        """
        if split not in self.manifest.said:
            kept = self.manifest.said
            raise ModelError(f"{self.folder} keeps nothing of split '{split}'{nearest(split, kept)}")
        found = read_tensors(self.folder / self.manifest.said[split]["file"])[0]
        return Outputs(found["logits"], {}, found.get("members"), found.get("weights"))

    def reading(self, layers: Sequence[str]) -> Store:
        """The same store that also gives the kept features of layers.

        Raises:
            ModelError: if they were not kept.
        """
        for one in layers:
            if one not in self.layout.features:
                kept = ", ".join(self.layout.features) or "none"
                raise ModelError(
                    f"{self.folder} keeps no features of layer '{one}'{nearest(one, self.layout.features)}; of: {kept}",
                    cure="build it with that layer among its features, or use the live teacher",
                )
        return Store(self.folder, self.manifest, layers)

    def placed(self, place: Place) -> Store:
        """Itself: answers go to the device of the inputs."""
        return self

    def _said(self, addresses: Tensor, pixels: Tensor, device: torch.device) -> Outputs:
        records = self.shards.gather(addresses.cpu().numpy())
        same_pixels(records, pixels, addresses, self.manifest.samples, self.folder)
        return to(decode(self.layout, records), device)


def same_pixels(records: Records, pixels: Tensor, addresses: Tensor, samples: int, folder: Path) -> None:
    """See that views have the pixels that the teacher was asked about.

    Args:
        records: of the views.
        pixels: int64 ``[B]``, the checksums of the views as they are now.
        addresses: of the views.
        samples: of the split.
        folder: of the store, for the message.

    Raises:
        FileError: naming the first sample and view that differ.
    """
    wrong = records["pixels"].astype(np.int64) != pixels.numpy()
    if wrong.any():
        first = int(addresses[int(np.flatnonzero(wrong)[0])])
        raise FileError(
            f"{folder}: view {first // samples} of sample {first % samples} has other pixels now than the teacher was "
            f"asked about ({int(wrong.sum())} of {len(wrong)} in this batch)",
            cure="the data, their decoding or the views compute something else here: build the store again",
        )


def to(outputs: Outputs, device: torch.device) -> Outputs:
    """Outputs on a device."""
    if device.type == "cpu":
        return outputs
    top = outputs.top
    moved = None
    if top is not None:
        moved = Top(top.ids.to(device), top.logits.to(device), {t: one.to(device) for t, one in top.rest.items()})
    return replace(
        outputs,
        logits=outputs.logits.to(device),
        features={name: one.to(device) for name, one in outputs.features.items()},
        members=None if outputs.members is None else outputs.members.to(device),
        weights=None if outputs.weights is None else outputs.weights.to(device),
        top=moved,
    )
