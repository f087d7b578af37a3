"""What this machine does in a second: a few steps of a training, the teacher, records, the disk; warmed up first."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, count, cycle
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.batches import batches
from limbeck.data.replay import pixel_checksum
from limbeck.data.split import Split
from limbeck.errors import LimbeckError
from limbeck.files import write_bytes
from limbeck.outputs import Outputs
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.store.codec import decode, encode
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.plan import PAGE
from limbeck.store.shards import gathered
from limbeck.teachers import ModuleTeacher, Teacher
from limbeck.training.precision import Precision, choose
from limbeck.training.settings import Settings

STEPS = 3  # that are timed at least, after one that warms up
LEAST, MOST = 0.01, 2.0  # seconds: what is short is repeated so long, what is long no longer
RECORDS = 128  # that are gathered at once
SEEKS = 48  # pages that are read at random places
_PIECES, _NUMBERS = 32, 1 << 22  # batches of records, numbers and bytes that are kept on trial at most


@dataclass(frozen=True)
class Pace:
    """Seconds a sample of a training: fetching it and making its view, and its step."""

    view: float
    step: float

    @property
    def total(self) -> float:
        """Both, one after the other."""
        return self.view + self.step


def seconds_each(work: Callable[[], int], precision: Precision | None = None) -> float:
    """Seconds for each of the things that ``work`` says it has done: the median of a few calls after the first.

    Args:
        work: is called several times.
        precision: whose device is waited for.
    """
    _done(work, precision)
    found: list[float] = []
    began = time.perf_counter()
    while not found or time.perf_counter() - began < (LEAST if len(found) >= STEPS else MOST):
        found.append(_done(work, precision))
    return statistics.median(found)


def pace(candidate: Candidate, split: Split, seed: int) -> Pace:
    """How fast a candidate trains, without a teacher: forward, backward and optimizer, of a copy.

    Args:
        candidate: with settings.
        split: training samples, with addresses.
        seed: of starting weights and views.
    """
    settings = trained(candidate)
    precision = precision_of(settings)
    module = precision.place(candidate.make(seed)).train()
    optimizer = torch.optim.AdamW([one for one in module.parameters() if one.requires_grad])
    batch, view = made(split, settings, seed)

    def step() -> int:
        inputs = candidate.preparation(precision.inputs(batch.inputs))
        with precision.autocast():
            outputs = module(inputs)
        Outputs.of(outputs).logits.float().logsumexp(dim=1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return len(batch)

    with torch.random.fork_rng(devices=[]):
        return Pace(view, seconds_each(step, precision))


def made(split: Split, settings: Settings, seed: int) -> tuple[Batch, float]:
    """A batch as the training sees it, and the seconds that a sample of one takes to be made."""
    epochs = (
        batches(
            split,
            batch_size=settings.batch_size,
            seed=seed,
            epoch=epoch,
            views=settings.views,
            sampling=settings.sampling,
        )
        for epoch in count()
    )
    stream = chain.from_iterable(epochs)
    return next(stream), seconds_each(lambda: len(next(stream)))


def taught(experiment: Experiment) -> Teacher:
    """The teacher of the students, the last of a chain, with the weights that it starts from: they cost the same."""
    seed, last = experiment.seeds[0], [one for _, _, one in experiment.between][-1:]
    alone = [
        ModuleTeacher(one.make(seed), one.preparation) if isinstance(one, Candidate) else one
        for one in (last or experiment.teachers)
    ]
    return alone[0] if last else experiment.joined(alone)


def asking(experiment: Experiment, settings: Settings, batch: Batch) -> float:
    """Seconds a sample of asking the teacher of the students, as their training asks it."""
    precision = precision_of(settings)
    teacher = taught(experiment).placed(precision.place)
    inputs = precision.inputs(batch.inputs)

    def ask() -> int:
        with precision.autocast():
            teacher(inputs, batch.index)
        return len(batch)

    with torch.random.fork_rng(devices=[]):
        return seconds_each(ask, precision)


def records(folder: Path, layout: Layout, inputs: Tensor) -> tuple[float, float]:
    """Seconds a record of keeping what a teacher said, and of decoding it; both compute the view's checksum.

    Args:
        folder: where some records are kept and removed again.
        layout: of a record.
        inputs: ``[B, …]`` of a batch.
    """
    draw = torch.Generator().manual_seed(0)
    size = min(len(inputs), max(_NUMBERS // (layout.classes * layout.members), 1))
    inputs = inputs[:size]
    pieces = min(max(_NUMBERS // (size * layout.stride), 1), _PIECES)
    members = torch.randn(layout.members, size, layout.classes, generator=draw)
    features = {name: torch.randn(size, length, generator=draw) for name, length in layout.features.items()}
    both = Outputs.ensemble(members, torch.full((len(members),), 1 / len(members)))
    said = Outputs(members[0], features) if len(members) == 1 else replace(both, features=features)
    places = cycle(np.random.default_rng(0).permutation(pieces * size).reshape(pieces, size))
    with (
        tempfile.TemporaryDirectory(prefix=".plan.", dir=folder) as inside,
        closing(Filling(Path(inside) / "store", layout, pieces * size, 1)) as filling,
    ):

        def write() -> int:
            at = next(places)
            filling.missing(at)
            filling.put(at, encode(layout, said, pixel_checksum(inputs)))
            return size

        wrote = seconds_each(write)
        kept = filling.get(next(places))

    def read() -> int:
        decode(layout, kept)
        return len(pixel_checksum(inputs))

    return wrote, seconds_each(read)


@dataclass(frozen=True)
class Disk:
    """What the disk under a folder does.

    Args:
        write: bytes a second, until they are safe.
        read: bytes a second, in order.
        seek: seconds of reading a page at a random place.
        gather: seconds of finding a record in a mapped file that is in memory.
        free: bytes.
    """

    write: float
    read: float
    seek: float
    gather: float
    free: int


def disk(folder: Path, layout: Layout, *, megabytes: int = 16) -> Disk:
    """Measure with a file that is removed again; reading is measured after the system was asked to forget the file.

    Args:
        folder: whose filesystem is measured; it must exist.
        layout: of a record that is gathered.
        megabytes: of the file.

    Raises:
        FileError: if it can not be written.
    """
    free = shutil.disk_usage(folder).free
    data = np.random.default_rng(0).bytes(megabytes << 20)  # what no disk can compress
    with tempfile.TemporaryDirectory(prefix=".plan.", dir=folder) as inside:
        path, began = Path(inside) / "measured", time.perf_counter()
        write_bytes(path, data)
        wrote = time.perf_counter() - began
        with open(path, "rb", buffering=0) as file:
            read = _in_order(file, len(data))
            seek = _at_random(file, len(data))
        gather = _gathering(path, layout)
    return Disk(len(data) / wrote, len(data) / read, seek, gather, free)


def trained(candidate: Candidate) -> Settings:
    """The settings of a candidate that is trained.

    Raises:
        LimbeckError: if it is not.
    """
    if candidate.settings is None:
        raise LimbeckError(f"{candidate.name} has weights and is not trained: there is nothing to distill into")
    return candidate.settings


def precision_of(settings: Settings) -> Precision:
    """Where and how a training computes."""
    return choose(settings.device, settings.precision, fast=settings.fast)


def _done(work: Callable[[], int], precision: Precision | None) -> float:
    """Seconds a thing of one call."""
    start = time.perf_counter()
    number = work()
    if precision is not None and precision.device.type == "cuda":
        torch.cuda.synchronize(precision.device)
    elif precision is not None and precision.device.type == "mps":
        torch.mps.synchronize()
    return (time.perf_counter() - start) / number


def _forget(file: BinaryIO, *, random_order: bool) -> None:
    """Ask the system to drop what it keeps of a file, and say how it will be read; some systems can not be asked."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        order = os.POSIX_FADV_RANDOM if random_order else os.POSIX_FADV_SEQUENTIAL
        os.posix_fadvise(file.fileno(), 0, 0, order)


