"""The doctor over an experiment: before anything is trained, when the teacher can be asked, and when a run is done."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.data.batches import batches
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.doctor import Finding, ordered
from limbeck.doctor.chance import confusion
from limbeck.doctor.gradients import about_terms, pulls
from limbeck.doctor.models import class_count, grown, not_between, not_smaller, warm_start
from limbeck.doctor.normalizations import other_normalization, unlike_published
from limbeck.doctor.order import label_order
from limbeck.doctor.positive import undeclared
from limbeck.doctor.predictions import constant, near_chance
from limbeck.doctor.scenes import about_scenes
from limbeck.doctor.splits import few, groups, overlap
from limbeck.doctor.views import few_views
from limbeck.errors import LimbeckError, ModelError, RecipeError
from limbeck.evaluation.dense.reading import Reading, read_teacher
from limbeck.evaluation.predict import ask, predict
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models.lookup import user_models
from limbeck.models.published import published_normalization
from limbeck.objective import Scene, bind
from limbeck.outputs import Outputs
from limbeck.pipeline import reusing
from limbeck.pipeline.experiment import Candidate, Experiment, from_recipe
from limbeck.pipeline.fits import check_fits
from limbeck.pipeline.looking import a_batch, a_few_said, says
from limbeck.recipe.recipe import Recipe
from limbeck.taps import Tap
from limbeck.teachers import (
    FunctionTeacher,
    ModuleTeacher,
    OnnxTeacher,
    Teacher,
    asked,
    check_logits,
    evaluating,
    reading,
)
from limbeck.training.progress import Reporter, Silent


def examine_recipe(
    recipe: Recipe | str | Path, *, models: Path | None = None, reporter: Reporter | None = None
) -> list[Finding]:
    """Look for what usually goes wrong in a recipe's distillation, without training anything.

    Args:
        recipe: a recipe, its file or name.
        models: the user's own models, a Python file.
        reporter: told what is looked at.

    Returns:
        Findings, errors first; see :func:`before`.

    Raises:
        RecipeError, DataError: if the recipe is wrong, or the data can not be read.

    Example:
        >>> [one.code for one in examine_recipe("digits")]
        ['teacher_untrained']
    """
    checked = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    return before(from_recipe(checked.to_dict(), user_models(models) if models else None), reporter)


def before(experiment: Experiment, reporter: Reporter | None = None) -> list[Finding]:
    """All that can be found before anything is trained.

    Splits, sizes and starting weights are looked at; a teacher that is trained already is asked once about the
    validation split, and about at most 256 samples of it under a few other normalizations; the gradients of the
    objective's terms are computed on one batch. The test split is compared with the others for duplicates, and not
    otherwise looked at.

    Returns:
        Findings, errors first. An empty list: nothing was found.
    """
    say = (reporter or Silent()).say
    say("doctor: the splits, the sizes, the student's start")
    wrong = _fits(experiment)
    if wrong:
        return ordered([*_splits(experiment), *wrong])
    try:
        experiment = reusing.resolved(experiment)
    except LimbeckError as error:
        return ordered([*_splits(experiment), _refused(error, "student")])
    found = [*at_start(experiment), *_sizes(experiment)]
    given = _given(experiment)
    if given is None:
        text = "the teacher is trained in the run: what it knows is judged then, before any student is trained"
        found.append(Finding("teacher_untrained", "info", text))
        return ordered([*found, *_terms(experiment, _as_teacher(experiment), learned_only=True)])
    say("doctor: what the teacher says about the validation split")
    try:
        count, validation = len(experiment.data.classes), experiment.data.validation
        said: Any = a_few_said(given, validation) if experiment.task.dense else says(given, validation)
        wrong = class_count(said.logits.shape[1], count, "teacher")
        if not wrong:
            check_logits(said.logits, "the teacher", count)
            said = read_teacher(given, validation) if isinstance(validation, SceneSplit) else said
            wrong = of_teacher(experiment, given, said)
    except LimbeckError as error:
        wrong = [_refused(error, "teacher")]
    return ordered([*found, *wrong])


def at_start(experiment: Experiment) -> list[Finding]:
    """What is cheap to see before anything is trained: the splits, pretrained normalization, the student's start."""
    data = experiment.data
    about = [] if experiment.task.dense else undeclared(data.train.targets, data.classes, experiment.task.positive)
    made = [Finding("data_split_made", "info", note) for note in data.notes]
    found = [*made, *_splits(experiment), *about, *_published(experiment), *_start(experiment)]
    return found + _assistants(experiment) + _replayed(experiment)


