"""Building a store: every view of every sample is shown to the teacher once, and what it says is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.data import Data
from limbeck.data.normalization import Normalization
from limbeck.data.replay import Replay, Seer, pixel_checksum
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.data.workers import prepared
from limbeck.errors import RecipeError
from limbeck.evaluation.predict import ask
from limbeck.files import describe, write_tensors
from limbeck.store.codec import encode
from limbeck.store.filling import Filling
from limbeck.store.identity import identity
from limbeck.store.layout import Layout
from limbeck.store.learning import pooled
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.store import Store
from limbeck.teachers import Teacher, as_teacher
from limbeck.training.distributed import world
from limbeck.training.precision import Precision, choose
from limbeck.training.progress import Reporter, reporter

NOTED = 15.0  # seconds between two notes of what is known


@dataclass(frozen=True)
class Plan:
    """What a store shall hold.

    Args:
        teacher: is asked, in eval mode and without a graph.
        see: the views.
        replay: their seed and number.
        layout: of a record.
        precision: that the teacher computes in.
        splits: others, whose samples the teacher is asked about as they are.
    """

    teacher: Teacher
    see: Seer
    replay: Replay
    layout: Layout
    precision: Precision
    splits: Mapping[str, Split]

    @property
    def identity(self) -> dict[str, Any]:
        """What the records depend on."""
        return identity(self.teacher, self.see, self.replay, self.precision.name)


def build(plan: Plan, folder: Path, *, batch_size: int = 256, workers: int = 0, told: Reporter) -> Store:
    """Build a store, go on with one that was begun, or open the one that is there.

    Args:
        plan: what it shall hold.
        folder: where.
        batch_size: samples that the teacher is asked about at a time.
        workers: processes that make views.
        told: shows progress.

    Raises:
        ResumeError: if the folder holds a store of something else.
        FileError: if the disk has no room.
    """
    known = plan.identity
    if (folder / FILE).exists():
        store = Store.open(folder)
        store.check(known)
        return store
    filling = Filling(folder, plan.layout, len(plan.see.split), plan.replay.views, known)
    began = time.monotonic()
    live = plan.teacher.placed(plan.precision.place)
    fill(plan, live, filling, batch_size=batch_size, workers=workers, told=told)
    return finish(plan, filling, {"seconds": time.monotonic() - began})


def fill(plan: Plan, live: Teacher, filling: Filling, *, batch_size: int, workers: int, told: Reporter) -> None:
    """Ask the teacher about all views that are missing."""
    pieces = [
        piece
        for number in world().share(filling.shards)
        for piece in torch.arange(
            number * filling.per_shard, min((number + 1) * filling.per_shard, filling.records)
        ).split(batch_size)
        if filling.missing(piece.numpy()).any()
    ]
    for note in filling.notes:
        told.say(note)
    told.begin("store", 1, len(pieces), filling.records)
    maker = _Views(plan.see, pieces, filling.samples)
    stream = prepared(maker, range(len(pieces)), workers, plan.see.split.name) if workers else map(
        maker.__getitem__, range(len(pieces))
    )  # fmt: skip
    noted = time.monotonic()
    try:
        for done, (addresses, inputs, pixels) in enumerate(stream, start=1):
            with torch.no_grad(), plan.precision.autocast():
                said = pooled(live(plan.precision.inputs(inputs), addresses % filling.samples), plan.layout)
            filling.put(addresses.numpy(), encode(plan.layout, said, pixels))
            told.batch(1, done, len(addresses), None)
            if time.monotonic() - noted >= NOTED:
                filling.flush()
                noted = time.monotonic()
    finally:
        filling.flush()
        told.end()


def finish(plan: Plan, filling: Filling, built: Mapping[str, Any]) -> Store:
    """Ask about the other splits, and make a store of what was filled."""
    said: dict[str, dict[str, Any]] = {}
    for name, split in plan.splits.items():
        outputs = ask(plan.teacher, split, shared=True)
        extra = {} if outputs.members is None else {"members": outputs.members, "weights": outputs.weights}
        tensors = {key: value for key, value in {"logits": outputs.logits, **extra}.items() if value is not None}
        path = write_tensors(filling.folder / f"said-{name}.safetensors", tensors)
        said[name] = {"file": path.name, **describe(path), "split": split.fingerprint()}
    manifest: Manifest = filling.seal(said=said, built=dict(built))
    return Store(filling.folder, manifest)


@dataclass(frozen=True)
class _Views:
    """Pieces of the store: their addresses, the views there, and their checksums."""

    see: Seer
    pieces: list[Tensor]
    samples: int

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        addresses = self.pieces[number]
        inputs = self.see(addresses % self.samples, addresses // self.samples)[0]
        return addresses, inputs, pixel_checksum(inputs)


def from_python(
    teacher: Any,
    data: Any,
    path: str | Path,
    *,
    views: int = 1,
    augmentation: Views | Mapping[str, Any] | None = None,
    sampling: str = "none",
    seed: int = 0,
    top: int | None = None,
    temperatures: tuple[float, ...] = (1.0, 4.0),
    normalization: Normalization | None = None,
    batch_size: int = 256,
    workers: int = 0,
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
) -> Store:
    """What :meth:`limbeck.Store.build` does."""
    data = data if isinstance(data, Data) else Data(data)
    chosen = augmentation if isinstance(augmentation, Views) else Views(**(augmentation or {}))
    if chosen.identity and views > 1:
        raise RecipeError(
            f"{views} views of samples that are never changed are one view", cure="give augmentation=limbeck.Views(…)"
        )
    taught = as_teacher(teacher, normalization or data.normalization)
    see = Seer(data.train, Sampler(data.train.targets, sampling), chosen, seed)
    first = ask(taught, data.validation.subset(torch.arange(1)))
    members = 1 if first.members is None else len(first.members)
    weights = () if first.weights is None else tuple(first.weights.tolist())
    layout = Layout.choose(first.logits.shape[1], members=members, weights=weights, top=top, temperatures=temperatures)
    others = {name: split for name, split in data.splits.items() if name != "train"}
    plan = Plan(taught, see, Replay(seed, views), layout, choose(device, precision), others)
    return build(plan, Path(path), batch_size=batch_size, workers=workers, told=reporter(quiet=quiet))


__all__ = ["Plan", "build", "fill", "finish", "from_python"]
