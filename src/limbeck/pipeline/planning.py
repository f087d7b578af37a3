"""What a run would cost with the teacher at every step and with a store, from what this machine was seen to do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck.data.datasets import LoaderSplit
from limbeck.errors import RecipeError
from limbeck.files import Journal, read_json, write_json
from limbeck.models.lookup import user_models
from limbeck.objective.kept import check_kept, temperatures_read
from limbeck.pipeline import storing
from limbeck.pipeline.auto import TEMPERATURES
from limbeck.pipeline.experiment import Experiment, from_recipe
from limbeck.pipeline.fits import check_fits, some_inputs
from limbeck.pipeline.folder import environment
from limbeck.pipeline.memory_format import without_channels_last_where_refused
from limbeck.pipeline.rates import Pace, asking, disk, made, pace, precision_of, records, taught, trained
from limbeck.pipeline.reusing import resolved
from limbeck.pipeline.stages import Context
from limbeck.pipeline.storing import FOLDER
from limbeck.pipeline.wish import VIEWS, StoreWish
from limbeck.recipe.recipe import Recipe
from limbeck.store.layout import Layout
from limbeck.store.learning import features_of
from limbeck.store.manifest import FILE as MANIFEST
from limbeck.store.plan import ONLINE, Question, Rates, planned
from limbeck.teachers import reading
from limbeck.training.distributed import world
from limbeck.training.memory import memory
from limbeck.training.settings import Settings

FILE = "plan.json"
NOT_LINEAR = (
    "times grow with samples, views and epochs as they are, at the rates of this machine",
    "several processes share the work evenly, and one disk and memory like these",
    "models and batches are as measured, however many classes there are; evaluation and the teacher's own training "
    "are not counted",
)
SAME = "the student's views change nothing as it is, so making them is not in these times"


@dataclass(frozen=True)
class Numbers:
    """Numbers to plan for; None: the experiment's own."""

    samples: int | None = None
    classes: int | None = None
    views: int | None = None
    epochs: int | None = None
    processes: int | None = None

    def __bool__(self) -> bool:
        return any(one is not None for one in asdict(self).values())

    @property
    def elsewhere(self) -> bool:
        """Whether other data or machines are meant than those that are here."""
        return any(one is not None for one in (self.samples, self.classes, self.processes))


def plan_recipe(
    recipe: Recipe, folder: Path, numbers: Numbers | None = None, *, models: Path | None = None
) -> dict[str, Any]:
    """The plan of a recipe, without training anything.

    Args:
        recipe: with a teacher.
        folder: of the run that it would be; nothing is left there.
        numbers: to plan for besides the recipe's own.
        models: the user's own models, a Python file.

    Returns:
        As of :func:`plan`.

    Raises:
        LimbeckError: if the recipe is wrong, the data can not be read, or a model does not take them.
    """
    experiment = from_recipe(recipe.to_dict(), user_models(models) if models else None)
    for candidate in [*experiment.candidates, *experiment.assistants, experiment.student]:
        check_fits(candidate.make(experiment.seeds[0]), candidate, experiment.data)
    experiment = without_channels_last_where_refused(experiment)
    there = next(one for one in [folder, *folder.absolute().parents] if one.is_dir())
    before = torch.get_num_threads()
    try:
        if experiment.threads:
            torch.set_num_threads(experiment.threads)
        return plan(experiment, there, numbers)
    finally:
        torch.set_num_threads(before)


