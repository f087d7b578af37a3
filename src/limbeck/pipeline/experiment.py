"""An experiment: what a recipe, or a call from Python, asks for, as objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from limbeck.data.data import Data
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import SceneSplit
from limbeck.data.sources.named import load
from limbeck.data.views import Views
from limbeck.errors import ModelError
from limbeck.models.heads import find_head
from limbeck.models.lookup import UserModels, build
from limbeck.models.published import published_normalization
from limbeck.models.weights import start_from
from limbeck.objective import Objective
from limbeck.pipeline.tail.asked import Stage, from_spec
from limbeck.pipeline.wish import StoreWish, replayed, shared
from limbeck.tasks.classification import CLASSIFICATION, classification_task
from limbeck.tasks.segmentation import check_data, segmentation_task
from limbeck.tasks.task import Task
from limbeck.teachers import Ensemble, OnnxTeacher, Teacher, reordered
from limbeck.teachers.labels import told
from limbeck.training.settings import EarlyStopping, Optimizer, Schedule, Settings, Transfer


@dataclass(frozen=True)
class Candidate:
    """A model that an experiment trains, or takes as it is.

    Args:
        name: of the architecture.
        make: gives a new module with the starting weights of a seed.
        preparation: of its inputs.
        settings: of its training; None: it is trained already.
        options: of the architecture, for the description beside the weights.
        notes: what was done to it that its user should know.
        frame: gives the architecture alone, for weights that are loaded into it; None: ``make`` does.
        cut: the sizes of layers that were pruned, see ``limbeck.models.structure``.
    """

    name: str
    make: Callable[[int], nn.Module]
    preparation: Preparation
    settings: Settings | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    frame: Callable[[], nn.Module] | None = None
    cut: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Data, teacher, student, objective and what is to be left.

    Args:
        name: of the run.
        data: all splits.
        teachers: candidates, or Teachers that are asked as they are; several are an ensemble.
        weights: of the ensemble's members; None: equal.
        assistants: models between teacher and student, each distilled from the one before it.
        ema: decay of the student's moving average, which is its teacher; None: it is not.
        peers: networks that learn with the student, each from the others.
        generations: how many times in turn the student is distilled, from fresh weights, the last being the student.
        student: the student, and the controls.
        distilled: the student alone, where distillation makes another model of it than the controls are; None: it
            is as they are.
        store: of the teacher's outputs; its views are the student's and the controls'.
        stages: what follows the student that is best on validation.
        objective: of the student.
        search: choose temperature and weight on validation first (``objective: auto``).
        labels: so many training samples keep their label for student and controls, drawn for each seed; None: all.
        seeds: of student and controls; the first is the teacher's.
        control: train the control.
        hard_labels: train the second control; None: where training samples lack labels.
        exports: formats.
        threads: of torch; None: as they are.
        recipe: what was asked for, in plain data.
    """

    name: str
    data: Data
    teachers: list[Candidate | Teacher]
    student: Candidate
    objective: Objective
    search: bool = False
    labels: int | None = None
    seeds: tuple[int, ...] = (0,)
    control: bool = True
    hard_labels: bool | None = None
    exports: tuple[str, ...] = ("onnx",)
    threads: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    task: Task = CLASSIFICATION
    weights: tuple[float, ...] | None = None
    assistants: tuple[Candidate, ...] = ()
    generations: int = 1
    ema: float | None = None
    peers: tuple[Candidate, ...] = ()
    distilled: Candidate | None = None
    store: StoreWish | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def learner(self) -> Candidate:
        """The student as it is distilled."""
        return self.distilled or self.student

    @property
    def notes(self) -> list[str]:
        """What the user should know of how the models begin."""
        models = [*self.candidates, *self.assistants, self.student, *self.peers]
        found = [note for one in models for note in one.notes]
        found += self.distilled.notes if self.distilled else ()
        for one in self.teachers:
            names = None if isinstance(one, Candidate) else getattr(one, "classes", None)
            note = told(names, self.data.classes, f"teacher '{getattr(one, 'name', '')}'") if names else None
            found += [note] if note else []
        return found

    @property
    def candidates(self) -> list[Candidate]:
        """The teachers that are modules."""
        return [one for one in self.teachers if isinstance(one, Candidate)]

    @property
    def between(self) -> list[tuple[str, int, Candidate]]:
        """What is trained between teacher and student, in turn: role, seed and model.

        Seeds of generations lie a thousand apart, which is the most seeds that a run has: each begins with weights
        of its own.
        """
        seed, found = self.seeds[0], list[tuple[str, int, Candidate]]()
        for number, one in enumerate(self.assistants, start=1):
            found.append(("assistant" if number == 1 else f"assistant{number}", seed, one))
        return found + [(f"generation{one}", seed + 1000 * one, self.student) for one in range(1, self.generations)]

    def joined(self, teachers: Sequence[Teacher]) -> Teacher:
        """The teachers as one: the only one, or their weighted ensemble."""
        return teachers[0] if len(teachers) == 1 else Ensemble(teachers, self.weights)

    @property
    def needs_hard_labels(self) -> bool:
        """Whether the second control is trained."""
        if self.hard_labels is not None:
            return self.hard_labels
        if self.task.dense:  # pixels without a label count for no term: it would be the control again
            return False
        return self.labels is not None or self.data.train.labeled < len(self.data.train)


