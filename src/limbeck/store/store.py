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
from limbeck.data.split import Split
from limbeck.errors import FileError, ModelError, nearest
from limbeck.files import read_tensors
from limbeck.outputs import Outputs, Top
from limbeck.store.codec import Records, decode
from limbeck.store.fields import MOST, Fields, whole
from limbeck.store.identity import differences, other_versions, refuse
from limbeck.store.layout import Layout
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.shards import Shards
from limbeck.store.verifying import faults
from limbeck.teachers import Place
from limbeck.training.progress import Reporter


class Store:
    """What a teacher said about every view of every training sample, on disk; a Teacher.

    Made by :meth:`build`, or opened by :meth:`open`. A view is a function of (seed, sample, view number), so that only
    what was said is kept: all logits in half precision up to 64 classes, else the largest with how much the others
    weigh. Each record has a checksum of the pixels that the teacher saw; where they are made otherwise now, the batch
    is refused. Reading maps the files into memory: a store may be far larger than that.

    A student that learns from a store sees the views of :attr:`replay`, over and over; its control sees the same.

    Source: Beyer et al., 2022, https://arxiv.org/abs/2106.05237: the teacher must see the very view that the student
        sees; Shen and Xing, 2022, https://arxiv.org/abs/2112.01528: kept views instead of a live teacher.

    Example:
        >>> import tempfile, limbeck
        >>> x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 2
        >>> teacher, data = limbeck.models.MLP((1, 8, 8), 2), limbeck.Data((x, y))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.build(teacher, data, f"{folder}/s", views=2, augmentation={"shift": 1}, quiet=True)
        ...     again = Store.open(f"{folder}/s")
        >>> again.replay, again.layout.stride, again.certificate["agreement"]
        (Replay(seed=0, views=2), 8, 1.0)
        >>> again  # doctest: +ELLIPSIS
        Store('.../s': 2 views of ... samples, 2 classes, 8 bytes a view)
    """

    def __init__(self, folder: Path, manifest: Manifest, layers: Sequence[str] = ()) -> None:
        self.folder, self.manifest, self.layers = folder, manifest, tuple(layers)
        self.shards = Shards(folder, manifest)

    def __repr__(self) -> str:
        kept, about = self.manifest, self.layout
        return (
            f"Store('{self.folder}': {kept.views} views of {kept.samples:,} samples, {about.classes} classes, "
            f"{about.stride} bytes a view)"
        )

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True, told: Reporter | None = None) -> Store:
        """Open a finished store.

        Args:
            path: its folder.
            verify: read every file and compare its sha256; False: it opens at once, and only sizes are looked at.
            told: shows progress where files are read.

        Raises:
            FileError: if a file of it is missing, cut off, changed, or of another version.
        """
        store = cls(Path(path), Manifest.read(Path(path)))
        for fault in faults(store.folder, store.manifest.files, read=verify, told=told):
            raise fault
        return store

    @classmethod
    def build(cls, teacher: Any, data: Any, path: str | Path, *, views: int = 1, **options: Any) -> Store:
        """Ask a teacher about every view of the training samples once, and keep what it says.

        It survives being killed: the same call goes on where it was. A store that is there already is opened. Under
        torchrun each process asks about its part. Other splits are asked about as they are, see :meth:`says`.

        Args:
            teacher: a module, a function with a ``digest``, an ONNX file, a list of them, or any Teacher.
            data: a :class:`limbeck.Data`, or what it takes.
            path: a folder.
            views: of each sample, V.
            options: ``augmentation`` (:class:`limbeck.Views` or a mapping of its arguments), ``sampling`` (of samples
                that are mixed in), ``seed`` of the views, ``top`` (so many of the largest logits; 0: all;
                None: all up to 64 classes, else 10), ``temperatures`` at which the weight of the other classes is
                kept, ``features`` (addresses of layers whose mean over all places is kept too), ``normalization``,
                ``batch_size``, ``workers``, ``device``, ``precision``, ``quiet``.

        Raises:
            ResumeError: if the folder holds a store of something else, naming each field that differs.
            FileError: if the disk has no room; if what is kept is not what the teacher says, see
                :mod:`limbeck.store.certificate`.
            ModelError: if a teacher has no ``digest`` and is no module.
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
        known = Fields.of(self.manifest.identity, str(self.folder / FILE), "identity").object("views")
        return Replay(known.take("seed", whole(-MOST), "a whole number"), self.manifest.views)

    @property
    def certificate(self) -> Mapping[str, Any]:
        """How well the teacher is kept, see :func:`limbeck.store.certificate.certify`."""
        return self.manifest.certificate

    @property
    def pooled(self) -> str | None:
        """The layer whose pooled features are kept, if it is a single one."""
        return single(self.layout)

    def verify(self, told: Reporter | None = None) -> None:
        """Read all files and compare their sha256.

        Args:
            told: shows progress.

        Raises:
            FileError: naming the first one that is not as it was written.
        """
        for fault in faults(self.folder, self.manifest.files, told=told):
            raise fault

    def check(self, identity: Mapping[str, Any], layout: Layout | None = None) -> None:
        """See that the store is of this teacher, data and views, and keeps what is asked for.

        Args:
            identity: what is wanted, see :func:`limbeck.store.identity.identity`.
            layout: of a record that is wanted; a store may keep more temperatures and features.

        Raises:
            ResumeError: naming each field that differs.
        """
        found = differences(self.manifest.identity, identity)
        if "torch" in other_versions(self.manifest.built):  # whose modules may describe themselves in other words
            found = [one for one in found if ".structure: " not in one]
        if layout is not None:
            found += differences({"record": _wanted(self.layout)}, {"record": _wanted(layout, self.layout)})
        refuse(self.folder, found)

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

    def says(self, split: str, samples: Split | None = None) -> Outputs:
        """What the teacher said about every sample of another split, such as ``validation``, as it is.

        Args:
            split: its name.
            samples: it, to see that it holds the same ones.

        Raises:
            ModelError: if that was not kept.
            ResumeError: if the split holds other samples now.
            FileError: if the file is missing, or holds something else.
        """
        if split not in self.manifest.said:
            kept = self.manifest.said
            raise ModelError(f"{self.folder} keeps nothing of split '{split}'{nearest(split, kept)}")
        facts = self.manifest.said[split]
        if samples is not None:
            now = {"said": {split: samples.without_labels([]).fingerprint()}}
            refuse(self.folder, differences({"said": {split: facts["split"]}}, now))
        path, classes = self.folder / facts["file"], self.layout.classes
        found = read_tensors(path)[0]
        shapes = {name: tuple(one.shape) for name, one in found.items()}
        count = shapes.get("logits", (0,))[0]
        expected: dict[str, tuple[int, ...]] = {"logits": (count, classes)}
        if "members" in found:
            of = self.layout.members
            expected |= {"members": (of, count, classes), "weights": (of,)}
        if shapes != expected or any(one.dtype != torch.float32 for one in found.values()):
            raise FileError(f"{path} holds {shapes}, expected {expected} in float32", cure="build the store again")
        return Outputs(found["logits"], {}, found.get("members"), found.get("weights"))

    def like(self, inputs: Tensor) -> Outputs:
        """What was said of some views, as many as there are inputs: for shapes, before any view is asked about."""
        records = self.shards.gather(np.arange(len(inputs)) % self.manifest.records)
        return to(decode(self.layout, records), inputs.device)

    def reading(self, layers: Sequence[str]) -> Store:
        """The same store that also gives the kept features of layers.

        Raises:
            ModelError: if they were not kept.
        """
        keeps(self.layout, layers, self.folder)
        return Store(self.folder, self.manifest, layers)

    def placed(self, place: Place) -> Store:
        """Itself: answers go to the device of the inputs."""
        return self

    def _said(self, addresses: Tensor, pixels: Tensor, device: torch.device) -> Outputs:
        records = self.shards.gather(addresses.cpu().numpy())
        same_pixels(records, pixels, addresses, self.manifest.samples, self.folder, self.manifest.built)
        return to(decode(self.layout, records), device)


def same_pixels(
    records: Records,
    pixels: Tensor,
    addresses: Tensor,
    samples: int,
    folder: Path,
    built: Mapping[str, Any] | None = None,
) -> None:
    """See that views have the pixels that the teacher was asked about.

    Args:
        records: of the views.
        pixels: int64 ``[B]``, the checksums of the views as they are now.
        addresses: of the views.
        samples: of the split.
        folder: of the store, for the message.
        built: with what libraries, for the message.

    Raises:
        FileError: naming the first sample and view that differ.
    """
    wrong = records["pixels"].astype(np.int64) != pixels.numpy()
    if wrong.any():
        first = int(addresses[int(np.flatnonzero(wrong)[0])])
        versions = other_versions(built or {})
        raise FileError(
            f"{folder}: view {first // samples} of sample {first % samples} has other pixels now than the teacher was "
            f"asked about ({int(wrong.sum())} of {len(wrong)} views looked at){f'; {versions}' if versions else ''}",
            cure="the data, their decoding or the views compute something else here: build the store again",
        )


def keeps(layout: Layout, layers: Sequence[str], folder: Path) -> None:
    """See that records have the features of layers.

    Raises:
        ModelError: naming the first layer of which there are none.
    """
    for one in layers:
        if one not in layout.features:
            kept = ", ".join(layout.features) or "none"
            raise ModelError(
                f"{folder} keeps no features of layer '{one}'{nearest(one, layout.features)}; of: {kept}",
                cure="build it with that layer among its features, or use the live teacher",
            )


def single(layout: Layout) -> str | None:
    """The layer whose pooled features are kept, if it is a single one.

    Example:
        >>> single(Layout(2, features={"fc:input": 8})), single(Layout(2))
        ('fc:input', None)
    """
    return next(iter(layout.features)) if len(layout.features) == 1 else None


def _wanted(layout: Layout, kept: Layout | None = None) -> dict[str, Any]:
    """What a record has to hold, by field; what ``kept`` holds besides does no harm."""
    found = layout.to_dict()
    features, temperatures = dict(layout.features), layout.temperatures
    if kept is not None:
        features = {**kept.features, **features}
        temperatures = kept.temperatures if set(temperatures) <= set(kept.temperatures) else temperatures
    del found["bytes"]
    return {**found, "features": features, "temperatures": list(temperatures)}


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