def plan(
    experiment: Experiment,
    folder: Path,
    numbers: Numbers | None = None,
    *,
    paces: Mapping[str, Pace] | None = None,
    megabytes: int = 32,
) -> dict[str, Any]:
    """Measure this machine for a few seconds, and say what both ways cost and which to take.

    Args:
        experiment: with a teacher and a student that is trained.
        folder: which lies on the disk that is measured.
        numbers: to plan for besides the experiment's own.
        paces: of ``student`` and ``control``, if they were measured.
        megabytes: that are written on trial.

    Returns:
        Plain data: ``rates`` (seconds a sample or record, bytes a second), ``machine``, the plan ``here`` and for the
        ``given`` numbers as of :meth:`limbeck.store.plan.Plan.to_dict` (None: there are none), ``take`` and
        ``reason`` of the latter if there is one, and ``notes`` on what is extrapolated. Where nothing can be tried,
        rates and plans are None.

    Raises:
        RecipeError: if there is no teacher.
        LimbeckError: if the student is not trained.
    """
    if not experiment.teachers:
        raise RecipeError("this run has no teacher, so there is nothing to store", cure="name a teacher")
    settings, split = trained(experiment.student), experiment.data.train
    if isinstance(split, LoaderSplit):
        reason = f"split '{split.name}' is a DataLoader: its samples have no address, so nothing can be stored of them"
        return _online(reason)
    if experiment.task.dense:
        return _online(_of_maps(experiment, numbers or Numbers()))
    seed, precision = experiment.seeds[0], precision_of(settings)
    paces = dict(paces or {})
    control = paces.get("control") or pace(experiment.student, split, seed)
    learner = resolved(experiment).learner
    student = paces.get("student") or (control if learner is experiment.student else pace(learner, split, seed))
    batch, _ = made(split, settings, seed)
    teacher = asking(experiment, settings, batch)

    def counted(asked: Question, *, elsewhere: bool = False) -> tuple[Rates, dict[str, Any]]:
        write, read = records(folder, asked.layout, batch.inputs)
        under = disk(folder, asked.layout, megabytes=megabytes)
        found = Rates(teacher, student.step, control.step, control.view, write, read + under.gather, under.seek,
                      under.write, under.read, under.free, memory() or 0)  # fmt: skip
        return found, planned(asked, found, elsewhere=elsewhere).to_dict()

    rates, here = counted(question(experiment))
    given = None
    if numbers:
        given = counted(question(experiment, numbers), elsewhere=numbers.elsewhere)[1]
    machine = {"precision": precision.name, "computes": str(precision.device), "batch": len(batch)}
    return {
        "rates": asdict(rates),
        "machine": environment() | machine,
        "here": here,
        "given": given,
        "take": (given or here)["take"],
        "reason": (given or here)["reason"],
        "notes": [*NOT_LINEAR, *([SAME] if settings.views.identity and numbers and numbers.views else [])],
    }


def _online(reason: str) -> dict[str, Any]:
    """The plan where nothing can be stored, so that there is nothing to compare."""
    return {"rates": None, "here": None, "given": None, "take": ONLINE, "reason": reason, "notes": []}


def _of_maps(experiment: Experiment, numbers: Numbers) -> str:
    """Why maps of logits are not stored, for the experiment's own numbers or others."""
    views = numbers.views or _views(trained(experiment.student), numbers)
    return storing.of_maps(experiment, views, samples=numbers.samples, classes=numbers.classes)


def _views(settings: Settings, numbers: Numbers) -> int:
    """How many views of each sample a store has, unless told otherwise."""
    if settings.replay:
        return settings.replay.views
    return 1 if settings.views.identity else min(VIEWS, numbers.epochs or settings.epochs)


def question(experiment: Experiment, numbers: Numbers | None = None) -> Question:
    """What an experiment asks of a teacher.

    Args:
        experiment: with a student that is trained.
        numbers: instead of its own.
    """
    numbers, settings, store = numbers or Numbers(), trained(experiment.student), experiment.store
    split, objective, seeds = experiment.data.train, experiment.objective, len(experiment.seeds)
    samples, epochs = numbers.samples or len(split), numbers.epochs or settings.epochs
    classes = numbers.classes or len(experiment.data.classes)
    views = numbers.views or _views(settings, numbers)
    seen_once = (
        settings.views.identity and split.replayable and not objective.reads_layers and not experiment.task.dense
    )
    fits = 4 * samples * classes <= (memory() or math.inf)  # what was said, in memory
    layout, impossible = _layout(experiment, store, classes)
    if not split.replayable:
        impossible = f"samples of split '{split.name}' are not the same when fetched again, so no view can be replayed"
    return Question(
        samples=samples,
        layout=layout,
        views=views,
        epochs=epochs,
        students=seeds * (objective.needs_teacher + experiment.needs_hard_labels),
        controls=seeds * (experiment.control and split.labeled > 0),
        processes=numbers.processes or world().size,
        mode=_mode(store, numbers),
        once=seen_once and store is None and views == 1 and fits,
        impossible=impossible,
    )


def write_plan(context: Context, paces: Mapping[str, Pace]) -> dict[str, Any]:
    """The plan of a run as ``plan.json``; one that was made before the run was stopped is kept.

    Args:
        context: of the run.
        paces: as of :func:`plan`.
    """
    path = context.run.path / FILE
    if path.exists():
        found: dict[str, Any] = read_json(path)
        return found
    found = plan(context.experiment, context.run.path, paces=paces, megabytes=8)
    write_json(path, found)
    return found