def from_recipe(
    recipe: Mapping[str, Any], user: UserModels | None = None, store: StoreWish | None = None
) -> Experiment:
    """The experiment that a checked recipe asks for: its data are loaded here.

    Args:
        recipe: as ``Recipe.to_dict`` gives it.
        user: models of the user's own file.
        store: of the teacher's outputs, if not the recipe's.
    """
    source = dict(recipe["data"])
    normalization = source.pop("normalization")
    if isinstance(normalization, Mapping):
        normalization = Normalization.from_dict(normalization)
    data = load(source.pop("source"), normalization=normalization, **source)
    teachers = recipe["teacher"] if isinstance(recipe["teacher"], list) else [recipe["teacher"]]
    weights, student = [spec.get("weight") for spec in teachers], recipe["student"]
    wish = store or StoreWish.of_recipe(teachers)
    learner = _candidate(student, recipe, data, user)
    learner = replace(learner, settings=replayed(learner.settings, wish, recipe["seed"]))
    assistants = [_candidate(spec, recipe, data, user) for spec in recipe.get("assistants", [])]
    hard, search = recipe["controls"]["hard_labels"], recipe["objective"] == "auto"
    return Experiment(
        name=recipe["name"],
        data=data,
        teachers=[_taught(spec, recipe, data, user) for spec in teachers],
        student=learner,
        objective=_objective(recipe["objective"], user).resolved(data.train.class_counts(), data.classes),
        search=search,
        labels=student["labels"],
        seeds=tuple(range(recipe["seed"], recipe["seed"] + recipe["seeds"])),
        control=recipe["controls"]["control"],
        hard_labels=None if hard == "auto" else hard,
        exports=tuple(recipe["export"]),
        threads=recipe["threads"],
        recipe=recipe,
        task=_task(recipe, data),
        weights=tuple(one or 1.0 for one in weights) if any(weights) else None,
        assistants=tuple(replace(one, settings=shared(one.settings, learner.settings)) for one in assistants),
        generations=recipe.get("generations", 1),
        store=wish,
        stages=from_spec(recipe.get("stages", [])),
    )


def _task(recipe: Mapping[str, Any], data: Data) -> Task:
    """The task of a recipe."""
    check_data(isinstance(data.train, SceneSplit), recipe["task"])
    if recipe["task"] == "segmentation":
        return segmentation_task(data.classes, metric=recipe["metric"])
    return classification_task(data.classes, **{key: recipe[key] for key in ("positive", "metric", "specificity")})


def _objective(terms: Mapping[str, Any] | str, user: UserModels | None) -> Objective:
    """The objective of a recipe, with losses of the user's own file too; ``auto``: where its search begins."""
    return Objective.of(None) if isinstance(terms, str) else Objective.from_recipe(terms, user)


def from_module(module: Any, data: Data, settings: Settings | None) -> Candidate:
    """A candidate of a user's own module, which is copied and never changed, or of a factory without arguments.

    A factory is called under each seed, so seeds vary the starting weights too.
    """
    preparation = Preparation(data.normalization)
    if isinstance(module, nn.Module):
        return Candidate(type(module).__name__, lambda seed: copy.deepcopy(module), preparation, settings)
    if not callable(module):
        raise ModelError(
            f"{type(module).__name__} is no model", cure="give a torch module, or a function that makes one"
        )

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = module()
        if not isinstance(made, nn.Module):
            raise ModelError(f"the factory of the model gave {type(made).__name__}, expected a torch module")
        return made

    return Candidate(getattr(module, "__name__", "model"), make, preparation, settings)


