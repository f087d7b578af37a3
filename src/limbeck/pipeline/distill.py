"""The one-liner: teacher, student and data in; student, control and evidence out."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from limbeck.data.data import Data
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import SceneSplit
from limbeck.data.views import Views
from limbeck.data.views.views import LATER
from limbeck.doctor import Finding
from limbeck.errors import RecipeError, nearest
from limbeck.objective import Objective, Term
from limbeck.pipeline import from_store, pixels
from limbeck.pipeline.examine import before
from limbeck.pipeline.experiment import Candidate, Experiment, from_module
from limbeck.pipeline.folder import Run
from limbeck.pipeline.result import Result
from limbeck.pipeline.run import conduct, finished
from limbeck.pipeline.wish import StoreWish
from limbeck.store import Store
from limbeck.tasks.classification import classification_task
from limbeck.tasks.segmentation import segmentation_task
from limbeck.tasks.task import Task
from limbeck.teachers import Ensemble, Teacher, as_teacher
from limbeck.teachers.digest import weights_digest
from limbeck.teachers.ensemble import fitted
from limbeck.training.distributed import processes
from limbeck.training.settings import EarlyStopping, Optimizer, Schedule, Settings, Transfer

Terms = Objective | Sequence[Term] | Mapping[str, Any] | Literal["auto"] | None


@processes()
def distill(
    teacher: Any,
    student: Any,
    data: Any,
    *,
    objective: Terms = None,
    run: str | Path | None = None,
    name: str | None = None,
    seeds: int = 1,
    labels: int | None = None,
    control: bool = True,
    hard_labels: bool | None = None,
    export: Sequence[str] = ("onnx",),
    metric: str | None = None,
    positive: str | None = None,
    specificity: float | None = None,
    teacher_normalization: Normalization | None = None,
    store: Any = None,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Distill a trained teacher into a student, train the student's control beside it, and write the evidence.

    Neither module is changed. Calling it again with the same arguments and folder goes on where it was stopped.
    Data with masks are segmented: the models give logits ``[B, C, H, W]``; ``labels``, ``hard_labels``, ``positive``,
    ``specificity`` and ``store`` are refused then.

    Args:
        teacher: a trained module, a function ``inputs -> logits``, a fitted scikit-learn classifier, an ``.onnx`` file,
            an Ensemble or other Teacher, a list of them, or a :class:`limbeck.Store` (or its folder), whose views are
            then the student's.
        student: a module whose weights are the start for every seed, or a function without arguments that makes one,
            so that seeds vary the starting weights too.
        data: a :class:`limbeck.Data`, or what its ``train`` takes: two arrays, a Dataset, an ``.npz`` file.
        objective: terms; 0.1 on the labels and 0.9 on kl at temperature 4 by default. ``"auto"``: temperature and
            weight are chosen by a short search on the validation split.
        run: the run folder, ``runs/<name>`` by default.
        name: of the run; made from the student's by default.
        seeds: how many seeds; several give an interval.
        labels: so many training samples keep their label for student and control; the teacher teaches the rest.
        control: train the control: the same student without the teacher.
        hard_labels: train the second control, from the teacher's hard labels; None: where samples lack labels.
        export: formats.
        metric: that models are compared by, and epochs selected by if ``select`` is not given; None: ``accuracy``, or
            ``mean_iou`` where pixels have labels.
        positive: name of the class that is looked for.
        specificity: share of the other samples to leave alone; the threshold for it is chosen on validation, and is
            written into the files that ship.
        teacher_normalization: of the teacher's inputs, if it is not the data's.
        store: keep what the teacher says of each view, so that it is asked once: ``"auto"`` (in the run folder), a
            path, or a mapping of ``path``, ``views``, ``top``, ``temperatures``, ``features``, ``verify``; see
            ``docs/store.md``.
        quiet: show no progress.
        settings: of the training, such as ``epochs=30``, ``batch_size=128``, ``optimizer="sgd"``, ``lr=0.1``; see
            ``limbeck.training.settings.Settings``.

    Returns:
        The result: ``student``, ``control``, ``summary``, ``folder``.

    Raises:
        LimbeckError: with what is wrong and the cure.

    Example:
        >>> import tempfile, torch, limbeck
        >>> x, y = torch.rand(120, 1, 8, 8), torch.arange(120) % 2
        >>> teacher, student = (limbeck.models.MLP((1, 8, 8), 2, hidden=[h]) for h in (16, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = limbeck.distill(teacher, student, (x, y), run=f"{folder}/r", epochs=2, export=(), quiet=True)
        >>> sorted(result.summary["models"])
        ['control', 'student', 'teacher']
        >>> pictures, masks = torch.randint(0, 256, (8, 3, 16, 16)).byte(), torch.randint(0, 2, (8, 16, 16))
        >>> from limbeck.models.unet import UNet
        >>> teacher, student = (UNet((3, 16, 16), 2, width=w) for w in (3, 2))
        >>> options = {"objective": {"supervised": 0.2, "pixel_kl": 0.8}, "epochs": 1, "export": (), "quiet": True}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     limbeck.distill(teacher, student, (pictures, masks), run=f"{folder}/r", **options).summary["metric"]
        'mean_iou'
    """
    plan = planned(
        teacher,
        student,
        data,
        objective=objective,
        name=name,
        seeds=seeds,
        labels=labels,
        control=control,
        hard_labels=hard_labels,
        export=export,
        metric=metric,
        positive=positive,
        specificity=specificity,
        teacher_normalization=teacher_normalization,
        store=store,
        **settings,
    )
    return carried_out(plan, run, quiet=quiet)


