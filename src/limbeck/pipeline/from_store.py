"""A run whose teacher is a store alone: no live teacher is there, and its views are the store's."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from limbeck.data.replay import Seer
from limbeck.data.sampling import Sampler
from limbeck.data.views import Views
from limbeck.data.views.views import LATER
from limbeck.errors import RecipeError
from limbeck.objective.kept import check_kept
from limbeck.pipeline import auto
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.storing import Anyone
from limbeck.store.certificate import probe
from limbeck.store.identity import differences, identity, refuse
from limbeck.store.manifest import FILE
from limbeck.store.store import Store
from limbeck.training.settings import Settings


def opened(teacher: Any) -> Any:
    """The store at a path; any other teacher as it is.

    Raises:
        FileError: if a file of the store is not as it was written.
        RecipeError: if a store stands among other teachers.
    """
    if isinstance(teacher, list | tuple):
        if any(isinstance(opened(one), Store) for one in teacher):
            raise RecipeError(
                "a store is the only teacher of a run: it is asked about views, and other teachers about samples",
                cure="build the store of the whole ensemble, and give that",
            )
        return teacher
    if isinstance(teacher, str | Path) and (Path(teacher) / FILE).exists():
        return Store.open(teacher)
    return teacher


def settled(store: Store, settings: Settings, given: Collection[str]) -> Settings:
    """Settings with the views of a store.

    Args:
        store: the teacher.
        settings: of the student.
        given: those that were asked for, and must then be the store's.

    Raises:
        ResumeError: naming the field that differs.
    """
    kept = store.manifest.identity["views"]
    if "views" in given:
        now = json.loads(json.dumps({**kept, **LATER, **settings.views.plain()}))
        refuse(store.folder, differences({"views": {**LATER, **kept}}, {"views": now}))
    own = Views(**{one.name: kept[one.name] for one in fields(Views) if one.name in kept})
    if own.mixes and "sampling" not in given:
        settings = replace(settings, sampling=kept["sampling"])
    return replace(settings, views=own, replay=store.replay)


def store_of(experiment: Experiment) -> Store | None:
    """The store that is the teacher, if it is one."""
    teacher = experiment.teachers[0] if len(experiment.teachers) == 1 else None
    return teacher if isinstance(teacher, Store) else None


def check(experiment: Experiment) -> None:
    """See that the teacher's store is of these data and views, and keeps what the objective reads.

    Raises:
        RecipeError: naming the term that needs what is not kept.
        ResumeError: naming the field that differs.
        FileError: if a view has other pixels, or a file is not as it was written.
    """
    store, settings = store_of(experiment), experiment.student.settings
    if store is None or settings is None:
        return
    if experiment.store is not None:
        raise RecipeError("the teacher is a store already", cure="leave the store out")
    if experiment.task.dense:
        raise RecipeError(
            "the teacher is a store, which keeps one row of logits for a view, and these data have masks",
            cure="give the live teacher",
        )
    layout, train = store.layout, experiment.data.train
    objectives = [auto.objective(point) for point in auto.points(experiment)] if experiment.search else []
    for objective in objectives or [experiment.objective]:
        check_kept(objective, layout.classes, layout.top, layout.temperatures, tuple(layout.features))
    see = Seer(train, Sampler(train.targets, settings.sampling), settings.views, store.replay.seed)
    kept, now = dict(store.manifest.identity), identity(Anyone(), see, store.replay, "")
    for name in ("teacher", "precision"):  # of the teacher that is not there
        del kept[name], now[name]
    refuse(store.folder, differences(kept, now))
    for name, split in experiment.data.splits.items():
        if name != "train":
            store.says(name, split)
    probe(store, see)


def digest(store: Store) -> str:
    """sha256 of all that a store says."""
    files = [one["sha256"] for one in store.manifest.files]
    return key_of([dict(store.manifest.identity), store.layout.to_dict(), files])


def called(store: Store) -> str:
    """The name of the teacher that was kept."""
    known = store.manifest.identity["teacher"]
    return f"{known.get('class', known.get('kind', 'teacher'))}, in a store"