def _replayed(experiment: Experiment) -> list[Finding]:
    """What stored views do to the student's augmentation."""
    settings = experiment.student.settings
    if settings is None or settings.replay is None:
        return []
    return few_views(settings.replay.views, settings.epochs, changing=not settings.views.identity)


def of_teacher(experiment: Experiment, teacher: Teacher, said: Any) -> list[Finding]:
    """What the teacher's answers on the validation split show, and what its terms give the student.

    The order of labels and the normalization are questions only for a teacher that was not trained in the run.

    Args:
        experiment: its objective and student.
        teacher: is asked about one batch.
        said: what the teacher says of the validation split: Outputs, or a Reading.
    """
    data, found = experiment.data, list[Finding]()
    if isinstance(said, Reading):
        counts = said.tally.confusion
        found += constant(counts, "teacher", "validation", data.classes, unit="pixels")
        found += near_chance(counts, "teacher", "validation", unit="pixels")
        return [*found, *_terms(experiment, teacher)]
    logits = said.logits
    counts = confusion(logits, data.validation.targets, len(data.classes))
    if _given(experiment) is not None:
        found += label_order(logits, data.validation.targets, data.classes, declared=_declared(experiment))
        found += _normalization(experiment)
    found += constant(counts, "teacher", "validation", data.classes, logits)
    if not any(one.code == "label_order" for one in found):
        found += near_chance(counts, "teacher", "validation")
    return found + _terms(experiment, teacher)


def refuse(findings: Sequence[Finding]) -> None:
    """Stop a run that makes no sense.

    Raises:
        RecipeError, ModelError: for the first finding that is an error.

    Example:
        >>> refuse([Finding("no_control", "warning", "no control was trained")])
    """
    for one in findings:
        if one.severity == "error":
            kind = RecipeError if one.code == "no_gradient" else ModelError
            raise kind(one.message, cure=one.cure or None)


def _splits(experiment: Experiment) -> list[Finding]:
    splits = experiment.data.splits
    return overlap(splits) + groups(splits) + about_scenes(splits)


def _fits(experiment: Experiment) -> list[Finding]:
    """Candidates that do not take the data, or give other classes."""
    data, found = experiment.data, list[Finding]()
    for role, candidate in _candidates(experiment):
        try:
            module = candidate.make(experiment.seeds[0])
            found += class_count(_width(module, candidate, data.validation), len(data.classes), role)
            if not found:
                check_fits(module, candidate, data)
        except LimbeckError as error:
            found.append(_refused(error, role))
    return found


def _refused(error: LimbeckError, role: str) -> Finding:
    return Finding("refused", "error", error.what, {"role": role}, "", error.cure or "")


def _width(module: nn.Module, candidate: Candidate, split: Split) -> int:
    """How many logits a module gives, or what check_fits is to say."""
    try:
        batch = next(batches(split, batch_size=2, shuffle=False))
        with evaluating(module):
            return Outputs.of(module(candidate.preparation(batch.inputs))).logits.shape[1]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return len(split.classes)


def _candidates(experiment: Experiment) -> list[tuple[str, Candidate]]:
    assistants = [(role, one) for role, _, one in experiment.between if one is not experiment.student]
    return [*(("teacher", one) for one in experiment.candidates), *assistants, ("student", experiment.student)]


def _given(experiment: Experiment) -> Teacher | None:
    """The teacher, unless the run trains it."""
    if any(one.settings is not None for one in experiment.candidates):
        return None
    return _as_teacher(experiment)


def _declared(experiment: Experiment) -> list[str] | None:
    """The order of labels that a recipe says its one teacher has."""
    spec = experiment.recipe.get("teacher")
    return spec.get("class_order") if isinstance(spec, Mapping) else None


def _as_teacher(experiment: Experiment) -> Teacher:
    members = _members(experiment)
    return experiment.joined(members)


def _members(experiment: Experiment) -> list[Teacher]:
    seed = experiment.seeds[0]
    return [
        ModuleTeacher(one.make(seed), one.preparation) if isinstance(one, Candidate) else one
        for one in experiment.teachers
    ]


def _published(experiment: Experiment) -> list[Finding]:
    asked, found = experiment.recipe, list[Finding]()
    specs = asked.get("teacher", []) if isinstance(asked.get("teacher"), list) else [asked.get("teacher", {})]
    specs = [one for one in specs if not str(one.get("weights")).endswith(".onnx")]
    pairs = [("teacher", spec, one) for spec, one in zip(specs, experiment.teachers, strict=False)]
    for role, spec, candidate in [*pairs, ("student", asked.get("student", {}), experiment.student)]:
        if isinstance(candidate, Candidate) and isinstance(spec, Mapping) and spec.get("pretrained"):
            given = candidate.preparation.normalization
            published = published_normalization(candidate.name, len(given.mean), candidate.options)
            found += unlike_published(given, published, role, candidate.name)
    return found