def planned(
    teacher: Any,
    student: Any,
    data: Any,
    *,
    objective: Terms = None,
    name: str | None = None,
    seeds: int = 1,
    labels: int | None = None,
    control: bool = True,
    hard_labels: bool | None = None,
    export: Sequence[str] = ("onnx",),
    metric: str | None = None,
    positive: str | None = None,
    specificity: float | None = None,
    teacher_normalization: Normalization | None = None,
    store: Any = None,
    called: str = "limbeck.distill",
    **settings: Any,
) -> Experiment:
    """The experiment that a call from Python asks for, with its description; arguments as :func:`distill` has them."""
    data = data if isinstance(data, Data) else Data(data)
    task = _task(data, metric, positive, specificity)
    chosen, wish = make_settings(**{"select": task.primary, **settings}), StoreWish.of(store)
    teacher = from_store.opened(teacher)
    if isinstance(teacher, Store):
        chosen = from_store.settled(teacher, chosen, settings)
    elif wish is not None:
        chosen = replace(chosen, replay=wish.replay(chosen, 0))
    plan = _experiment(teacher, student, data, _terms(objective), teacher_normalization, chosen)
    plan = replace(
        plan,
        name=name or plan.name,
        seeds=tuple(range(seeds)),
        search=isinstance(objective, str),
        labels=labels,
        control=control,
        hard_labels=hard_labels,
        exports=tuple(export),
        task=task,
        store=wish,
    )
    pixels.check(plan)
    return replace(plan, recipe={**_described(plan, teacher), "called": called})


def _task(data: Data, metric: str | None = None, positive: str | None = None, specificity: float | None = None) -> Task:
    """The task of data: their pixels have labels, or their samples."""
    if not isinstance(data.train, SceneSplit):
        return classification_task(
            data.classes, positive=positive, metric=metric or "accuracy", specificity=specificity
        )
    for name, value in (("positive", positive), ("specificity", specificity)):
        if value is not None:
            raise RecipeError(
                f"{name} is {value!r}, which is about one class against the others, and segmentation tells every class",
                cure="leave it out",
            )
    return segmentation_task(data.classes, metric=metric or "mean_iou")


def carried_out(plan: Experiment, run: str | Path | None, *, quiet: bool) -> Result:
    """Conduct an experiment in its folder, ``runs/<name>`` by default, or read what is there of it already."""
    folder = Run(Path(run) if run is not None else Path("runs") / plan.name)
    folder.begin(plan.name, plan.recipe, "")
    if folder.was_done:
        return finished(folder.path, plan)
    return conduct(plan, folder, quiet=quiet)


def examine(
    teacher: Any,
    student: Any,
    data: Any,
    *,
    objective: Terms = None,
    labels: int | None = None,
    teacher_normalization: Normalization | None = None,
) -> list[Finding]:
    """Look for what usually goes wrong in a distillation, without training anything: a minute before hours of it.

    The data's splits, sizes and labels, the teacher's answers on the validation split under its normalization and
    others, the student's start, and the gradient of each term; see ``docs/doctor.md``.

    Args:
        teacher: see :func:`distill`, as all arguments.
        student: which is not changed.
        data: of which the test split is compared with the others for duplicates, and not otherwise looked at.
        objective: terms.
        labels: so many training samples keep their label.
        teacher_normalization: of the teacher's inputs, if it is not the data's.

    Returns:
        Findings with code, severity, message, evidence, cause and cure, errors first; empty if nothing was found.

    Example:
        >>> import torch, limbeck
        >>> x, y = torch.rand(300, 1, 8, 8), torch.arange(300) % 3
        >>> teacher, student = (limbeck.models.MLP((1, 8, 8), 3, hidden=[h]) for h in (4, 16))
        >>> limbeck.examine(teacher, student, (x, y))[0].message
        'the student has 1,091 parameters, the teacher 275: nothing is made smaller'
    """
    data, teacher, settings = data if isinstance(data, Data) else Data(data), from_store.opened(teacher), Settings()
    if isinstance(teacher, Store):
        settings = from_store.settled(teacher, settings, ())
    plan = _experiment(teacher, student, data, _terms(objective), teacher_normalization, settings)
    plan = replace(plan, labels=labels, task=_task(data))
    pixels.check(plan)
    return before(plan)


