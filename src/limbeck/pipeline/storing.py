"""The store of a run: what it shall hold and where, and whether it is read, built, or learned by the way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.errors import RecipeError, ResumeError
from limbeck.files import read_json
from limbeck.objective.kept import check_kept, temperatures_read
from limbeck.outputs import Outputs
from limbeck.pipeline import auto
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.stages import Context
from limbeck.pipeline.wish import StoreWish
from limbeck.store.build import Plan, build, fill, finish
from limbeck.store.filling import BEGIN, Filling
from limbeck.store.identity import differences
from limbeck.store.layout import Layout
from limbeck.store.learning import LearningStore
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.store import Store
from limbeck.teachers import Place, Teacher, reading
from limbeck.training.distributed import world
from limbeck.training.precision import choose
from limbeck.training.progress import Reporter
from limbeck.training.settings import Settings

FOLDER = "store"  # of a run, where its store lies unless it has a path
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

    Raises:
        ResumeError: if there is a store of something else.
        FileError: if the disk has no room, or a file of the store is not as it was written.
    """

    def __init__(
        self, plan: Plan, folder: Path, wish: StoreWish, told: Reporter, *, batch_size: int, at_once: bool = False
    ) -> None:
        self.plan, self.folder, self.wish, self.told, self.batch_size = plan, folder, wish, told, batch_size
        self.identity = plan.identity
        self.key = key_of({"identity": self.identity, "record": plan.layout.to_dict()})
        self.store: Store | None = None
        self.asked = _Asked(plan.teacher)
        self.mode = READ if (folder / FILE).exists() else BUILT if at_once else AUTO
        if self.mode == READ:
            self.store = Store.open(folder, verify=wish.verify)
            self.store.check(self.identity)
        elif at_once:
            self.store = build(plan, folder, batch_size=batch_size, told=told)
        else:
            filling = Filling(folder, plan.layout, len(plan.see.split), plan.replay.views, self.identity)
            for note in filling.notes:
                told.say(note)
            self.learning = LearningStore(self.asked.placed(plan.precision.place), filling)

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

    @property
    def known(self) -> int:
        """How many views of how many samples are known."""
        if self.store is not None:
            return self.store.manifest.records
        import numpy as np

        filling = self.learning.filling
        pieces = np.array_split(np.arange(filling.records), max(filling.shards, 1))
        return sum(int((~filling.missing(piece)).sum()) for piece in pieces)

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of it."""
        layout, views, samples = self.plan.layout, self.plan.replay.views, len(self.plan.see.split)
        manifest = None if self.store is None else self.store.manifest
        return {
            "path": str(self.folder),
            "mode": self.mode,
            "finished": manifest is not None,
            "views": views,
            "samples": samples,
            "records": views * samples,
            "known": self.known,
            "bytes": views * samples * layout.stride,
            "bytes_per_view": layout.stride,
            "layout": layout.to_dict(),
            "seed": self.plan.replay.seed,
            "precision": self.plan.precision.name,
            "identity": key_of(self.identity),
            "certificate": dict(manifest.certificate) if manifest is not None else {},
            "asked": {"samples": self.asked.samples, "seconds": round(self.asked.seconds, 3)},
            "built": dict(manifest.built) if manifest is not None else {},
        }

    def _seal(self) -> None:
        self.store = finish(self.plan, self.learning.filling, {"seconds": round(self.asked.seconds, 3), "mode": AUTO})


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


class _Anyone:
    """Some teacher, where all but the teacher is looked at."""

    digest = "anyone"

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        return Outputs(inputs)

    def reading(self, layers: Sequence[str]) -> _Anyone:
        """Itself."""
        return self

    def placed(self, place: Place) -> _Anyone:
        """Itself."""
        return self


def begin(context: Context, teacher: Teacher, example: Outputs, *, at_once: bool = False) -> Keeping | None:
    """The store that a run asks for; None if it asks for none.

    Args:
        context: of the run.
        teacher: the live one.
        example: something that it said.
        at_once: build it before any training, as several processes do.
    """
    experiment, wish = context.experiment, context.experiment.store
    if wish is None:
        return None
    count = 1 if example.members is None else len(example.members)
    weights = () if example.weights is None else tuple(example.weights.tolist())
    plan = _plan(experiment, teacher, _chosen(experiment, wish, count, weights))
    folder = _folder(context, wish, plan)
    plan = _plan(experiment, teacher, _there(folder, wish) or plan.layout)
    size = _settings(experiment).batch_size
    found = Keeping(plan, folder, wish, context.reporter, batch_size=size, at_once=at_once or world().several)
    views = "view" if plan.replay.views == 1 else "views"
    doing = {READ: "is read", BUILT: "is built", AUTO: "is learned as the views are seen"}[found.mode]
    context.reporter.say(f"store: {plan.replay.views} {views} of {len(plan.see.split):,} samples, {doing}: {folder}")
    return found


def check(context: Context) -> None:
    """Refuse a store that can not be right, or one that is there and is another's, before anything is trained.

    Raises:
        RecipeError: if samples can not be seen again, or a term needs what is not kept.
        ResumeError: naming the field that differs.
    """
    experiment, wish = context.experiment, context.experiment.store
    if wish is None:
        return
    if not experiment.teachers:
        raise RecipeError("this run has no teacher whose outputs could be stored", cure="leave the store out")
    settings, data = _settings(experiment), experiment.data
    if not data.train.replayable:
        raise RecipeError(
            "the training data have an order or random transforms of their own, so no view of them can be stored",
            cure="give the Dataset without them, and views",
        )
    if experiment.labels is not None and settings.views.mixes and settings.sampling == "balanced":
        raise RecipeError(
            "the samples that are mixed in would be drawn by the labels of each seed, and so have no stored views",
            cure="set sampling to none, or use all labels, or leave the store out",
        )
    count = len(experiment.teachers)
    layout = _chosen(experiment, wish, count, (1 / count,) * count if count > 1 else ())
    plan = _plan(experiment, _Anyone(), layout)
    folder = _folder(context, wish, plan)
    layout = _there(folder, wish) or layout
    objectives = [auto.objective(point) for point in auto.points(experiment)] if experiment.search else []
    for objective in objectives or [experiment.objective]:
        check_kept(objective, layout.classes, layout.top, layout.temperatures, tuple(layout.features) or wish.features)
    if (folder / FILE).exists():
        kept, now = (dict(one) for one in (Manifest.read(folder).identity, plan.identity))
        kept.pop("teacher"), now.pop("teacher")  # it may be trained first
        found = list(differences(kept, now))
        if found:
            raise ResumeError(
                f"{folder} is a store of something else: {'; '.join(found[:6])}",
                cure="put that back, or build another store at another path",
            )


def _settings(experiment: Experiment) -> Settings:
    settings = experiment.student.settings
    if settings is None:
        raise RecipeError("the student has weights and is not trained: no teacher is asked", cure="leave the store out")
    return settings


def _plan(experiment: Experiment, teacher: Teacher, layout: Layout) -> Plan:
    settings, train = _settings(experiment), experiment.data.train
    replay = settings.replay or Replay(experiment.seeds[0], 1)
    return Plan(
        teacher=reading(teacher, tuple(layout.features)),
        see=Seer(train, Sampler(train.targets, settings.sampling), settings.views, replay.seed),
        replay=replay,
        layout=layout,
        precision=choose(settings.device, settings.precision, fast=settings.fast),
        splits={name: split for name, split in experiment.data.splits.items() if name != "train"},
    )


def _chosen(experiment: Experiment, wish: StoreWish, members: int, weights: tuple[float, ...]) -> Layout:
    """What a record holds: what was asked for, else what the objective reads."""
    read = temperatures_read(experiment.objective)
    if experiment.search:
        read = tuple(sorted({*read, *auto.TEMPERATURES}))
    return Layout.choose(
        len(experiment.data.classes),
        members=members,
        weights=weights,
        top=wish.top,
        temperatures=wish.temperatures or read or (1.0,),
    )


def _folder(context: Context, wish: StoreWish, plan: Plan) -> Path:
    """Where the store lies: at its path, in the run, or where the runs of a sweep have it in common."""
    if wish.path is not None:
        return Path(wish.path)
    if context.run.shared is None:
        return context.run.path / FOLDER
    key = key_of({"identity": plan.identity, "record": plan.layout.to_dict()})
    return context.run.shared / f"{FOLDER}-{key[:16]}"


def _there(folder: Path, wish: StoreWish) -> Layout | None:
    """What the records of the store in a folder hold, finished or not; None: there is none.

    Raises:
        ResumeError: if they do not hold what is asked for.
    """
    if (folder / FILE).exists():
        layout = Manifest.read(folder).layout
    elif (folder / BEGIN).exists():
        layout = Layout.from_dict(read_json(folder / BEGIN)["record"])
    else:
        return None
    asked: Mapping[str, Any] = {"top": wish.top, "temperatures": wish.temperatures, "features": wish.features or None}
    kept = {"top": layout.top, "temperatures": layout.temperatures, "features": tuple(layout.features)}
    if not layout.top:
        kept["temperatures"] = wish.temperatures or ()  # all logits serve any
    found = [
        f"{name}: kept {kept[name]}, now {value}" for name, value in asked.items() if value not in (None, kept[name])
    ]
    if found:
        raise ResumeError(
            f"{folder} is a store of something else: {'; '.join(found)}",
            cure="ask for what is kept, or build another store at another path",
        )
    return layout


__all__ = ["Keeping", "begin", "check"]
