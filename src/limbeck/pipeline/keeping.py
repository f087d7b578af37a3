"""The store of a run while it is run: read, built beforehand, or learned by the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.outputs import Outputs
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.wish import StoreWish
from limbeck.store.build import Plan, build, fill, finish
from limbeck.store.certificate import line, probe
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.learning import LearningStore
from limbeck.store.manifest import FILE
from limbeck.store.store import Store
from limbeck.teachers import Place, Teacher
from limbeck.training.distributed import world
from limbeck.training.progress import Reporter

AUTO, READ, BUILT = "auto", "read", "built"


class Keeping:
    """The store of a run: a finished one that is read, or one that is learned until every view is known.

    Args:
        plan: what it holds.
        folder: where.
        wish: how it was asked for.
        told: shows progress.
        batch_size: samples that the teacher is asked about at a time, where it is not asked by a training.
        at_once: build what is not there yet, before any training; else it is learned.
        workers: processes that make views, where it is built.

    Raises:
        ResumeError: if there is a store of something else.
        FileError: if the disk has no room, or a file of the store is not as it was written.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        wish: StoreWish,
        told: Reporter,
        *,
        batch_size: int,
        at_once: bool = False,
        workers: int = 0,
    ) -> None:
        self.plan, self.folder, self.wish, self.told, self.batch_size = plan, folder, wish, told, batch_size
        self.identity = plan.identity
        self.key = key_of({"identity": self.identity, "record": plan.layout.to_dict()})
        self.store: Store | None = None
        self.asked, self._learned = _Asked(plan.teacher), (0, 0.0)
        there = world().agreed((folder / FILE).exists())
        self.mode = READ if there else BUILT if at_once else AUTO
        if self.mode == READ:
            self.store = self._opened()
        elif at_once:
            self.store = build(plan, folder, batch_size=batch_size, workers=workers, told=told)
        else:
            size = len(plan.see.split), plan.replay.views
            filling = Filling(folder, plan.layout, *size, self.identity, plan.besides)
            self.learning = LearningStore(self.asked.placed(plan.precision.place), filling)
            for note in filling.notes:
                told.say(note)

    def teacher(self) -> Teacher:
        """What a training hears: the finished store, or the one that learns from the live teacher."""
        if self.store is None and self.learning.known:
            self._seal()
        return self.store or self.learning

    def end(self) -> None:
        """Make a store of what was learned.

        Views that no training has seen are asked for if the store has a path of its own, so that it is wanted
        elsewhere; else it is left to be gone on with.
        """
        if self.store is not None:
            return
        if self.learning.known:
            return self._seal()
        self.learning.flush()
        known, records = self.known, self.learning.filling.records
        if self.wish.path is None:
            self.told.say(
                f"the store knows {known:,} of {records:,} views, which is all that was needed: it is left so"
            )
            return None
        self.told.say(f"store: {known:,} of {records:,} views were seen; the teacher is asked about the others")
        size = self.batch_size
        fill(self.plan, self.learning.teacher, self.learning.filling, batch_size=size, workers=0, told=self.told)
        return self._seal()

    def close(self) -> None:
        """Put what was learned on the disk, and let go of the folder."""
        if self.store is None:
            self.learning.close()

    @property
    def known(self) -> int:
        """How many views of how many samples are known."""
        if self.store is not None:
            return self.store.manifest.records
        filling = self.learning.filling
        return sum(filling.known(number) for number in range(filling.shards))

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of it."""
        asked = {"samples": self._learned[0], "seconds": round(self._learned[1], 3)}
        if self.store is not None:
            if self.mode == BUILT:
                built = self.store.manifest.built
                asked = {"samples": built.get("asked", 0), "seconds": round(built.get("seconds", 0.0), 3)}
            return {**of_finished(self.store), "mode": self.mode, "asked": asked}
        layout, views, samples = self.plan.layout, self.plan.replay.views, len(self.plan.see.split)
        asked = {"samples": self.asked.samples, "seconds": round(self.asked.seconds, 3)}
        about = _about(self.folder, layout, views, samples, self.identity)
        return {**about, "finished": False, "known": self.known, "mode": self.mode, "asked": asked}

    def _opened(self) -> Store:
        """The store that is there, once it is known to be this one."""
        world().from_first(lambda: repr(Store.open(self.folder, verify=self.wish.verify, told=self.told)))
        store = Store.open(self.folder, verify=False)
        store.check(self.identity, self.plan.layout)
        probe(store, self.plan.see, self.plan.teacher.placed(self.plan.precision.place), self.plan.precision)
        return store

    def _seal(self) -> None:
        self._learned = self.asked.samples, self.asked.seconds  # without what the certificate asks
        about = {"seconds": round(self.asked.seconds, 3), "asked": self.asked.samples, "mode": AUTO}
        self.store = finish(self.plan, self.learning.filling, about, live=self.learning.teacher)
        self.learning.filling.close()
        self.told.say(f"store: {self.folder} is finished: {line(self.store.certificate)}")


def of_finished(store: Store) -> dict[str, Any]:
    """What ``summary.json`` says of a finished store that is read."""
    manifest = store.manifest
    return {
        **_about(store.folder, store.layout, manifest.views, manifest.samples, manifest.identity),
        "finished": True,
        "known": manifest.records,
        "mode": READ,
        "asked": {"samples": 0, "seconds": 0.0},
        "certificate": dict(manifest.certificate),
        "built": dict(manifest.built),
    }


def _about(folder: Path, layout: Layout, views: int, samples: int, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": str(folder),
        "views": views,
        "samples": samples,
        "records": views * samples,
        "bytes": views * samples * layout.stride,
        "bytes_per_view": layout.stride,
        "layout": layout.to_dict(),
        "seed": identity["views"]["seed"],
        "precision": identity["precision"],
        "identity": key_of(dict(identity)),
        "certificate": {},
        "built": {},
    }


class _Asked:
    """A teacher, and how long it was asked about how many samples."""

    def __init__(self, teacher: Teacher, counts: list[float] | None = None) -> None:
        self.teacher, self._counts = teacher, [0.0, 0.0] if counts is None else counts

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        began = time.monotonic()
        said = self.teacher(inputs, index)
        self._counts[0] += time.monotonic() - began
        self._counts[1] += len(inputs)
        return said

    def placed(self, place: Place) -> _Asked:
        """A copy whose teacher is placed, with the same counts."""
        return _Asked(self.teacher.placed(place), self._counts)

    @property
    def seconds(self) -> float:
        """So long it was asked; without what a device computes meanwhile."""
        return self._counts[0]

    @property
    def samples(self) -> int:
        """So many samples it was asked about."""
        return int(self._counts[1])


__all__ = ["AUTO", "BUILT", "READ", "Keeping", "of_finished"]
