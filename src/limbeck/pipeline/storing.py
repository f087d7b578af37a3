"""The store of a run: what it shall hold, where, and whether that can be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.errors import RecipeError
from limbeck.files import read_json
from limbeck.objective.kept import check_kept, temperatures_read
from limbeck.outputs import Outputs
from limbeck.pipeline import auto
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.keeping import AUTO, BUILT, READ, Keeping
from limbeck.pipeline.stages import Context
from limbeck.pipeline.wish import StoreWish
from limbeck.store.build import Plan
from limbeck.store.dense import cost_of_maps
from limbeck.store.filling import BEGIN
from limbeck.store.identity import differences, refuse
from limbeck.store.layout import Layout
from limbeck.store.learning import features_of, pooled
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.store import keeps, single
from limbeck.teachers import Place, Teacher, reading
from limbeck.training.distributed import world
from limbeck.training.precision import choose
from limbeck.training.settings import Settings

FOLDER = "store"  # of a run, where its store lies unless it has a path


class Anyone:
    """Some teacher, where all but the teacher is looked at."""

    digest = "anyone"

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        return Outputs(inputs)

    def reading(self, layers: Sequence[str]) -> Anyone:
        """Itself."""
        return self

    def placed(self, place: Place) -> Anyone:
        """Itself."""
        return self


class _Pooled:
    """A teacher whose features are as its store keeps them, see :func:`as_kept`."""

    def __init__(self, teacher: Teacher, layout: Layout) -> None:
        self.teacher, self.layout = teacher, layout
        self.pooled = single(layout)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        return pooled(self.teacher(inputs, index), self.layout)

    def recall(self, batch: Batch, inputs: Tensor) -> Outputs:
        """What the live teacher says of a batch."""
        return self(inputs, batch.index)

    def flush(self) -> None:
        """Nothing: it keeps nothing."""

    def reading(self, layers: Sequence[str]) -> _Pooled:
        """Itself, which gives all that is kept."""
        keeps(self.layout, layers, Path(FOLDER))
        return self

    def placed(self, place: Place) -> _Pooled:
        """A copy whose teacher is placed."""
        return _Pooled(self.teacher.placed(place), self.layout)


def as_kept(experiment: Experiment, teacher: Teacher) -> Teacher:
    """A teacher as a student will hear it: with the pooled features that its store keeps, if it keeps any."""
    wish = experiment.store
    if wish is None or not wish.features:
        return teacher
    live = reading(teacher, wish.features)
    return _Pooled(live, _chosen(experiment, wish, None, _features(experiment, wish, teacher)))


@contextmanager
def kept(context: Context, teacher: Teacher, example: Outputs, *, at_once: bool = False) -> Iterator[Keeping | None]:
    """The store that a run asks for while it trains, and its end; None if it asks for none.

    Args:
        context: of the run.
        teacher: the live one.
        example: something that it said.
        at_once: build it before any training, as several processes do.
    """
    experiment, wish = context.experiment, context.experiment.store
    if wish is None:
        yield None
        return
    settings = _settings(experiment)
    plan = _plan(experiment, teacher, _chosen(experiment, wish, example, _features(experiment, wish, teacher)))
    folder = _folder(context, wish, plan)
    plan = _plan(experiment, teacher, _there(folder, wish) or plan.layout)
    found = Keeping(
        plan,
        folder,
        wish,
        context.reporter,
        batch_size=settings.batch_size,
        at_once=at_once or world().several,
        workers=settings.workers,
    )
    try:
        views = "view" if plan.replay.views == 1 else "views"
        doing = {READ: "are read", BUILT: "were asked for", AUTO: "are kept as they are seen"}[found.mode]
        size = f"{plan.replay.views} {views} of {len(plan.see.split):,} samples"
        context.reporter.say(f"store: {size}, {plan.layout.stride} bytes each, {doing}: {folder}")
        yield found
        found.end()
    finally:
        found.close()


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
    if experiment.task.dense:
        raise RecipeError(
            f"teacher.store: {of_maps(experiment, settings.replay.views if settings.replay else 1)}",
            cure="leave the store out: the live teacher is asked at every step",
        )
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
    plan = _plan(experiment, Anyone(), _chosen(experiment, wish, None, {}))
    folder = _folder(context, wish, plan)
    layout = _there(folder, wish) or plan.layout
    objectives = [auto.objective(point) for point in auto.points(experiment)] if experiment.search else []
    for objective in objectives or [experiment.objective]:
        check_kept(objective, layout.classes, layout.top, layout.temperatures, tuple(layout.features) or wish.features)
    if (folder / FILE).exists():
        now, there = (dict(one) for one in (plan.identity, Manifest.read(folder).identity))
        del now["teacher"], there["teacher"]  # it may be trained first
        refuse(folder, differences(there, now))


def of_maps(experiment: Experiment, views: int, *, samples: int | None = None, classes: int | None = None) -> str:
    """That maps of logits are not stored, and what they would cost.

    Args:
        experiment: whose samples are patches.
        views: of each.
        samples, classes: other numbers than the experiment's own.
    """
    data = experiment.data
    return cost_of_maps(classes or len(data.classes), data.shape[1:], samples or len(data.train), views)


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


def _chosen(experiment: Experiment, wish: StoreWish, example: Outputs | None, features: Mapping[str, int]) -> Layout:
    """What a record holds: what was asked for, else what the objective reads.

    Args:
        experiment: with the objective.
        wish: what was asked for.
        example: something that the teacher said; None: as many members as there are teachers.
        features: the length of each that is kept.
    """
    count = len(experiment.teachers)
    weights = (1 / count,) * count if count > 1 else ()
    if example is not None:
        count = 1 if example.members is None else len(example.members)
        weights = () if example.weights is None else tuple(example.weights.tolist())
    read = temperatures_read(experiment.objective)
    if experiment.search:
        read = tuple(sorted({*read, *auto.TEMPERATURES}))
    return Layout.choose(
        len(experiment.data.classes),
        members=count,
        weights=weights,
        top=wish.top,
        temperatures=wish.temperatures or read or (1.0,),
        features=features,
    )


def _features(experiment: Experiment, wish: StoreWish, teacher: Teacher) -> dict[str, int]:
    """The length of each pooled feature that is asked for, seen on a sample."""
    if not wish.features:
        return {}
    inputs, index = experiment.data.train.fetch(torch.arange(1))[0], torch.arange(1)
    with torch.no_grad():
        return features_of(reading(teacher, wish.features)(inputs, index), wish.features)


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
        FileError: if it can not be read.
    """
    if (folder / FILE).exists():
        layout = Manifest.read(folder).layout
    elif (folder / BEGIN).exists():
        layout = Layout.from_dict(read_json(folder / BEGIN)["record"], f"{folder / BEGIN}: record")
    else:
        return None
    found = [] if wish.top in (None, layout.top) else [f"record.top: kept {layout.top}, now {wish.top}"]
    lists: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {"features": (tuple(layout.features), wish.features)}
    if layout.top:  # all logits serve any temperature
        lists["temperatures"] = (layout.temperatures, wish.temperatures or ())
    for name, (there, asked) in lists.items():
        if not set(asked) <= set(there):
            found.append(f"record.{name}: kept {list(there)}, now {list(asked)}")
    refuse(folder, found)
    return layout


__all__ = ["Anyone", "Keeping", "as_kept", "check", "kept", "of_maps"]
