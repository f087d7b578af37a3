"""The stages of an experiment in their order: teacher, what it says, objective, controls and students, their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from limbeck.data.data import few_labels
from limbeck.data.split import Split
from limbeck.errors import LimbeckError, RecipeError
from limbeck.files import write_json
from limbeck.objective import Objective, Scene, bind, supervised
from limbeck.objective.binding import told
from limbeck.outputs import Outputs
from limbeck.pipeline.auto import search
from limbeck.pipeline.conclude import Outcome
from limbeck.pipeline.estimate import estimate
from limbeck.pipeline.examine import at_start, of_teacher, refuse
from limbeck.pipeline.experiment import Candidate, Experiment, check_fits, check_metrics, some_inputs
from limbeck.pipeline.given import Given, check_says, take
from limbeck.pipeline.memory_format import without_channels_last_where_refused
from limbeck.pipeline.stages import Context, Trained, evaluate, listen, train
from limbeck.teachers import Ensemble, ModuleTeacher, Recorded, Teacher, check_logits
from limbeck.training.distributed import world
from limbeck.training.precision import choose


def walk(context: Context) -> tuple[Context, Outcome]:
    """Train and score everything; a stage that is done is not run again.

    Returns:
        The context, with the objective that was chosen, and what was found.

    Raises:
        LimbeckError: of the kind that says why, before anything is trained where that can be seen.
    """
    _check_first(context)
    context = replace(context, experiment=without_channels_last_where_refused(context.experiment))
    experiment = context.experiment
    for note in [*experiment.data.notes, *experiment.notes]:
        context.reporter.say(note)
    findings = at_start(experiment)
    world().from_first(lambda: estimate(context))
    teacher, members = _teacher(context)
    says = listen(context, teacher, _digest(members))
    check_logits(says["validation"].logits, "the teacher", len(experiment.data.classes))
    findings += of_teacher(experiment, teacher, says["validation"].logits)
    refuse(findings)
    searched = None
    if experiment.search:
        context, searched = search(context, _live(experiment, teacher, says), _digest(members))
        experiment = context.experiment
    trained = _students(context, teacher, says, _digest(members))
    logits = {name: outputs.logits for name, outputs in says.items()}
    evaluations = {role: [evaluate(context, one, logits) for one in ones] for role, ones in trained.items()}
    evaluations = {"teacher": _evaluate_teacher(context, members, logits), **evaluations}
    return context, Outcome(teacher, members, trained, logits, evaluations, findings, searched)


def _check_first(context: Context) -> None:
    """Refuse what can not end well before anything is trained."""
    experiment = context.experiment
    candidates = experiment.candidates
    for candidate in [*candidates, experiment.student]:
        check_fits(candidate.make(experiment.seeds[0]), candidate, experiment.data)
    for teacher in experiment.teachers:
        if not isinstance(teacher, Candidate):
            check_says(teacher, experiment.data)
    having = experiment.data.train.labeled
    if experiment.labels is not None and experiment.labels > having:
        raise RecipeError(
            f"student.labels is {experiment.labels}; the training split has {having} labels",
            cure="give fewer, or leave the key out to use them all",
        )
    _check_layers(context)
    check_metrics(experiment, [one.settings.select for one in [*candidates, experiment.student] if one.settings])


def _check_layers(context: Context) -> None:
    """See that the objective's layers exist and can be compared, and say by which adapters."""
    experiment = context.experiment
    if not experiment.objective.waits or experiment.student.settings is None:
        return
    seed = experiment.seeds[0]
    teachers = [
        ModuleTeacher(one.make(seed), one.preparation) if isinstance(one, Candidate) else one
        for one in experiment.teachers
    ]
    scene = Scene(
        student=experiment.student.make(seed),
        preparation=experiment.student.preparation,
        teacher=teachers[0] if len(teachers) == 1 else Ensemble(teachers),
        inputs=some_inputs(experiment.data.train),
        targets=experiment.data.train.targets,
        classes=len(experiment.data.classes),
        seed=seed,
    )
    for line in told(bind(experiment.objective, scene)):
        context.reporter.say(line)


def _teacher(context: Context) -> tuple[Teacher, list[Trained | Given]]:
    """The teacher, trained or taken as it is, on its device; and its members as files."""
    experiment = context.experiment
    members: list[Trained | Given] = []
    for number, candidate in enumerate(experiment.teachers, start=1):
        role = "teacher" if number == 1 else f"teacher{number}"
        if not isinstance(candidate, Candidate):
            members.append(take(context, role, experiment.seeds[0], candidate))
            continue
        objective = Objective([supervised(1.0, class_weights=experiment.objective.class_weights)])
        members.append(train(context, role, experiment.seeds[0], candidate, experiment.data.train, objective))
    alone = [
        one.teacher if isinstance(one, Given) else ModuleTeacher(one.module(), one.candidate.preparation)
        for one in members
    ]
    return (alone[0] if len(alone) == 1 else Ensemble(alone)), members


def _students(context: Context, teacher: Teacher, says: Mapping[str, Outputs], digest: str) -> dict[str, list[Trained]]:
    """Controls and students of every seed: the same starting weights, samples, order, views, epochs and optimizer."""
    experiment = context.experiment
    objectives = {"student": experiment.objective}
    if experiment.control and experiment.data.train.labeled:
        objectives["control"] = experiment.objective.without_teacher()
    if experiment.needs_hard_labels:
        objectives["control_hard_labels"] = experiment.objective.with_hard_labels()
    order = [role for role in ("control", "control_hard_labels", "student") if role in objectives]
    found: dict[str, list[Trained]] = {role: [] for role in order}
    live = _live(experiment, teacher, says)
    for seed in experiment.seeds:
        split: Split = experiment.data.train
        if experiment.labels is not None:
            split = few_labels(split, experiment.labels, seed=seed)
        for role in order:
            found[role].append(train(context, role, seed, experiment.student, split, objectives[role], live, digest))
    return found


def _live(experiment: Experiment, teacher: Teacher, says: Mapping[str, Outputs]) -> Teacher:
    """The teacher as the student hears it: what it said once, where the student always sees the same view."""
    settings = experiment.student.settings
    if settings is None:
        raise LimbeckError("the student has weights and is not trained: there is nothing to distill into")
    logits_only = not experiment.objective.reads_layers
    if settings.views.identity and experiment.data.train.replayable and logits_only:
        return Recorded(says["train"])
    precision = choose(settings.device, settings.precision, fast=settings.fast)
    return teacher.placed(precision.place)


def _digest(members: list[Trained | Given]) -> str:
    found = [one.key if isinstance(one, Given) else one.digest for one in members]
    return "+".join(found) if all(found) else ""


def _evaluate_teacher(
    context: Context, members: list[Trained | Given], logits: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    if len(members) == 1 and isinstance(members[0], Trained):
        replayable = all(split.replayable for split in context.splits.values())
        return [evaluate(context, members[0], None, logits if replayable else None)]
    said = {name: (logits[name], split.targets) for name, split in context.splits.items()}
    scored = context.experiment.task.score(said, context.splits, context.experiment.data.classes)
    found = {"role": "teacher", "seed": 0, "selected": {"epoch": None, **scored}, "last": {"epoch": None, **scored}}
    write_json(context.run.path / "evaluation" / "teacher-seed0.json", found)
    return [found]