def _start(experiment: Experiment) -> list[Finding]:
    student, probe = experiment.student, few(experiment.data.validation)
    if experiment.task.dense:  # starting weights that know the task are not looked for in pixels
        return []
    return warm_start(
        student.make(experiment.seeds[0]),
        lambda module: predict(module, student.preparation, probe),
        len(experiment.data.classes),
    )


def _sizes(experiment: Experiment) -> list[Finding]:
    found: dict[str, dict[str, int]] = {}
    for role, candidate in _candidates(experiment):
        candidate = experiment.learner if role == "student" else candidate
        module = candidate.make(experiment.seeds[0])
        one = found.setdefault(role, {"parameters": 0, "macs": 0})  # an ensemble's members add up
        one["parameters"] += parameters(module)
        with suppress(AssertionError, RuntimeError):  # torch can not count every module
            one["macs"] += macs(module, candidate.preparation.shape(experiment.data.shape))
    known = len(experiment.candidates) == len(experiment.teachers)
    small = not_smaller(found["student"], found["teacher"] if known and experiment.generations == 1 else {})
    return small + _grown(experiment)


def _grown(experiment: Experiment) -> list[Finding]:
    found = reusing.counted(experiment)
    return grown(found) if found and experiment.control else []


def _assistants(experiment: Experiment) -> list[Finding]:
    if not experiment.assistants:
        return []
    seed = experiment.seeds[0]
    modules = [one if isinstance(one, Candidate) else None for one in experiment.teachers]
    teacher = [parameters(one.make(seed)) for one in modules if one is not None]
    known = len(teacher) == len(modules)
    chain = [("teacher", sum(teacher) if known else None)]
    chain += [(role, parameters(one.make(seed))) for role, _, one in experiment.between]
    return not_between([*chain, ("student", parameters(experiment.student.make(seed)))])


def _normalization(experiment: Experiment) -> list[Finding]:
    data, found = experiment.data, list[Finding]()
    if not data.validation.replayable:
        return []
    measured = Normalization.measure(few(data.train)) if data.train.replayable else None
    channels = data.shape[0] if len(data.shape) == 3 else 1
    for teacher in _members(experiment):
        given = getattr(teacher, "normalization", None)
        if not isinstance(teacher, ModuleTeacher | FunctionTeacher | OnnxTeacher) or _prepares_itself(teacher):
            continue
        preparation = given if isinstance(given, Preparation) else Preparation(given or Normalization.none(channels))
        if not isinstance(preparation.normalization, Normalization):  # a function of the user's
            continue

        def logits(
            normalization: Normalization, split: Split, asked: Any = teacher, own: Preparation = preparation
        ) -> Tensor:
            other = copy.copy(asked)
            other.normalization = replace(own, normalization=normalization)
            return ask(other, split).logits

        found += other_normalization(logits, preparation.normalization, data.validation, measured)
    return found


def _prepares_itself(teacher: Teacher) -> bool:
    """Whether a file holds its normalization, or takes bytes."""
    return isinstance(teacher, OnnxTeacher) and (teacher.graph.own or teacher.graph.dtype == "uint8")


def _terms(experiment: Experiment, teacher: Teacher, *, learned_only: bool = False) -> list[Finding]:
    """What the terms give the student on one batch, as it starts.

    Args:
        experiment: its objective and student.
        teacher: as it is, or untrained.
        learned_only: only whether there is a gradient: how large an untrained teacher's is says nothing.
    """
    batch, objective, targets = a_batch(experiment, teacher), experiment.objective, experiment.data.train.targets
    module, preparation = experiment.learner.make(experiment.seeds[0]), experiment.student.preparation
    classes = len(experiment.data.classes)
    objective = bind(objective, Scene(module, preparation, teacher, batch.inputs, targets, classes))
    weights = [one for one in module.parameters() if one.requires_grad]
    with evaluating(module), Tap(module, objective.layers("student")) as tap:
        logits = Outputs.of(module(preparation(batch.inputs))).logits
        said = Outputs(logits, tap.read())
    heard = None
    if objective.needs_teacher:
        heard = asked(reading(teacher, objective.layers("teacher")), batch, batch.inputs)
    found = about_terms(pulls(objective, said, heard, weights, target=batch.target, index=batch.index))
    return [one for one in found if one.severity == "error" or not learned_only]


__all__ = ["at_start", "before", "examine_recipe", "of_teacher", "refuse"]