def _in_order(file: BinaryIO, length: int) -> float:
    """Seconds of reading a file."""
    _forget(file, random_order=False)
    start, left = time.perf_counter(), length
    while left > 0 and (found := file.read(1 << 20)):
        left -= len(found)
    return time.perf_counter() - start


def _at_random(file: BinaryIO, length: int) -> float:
    """Seconds of reading a page at a random place: the median."""
    _forget(file, random_order=True)
    found = []
    for page in np.random.default_rng(0).permutation(length // PAGE)[:SEEKS].tolist():
        start = time.perf_counter()
        file.seek(page * PAGE)
        file.read(PAGE)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _gathering(path: Path, layout: Layout) -> float:
    """Seconds of finding a record in a file that is in memory, a batch of records at random places at a time."""
    whole = path.stat().st_size // layout.stride
    if not whole:
        return 0.0
    inside = np.asarray(np.memmap(path, layout.dtype, mode="r", shape=(whole,)))
    inside["pixels"].sum()  # brings the file into memory
    places = cycle(np.random.default_rng(0).integers(0, whole, (64, RECORDS)))
    return seconds_each(lambda: len(gathered(next(places), whole, layout.dtype, lambda number: inside)))


__all__ = ["Disk", "Pace", "asking", "disk", "made", "pace", "precision_of", "records", "seconds_each",
           "taught", "trained"]  # fmt: skip
