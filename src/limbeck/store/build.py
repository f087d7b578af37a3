"""Building a store: every view of every sample is shown to the teacher once, and what it says is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
from limbeck.outputs import Outputs
from limbeck.store.certificate import certify, hold, line, probe
from limbeck.store.codec import encode
from limbeck.store.filling import Filling, tidy
from limbeck.store.identity import differences, identity, refuse, surroundings
from limbeck.store.layout import Layout
from limbeck.store.learning import features_of, pooled
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.store import Store
from limbeck.teachers import Teacher, as_teacher, reading
from limbeck.training.distributed import world
from limbeck.training.interrupt import Interrupted, StopSignal
from limbeck.training.precision import Precision, choose
from limbeck.training.progress import Reporter, reporter
from limbeck.training.state import Follower

Addresses = NDArray[np.int64]
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
        splits: others, whose samples the teacher is asked about as they are, where they are the same each time.

    Raises:
        RecipeError: if the samples have no addresses or are not the same each time, or the teacher changes.
    """

    teacher: Teacher
    see: Seer
    replay: Replay
    layout: Layout
    precision: Precision
    splits: Mapping[str, Split]

    def __post_init__(self) -> None:
        keepable(self.see.split)
        if isinstance(self.teacher, Follower):
            raise RecipeError(
                "the teacher follows the student, so what it says of a view changes and can not be kept",
                cure="leave the store out",
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What the records depend on."""
        return identity(self.teacher, self.see, self.replay, self.precision.name)

    @property
    def heard(self) -> dict[str, Split]:
        """The other splits that are kept too."""
        return {name: split for name, split in self.splits.items() if split.addressed and split.replayable}

    @property
    def besides(self) -> int:
        """Bytes of what is said of the other splits."""
        return sum(len(split) for split in self.heard.values()) * 4 * self.layout.classes * (self.layout.members + 1)


def keepable(split: Split) -> None:
    """See that a store can keep what is said of a split.

    Raises:
        RecipeError: if its samples have no addresses, or random transforms of their own.
    """
    why = "has random transforms of its own: no view of it can be seen again"
    if not split.addressed:
        why = "is a DataLoader: its samples have no address"
    if not split.addressed or not split.replayable:
        raise RecipeError(
            f"split '{split.name}' {why}, so nothing that a teacher says of it can be kept",
            cure="give the Dataset without random transforms, and those as views; or ask the live teacher: store: none",
        )


def build(plan: Plan, folder: Path, *, batch_size: int = 256, workers: int = 0, told: Reporter) -> Store:
    """Build a store, go on with one that was begun, or open the one that is there.

    Of several processes, each asks about shards of its own, and the first one seals the store.

    Args:
        plan: what it shall hold.
        folder: where.
        batch_size: samples that the teacher is asked about at a time.
        workers: processes that make views.
        told: shows progress.

    Raises:
        ResumeError: if the folder holds a store of something else, or the beginning of one.
        FileError: if the disk has no room, or another process builds there.
        Interrupted: after SIGINT or SIGTERM; what was asked is kept.
    """
    if world().agreed((folder / FILE).exists()):
        return opened(plan, folder)
    began = time.monotonic()
    live = plan.teacher.placed(plan.precision.place)
    size = len(plan.see.split), plan.replay.views
    with closing(Filling(folder, plan.layout, *size, plan.identity, plan.besides)) as filling:
        asked = fill(plan, live, filling, batch_size=batch_size, workers=workers, told=told)
        store = finish(plan, filling, {"seconds": time.monotonic() - began, "asked": asked}, live=live)
    told.say(f"{folder}: {line(store.certificate)}")
    return store


def opened(plan: Plan, folder: Path) -> Store:
    """The finished store in a folder, once it is known to be what was planned.

    Raises:
        ResumeError: naming each field that differs.
        FileError: if a file of it is missing or damaged.
    """
    world().from_first(lambda: Store.open(folder, verify=False).verify())
    store = Store.open(folder, verify=False)
    store.check(plan.identity, plan.layout)
    probe(store, plan.see, plan.teacher.placed(plan.precision.place), plan.precision)
    kept = {"said": {name: one["split"] for name, one in store.manifest.said.items()}}
    refuse(folder, differences(kept, {"said": {name: _contents(split) for name, split in plan.heard.items()}}))
    tidy(folder)
    return store


def fill(plan: Plan, live: Teacher, filling: Filling, *, batch_size: int, workers: int, told: Reporter) -> int:
    """Ask the teacher about all views that are missing; of several processes, each fills shards of its own.

    Args:
        plan: what is asked.
        live: its teacher, on its device.
        filling: where answers are kept.
        batch_size: samples of a question.
        workers: processes that make views.
        told: shows progress.

    Returns:
        How many views were asked about here.

    Raises:
        Interrupted: after SIGINT or SIGTERM; what was asked is kept.
        FileError: if the disk is full; what was asked is kept.
    """
    own = world().share(filling.shards)
    pieces, known = _pieces(filling, own, batch_size)
    for note in filling.notes:
        told.say(note)
    if known:
        told.say(f"{filling.folder}: {known:,} of {sum(map(filling.length, own)):,} views are there already")
    maker = _Views(plan.see, *pieces, filling.samples)
    told.begin("store", 1, len(maker), filling.records)
    asked, noted, shard = 0, time.monotonic(), -1
    try:
        with StopSignal(patient=world().several) as stop:
            for done, (addresses, inputs, pixels) in enumerate(_stream(maker, workers), start=1):
                at = int(addresses[0]) // filling.per_shard
                if at != shard or time.monotonic() - noted >= NOTED:
                    filling.release() if at != shard else filling.flush()
                    noted, shard = time.monotonic(), at
                with torch.no_grad(), plan.precision.autocast():
                    said = pooled(live(plan.precision.inputs(inputs), addresses % filling.samples), plan.layout)
                filling.put(addresses.numpy(), encode(plan.layout, said, pixels))
                asked += len(addresses)
                told.batch(1, done, len(addresses), None)
                stop.raise_if_set()
    except Interrupted:
        told.say(f"{filling.folder} is not finished: the same command goes on with it")
        raise
    finally:
        told.end()
        filling.release()
    return asked


def finish(plan: Plan, filling: Filling, built: Mapping[str, Any], *, live: Teacher | None = None) -> Store:
    """Ask about the other splits, and make a store of what was filled.

    Of several processes, all must come here; the first one waits for the shards of the others, and seals.

    Args:
        plan: what was asked.
        filling: that has all its records.
        built: for the manifest: when, where, how long.
        live: the teacher on its device; None: it is placed there.

    Raises:
        FileError: if what was kept is not what the teacher says, see :mod:`limbeck.store.certificate`.
    """
    live = live or plan.teacher.placed(plan.precision.place)
    filling.release()
    world().wait()
    device = plan.precision.device
    whole = plan.teacher if device.type == "cpu" else live  # contiguous: as a run without a store asks
    said = {name: ask(whole, split, device=device, shared=True) for name, split in plan.heard.items()}

    def seal() -> None:
        kept = {name: _kept(filling.folder, name, plan.splits[name], outputs) for name, outputs in said.items()}
        again = certify(filling.get, live, plan.see, plan.layout, plan.precision, views=plan.replay.views)
        certificate = hold(again, filling.folder)  # before the manifest: what is not kept well is no store
        filling.seal(said=kept, certificate=certificate, built={**surroundings(), **built})

    world().from_first(seal)
    return Store(filling.folder, Manifest.read(filling.folder))


def _kept(folder: Path, name: str, split: Split, outputs: Outputs) -> dict[str, Any]:
    """Write what was said of a split; what the manifest says of the file."""
    tensors = {"logits": outputs.logits}
    if outputs.members is not None and outputs.weights is not None:
        tensors |= {"members": outputs.members, "weights": outputs.weights}
    path = write_tensors(folder / f"said-{name}.safetensors", tensors)
    return {"file": path.name, **describe(path), "split": _contents(split)}


def _contents(split: Split) -> str:
    """A digest of a split without its labels, which a teacher does not see."""
    return split.without_labels([]).fingerprint()


def _pieces(filling: Filling, shards: range, size: int) -> tuple[tuple[Addresses, Addresses], int]:
    """First and last addresses of all that is asked, in order, and how many records are known."""
    starts, stops, known = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for number in shards:
        first, length = number * filling.per_shard, filling.length(number)
        known += filling.known(number)
        starts.append(filling.pieces(number, size))
        stops.append(np.minimum(starts[-1] + size, first + length))
        filling.release()
    return (np.concatenate(starts), np.concatenate(stops)), known


def _stream(maker: _Views, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    numbers = range(len(maker))
    if workers and numbers:
        return prepared(maker, numbers, workers, maker.see.split.name)
    return (maker[number] for number in numbers)


@dataclass(frozen=True)
class _Views:
    """Pieces of the store: their addresses, the views there, and their checksums."""

    see: Seer
    starts: Addresses
    stops: Addresses
    samples: int

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        addresses = torch.arange(int(self.starts[number]), int(self.stops[number]))
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
    features: Sequence[str] = (),
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
    layers = (features,) if isinstance(features, str) else tuple(dict.fromkeys(features))
    taught = reading(as_teacher(teacher, normalization or data.normalization), layers)
    see = Seer(data.train, Sampler(data.train.targets, sampling), chosen, seed)
    keepable(see.split)
    with torch.no_grad():
        first = taught(see(torch.arange(1), 0)[0], torch.arange(1))
    members = 1 if first.members is None else len(first.members)
    weights = () if first.weights is None else tuple(first.weights.tolist())
    layout = Layout.choose(
        first.logits.shape[1],
        members=members,
        weights=weights,
        top=top,
        temperatures=temperatures,
        features=features_of(first, layers),
    )
    others = {"validation": data.validation, "test": data.test}
    plan = Plan(taught, see, Replay(seed, views), layout, choose(device, precision), others)
    return build(plan, Path(path), batch_size=batch_size, workers=workers, told=reporter(quiet=quiet))


__all__ = ["Plan", "build", "fill", "finish", "from_python", "keepable", "opened"]