def compared(folder: Path, store: str | Path | None = None) -> dict[str, Any] | None:
    """What was planned for a run, and what it took; None without a plan.

    Args:
        folder: of the run.
        store: folder of its store; in the run by default.

    Returns:
        ``planned`` and ``took``, each with the seconds of an epoch of a ``control``, of a student that reads the
        store (``stored``), of one that fills it (``building``), the seconds of all trainings (``total_stored``), and
        the ``bytes`` of the store's records; None where there was none. Of epochs the median over epochs and seeds
        is told. What was planned has the seconds of an ``online`` epoch too, of the ``teacher`` and of all trainings
        with it at every step (``total_online``). ``take`` and ``reason`` are the plan's.
    """
    if not (folder / FILE).is_file():
        return None
    made_before = read_json(folder / FILE)
    here = made_before["here"]
    if here is None:
        return None
    store = Path(store or folder / FOLDER)
    filling, reading = _asking_epochs(folder, here)
    control = [second for one in _epochs(folder, "control") for second in one]
    took = {
        "control": _median(control),
        "stored": _median(reading),
        "building": _built(store, here) if here["question"]["ahead"] else _median(filling),
        "total_stored": sum([*control, *filling, *reading]) or None,
        "bytes": _bytes(store),
    }
    said = dict(here["epoch"]) | {"bytes": here["bytes"], "teacher": here["stored"]["teacher"]}
    said |= {"total_online": here["online"]["total"], "total_stored": here["stored"]["total"]}
    return {"planned": said, "took": took, "take": made_before["take"], "reason": made_before["reason"]}


def _layout(experiment: Experiment, store: StoreWish | None, classes: int) -> tuple[Layout, str]:
    """A record that suffices for the objective, and why there is none."""
    members = len(experiment.teachers)
    given = experiment.weights or (1.0,) * members
    weights = tuple(one / sum(given) for one in given) if members > 1 else ()
    read = TEMPERATURES if experiment.search else temperatures_read(experiment.objective)
    temperatures = tuple(_own(store, "temperatures") or read or (1.0,))
    features = _lengths(experiment, _own(store, "features") or ())
    try:
        layout = Layout.choose(
            classes,
            members=members,
            weights=weights,
            top=_own(store, "top"),
            temperatures=temperatures,
            features=features,
        )
        check_kept(experiment.objective, classes, layout.top, layout.temperatures, features)
    except RecipeError as error:
        simple = Layout.choose(classes, members=members, weights=weights, temperatures=(1.0,))
        return simple, str(error).splitlines()[0]  # its cost is told all the same
    return layout, ""


def _lengths(experiment: Experiment, layers: Sequence[str]) -> dict[str, int]:
    """Numbers in the pooled features of the teacher's layers."""
    if not layers:
        return {}
    said = reading(taught(experiment), layers)(some_inputs(experiment.data.train)[:2])
    return features_of(said, layers)


def _mode(store: StoreWish | None, numbers: Numbers) -> str:
    """How a store comes to be; see :class:`limbeck.store.plan.Question`."""
    path = _own(store, "path")
    return "read" if path is not None and not numbers and (Path(path) / MANIFEST).is_file() else "learned"


def _own(store: StoreWish | None, name: str) -> Any:
    """What is asked of a store; None: what fits, or there is none."""
    return getattr(store, name, None)


def _asking_epochs(folder: Path, here: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Seconds of the epochs that fill the store, the first training's first ones, and of those that read it."""
    each = [*_epochs(folder, "control_hard_labels"), *_epochs(folder, "student")]
    if not each:
        return [], []
    passes = 0 if here["question"]["ahead"] else here["passes"]
    return each[0][:passes], [*each[0][passes:], *(second for one in each[1:] for second in one)]


def _epochs(folder: Path, role: str) -> list[list[float]]:
    """Seconds of each epoch of each seed of a role; a journal has the mean of all epochs so far."""
    found = []
    for path in sorted(
        (folder / "models" / role).glob("seed*/metrics.jsonl"), key=lambda one: int(one.parent.name[4:])
    ):
        until = [line["seconds"] * line["epoch"] for line in Journal(path).read()]
        found.append([after - before for before, after in zip([0.0, *until], until, strict=False)])
    return found


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _built(store: Path, here: Mapping[str, Any]) -> float | None:
    """Seconds of building a view of all samples beforehand, as the store's manifest tells."""
    if not (store / MANIFEST).is_file():
        return None
    told = read_json(store / MANIFEST).get("built") or {}
    if not told.get("asked") or told.get("seconds") is None:
        return None
    share = here["question"]["samples"] / here["question"]["processes"]  # each process tells of its own part
    return float(told["seconds"] / told["asked"] * share)


def _bytes(store: Path) -> int | None:
    """Bytes of a store's records."""
    found = [path.stat().st_size for path in store.glob("shard-*.bin")]
    return sum(found) if found else None


__all__ = ["FILE", "Numbers", "compared", "plan", "plan_recipe", "question", "write_plan"]