def _taught(
    spec: Mapping[str, Any], recipe: Mapping[str, Any], data: Data, user: UserModels | None
) -> Candidate | Teacher:
    """A teacher of a recipe: a model, or an ONNX file, which takes inputs as they are unless told otherwise."""
    names = spec["class_order"]
    if not str(spec["weights"]).endswith(".onnx"):
        candidate = _candidate(spec, recipe, data, user, names)
        return _in_order(candidate, names, data) if names else candidate
    preparation = _preparation({**spec, "normalization": spec["normalization"] or "none"}, data)[0]
    plain = preparation.input_size is None and preparation.normalization.identity
    teacher = OnnxTeacher(
        spec["weights"],
        classes=names,
        output=spec["output"],
        probabilities=spec["probabilities"],
        normalization=None if plain else preparation,
        threads=recipe["threads"],
    )
    return teacher.fitted(data.shape, data.classes)


def _in_order(candidate: Candidate, names: list[str], data: Data) -> Candidate:
    """A candidate whose logits are in the data's order."""
    note = told(names, data.classes, f"teacher '{candidate.name}'")
    frame = candidate.frame
    return replace(
        candidate,
        make=lambda seed: reordered(candidate.make(seed), names, data.classes),
        frame=None if frame is None else lambda: reordered(frame(), names, data.classes),
        notes=(*candidate.notes, *([note] if note else [])),
    )


def _candidate(
    spec: Mapping[str, Any],
    recipe: Mapping[str, Any],
    data: Data,
    user: UserModels | None,
    names: list[str] | None = None,
) -> Candidate:
    name, weights, transfer = spec["model"], spec["weights"], spec["transfer"]
    preparation, note = _preparation(spec, data)
    shape = preparation.shape(data.shape)

    classes = len(names or data.classes)  # its own, where they are named
    make = partial(build, name, input_shape=shape, classes=classes, options=spec["options"], user=user)

    def begin(seed: int) -> tuple[nn.Module, str | None]:
        module = make(pretrained=spec["pretrained"], seed=seed)
        if not weights:
            return module, None
        head = find_head(module, transfer["head"]) if transfer else ()
        return module, start_from(module, weights, name=name, head=head)

    settings = _settings(spec, recipe) if transfer or not weights else None
    told = [note, begin(recipe["seed"])[1] if weights and transfer else None]
    notes = tuple(text for text in told if text)
    return Candidate(name, lambda seed: begin(seed)[0], preparation, settings, spec["options"], notes, make)


def _preparation(spec: Mapping[str, Any], data: Data) -> tuple[Preparation, str | None]:
    """A model's own preparation; and, where its normalization is a library's, a word about it."""
    note, size, given = None, spec["input_size"], spec["normalization"]
    normalization = data.normalization
    if given == "none":
        normalization = Normalization.none(data.shape[0])
    elif given:
        normalization = Normalization.from_dict(given)
    elif spec["pretrained"]:
        published = published_normalization(spec["model"], data.shape[0], spec["options"])
        if published is not None:
            normalization = published
            note = f"the inputs of {spec['model']} are normalized as its published weights were trained: {published}"
    pair = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])
    return Preparation(normalization, pair), note


def _settings(spec: Mapping[str, Any], recipe: Mapping[str, Any]) -> Settings:
    plain = ("epochs", "batch_size", "accumulate", "clip", "ema", "sampling", "workers", "compile")
    schedule = {**spec["schedule"], "milestones": tuple(spec["schedule"]["milestones"])}
    stopping = spec["early_stopping"]
    return Settings(
        optimizer=Optimizer(**spec["optimizer"]),
        schedule=Schedule(**schedule),
        early_stopping=EarlyStopping(**stopping) if stopping else None,
        transfer=Transfer(**spec["transfer"]) if spec["transfer"] else None,
        views=Views(**spec["views"]),
        select=spec["select"] or recipe["metric"],
        **{key: spec[key] for key in plain},
        **{key: recipe[key] for key in ("precision", "fast", "device", "checkpoint_seconds") if key in recipe},
    )