def make_settings(**given: Any) -> Settings:
    """Training settings from keywords; ``lr``, ``weight_decay`` and ``momentum`` may stand beside them.

    Raises:
        RecipeError: naming an unknown keyword and the nearest right one.

    Example:
        >>> make_settings(epochs=3, optimizer="sgd", lr=0.1).optimizer.lr
        0.1
    """
    parts: dict[str, type] = {
        "optimizer": Optimizer,
        "schedule": Schedule,
        "early_stopping": EarlyStopping,
        "transfer": Transfer,
        "views": Views,
    }
    of_optimizer = {key: given.pop(key) for key in ("lr", "weight_decay", "momentum", "nesterov") if key in given}
    if of_optimizer:
        chosen = given.get("optimizer", "adamw")
        named = {"name": chosen} if isinstance(chosen, str) else chosen
        given["optimizer"] = {**(asdict(named) if isinstance(named, Optimizer) else named), **of_optimizer}
    known = set(Settings.__dataclass_fields__)
    for key, value in given.items():
        if key not in known:
            raise RecipeError(
                f"distill takes no '{key}'{nearest(key, known)}", cure=f"known: {', '.join(sorted(known))}"
            )
        if key in parts and isinstance(value, str):
            given[key] = parts[key](name=value)
        elif key in parts and isinstance(value, Mapping):
            given[key] = parts[key](**value)
    found = Settings(**given)
    for key in ("epochs", "batch_size", "accumulate"):
        if not isinstance(getattr(found, key), int) or getattr(found, key) < 1:
            raise RecipeError(f"{key} is {getattr(found, key)!r}, expected a whole number of at least 1")
    return found


def _terms(objective: Terms) -> Objective:
    return Objective.of(None if isinstance(objective, str) and objective == "auto" else objective)


def _experiment(
    teacher: Any,
    student: Any,
    data: Data,
    objective: Objective,
    normalization: Normalization | None,
    settings: Settings,
) -> Experiment:
    target, objective = (
        from_module(student, data, settings),
        objective.resolved(data.train.class_counts(), data.classes),
    )
    normalization = normalization or data.normalization
    modules, weights = _members(teacher)
    teachers = [_taken(one, normalization, data) for one in modules]
    return Experiment(f"{target.name}-distilled", data, teachers, target, objective, weights=weights)


def _members(teacher: Any) -> tuple[list[Any], tuple[float, ...] | None]:
    """The teachers of a list or an ensemble, each of which is kept as a file of its own, and their weights."""
    if isinstance(teacher, Ensemble) and teacher.normalization is None:
        weights = teacher.weights.tolist()
        return teacher.given, tuple(weights) if len(set(weights)) > 1 else None
    return (list(teacher), None) if isinstance(teacher, list | tuple) else ([teacher], None)


def _taken(module: Any, normalization: Normalization, data: Data) -> Candidate | Teacher:
    if not isinstance(module, nn.Module):
        return fitted(as_teacher(module, normalization), data.shape, data.classes)
    return Candidate(type(module).__name__, lambda seed: copy.deepcopy(module), Preparation(normalization))


def _described(plan: Experiment, teacher: Any) -> dict[str, Any]:
    """What was asked for, in plain data, so that a folder of another call is noticed."""
    modules, weights = _members(teacher)
    start, settings = plan.student.make(plan.seeds[0]), None
    if plan.student.settings is not None:
        settings = asdict(plan.student.settings)
        if settings["replay"] is None:  # as before there was a choice
            del settings["replay"]
        for key in [key for key, off in LATER.items() if settings["views"][key] == off]:
            del settings["views"][key]
    described = {
        "called": "limbeck.distill",
        "teachers": [
            {
                "kind": type(one).__name__,
                "weights": _digest(one, taken),
            }
            for one, taken in zip(modules, plan.teachers, strict=True)
        ],
        **({"teacher_weights": list(weights)} if weights else {}),
        "student": {"kind": type(start).__name__, "weights": weights_digest(start)},
        "settings": settings,
        **({"store": asdict(plan.store)} if plan.store else {}),
        "objective": "auto" if plan.search else plan.objective.to_recipe(),
        "seeds": list(plan.seeds),
        "labels": plan.labels,
        "control": plan.control,
        "hard_labels": plan.hard_labels,
        "export": list(plan.exports),
        **{key: value for key, value in plan.task.describe().items() if key != "task"},
        "data": plan.data.describe(),
        "normalization": plan.data.normalization.to_dict(),
    }
    return json.loads(json.dumps(described, default=str))


def _digest(given: Any, taken: Any) -> str | None:
    """Of a teacher, as a call from Python gave it and as it was taken."""
    if isinstance(given, nn.Module):
        return weights_digest(given)
    return from_store.digest(given) if isinstance(given, Store) else getattr(taken, "digest", None)
