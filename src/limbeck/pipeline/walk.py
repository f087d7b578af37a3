"""The stages of an experiment in their order: teacher, what it says, objective, controls and students, their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from limbeck.data.split import Split
from limbeck.errors import RecipeError
from limbeck.files import write_json
from limbeck.objective import Objective, Scene, bind, supervised
from limbeck.objective.binding import told
from limbeck.outputs import Outputs
from limbeck.pipeline import from_store, reusing, storing
from limbeck.pipeline.auto import search
from limbeck.pipeline.estimate import estimate
from limbeck.pipeline.examine import at_start, of_teacher, refuse
from limbeck.pipeline.experiment import Candidate
from limbeck.pipeline.fits import check_fits, check_metrics, some_inputs
from limbeck.pipeline.given import Given, check_says, take
from limbeck.pipeline.memory_format import without_channels_last_where_refused
from limbeck.pipeline.modes import chain
from limbeck.pipeline.modes.heard import Heard
from limbeck.pipeline.outcome import Outcome
from limbeck.pipeline.stages import Context, Trained, evaluate, listen, train
from limbeck.teachers import ModuleTeacher, Teacher, check_logits
from limbeck.training.distributed import world


def walk(context: Context) -> tuple[Context, Outcome]:
    """Train and score everything; a stage that is done is not run again.

    Returns:
        The context, with the objective that was chosen, and what was found.

    Raises:
        LimbeckError: of the kind that says why, before anything is trained where that can be seen.
    """
    check_first(context)
    context = replace(context, experiment=without_channels_last_where_refused(context.experiment))
    experiment = context.experiment
    for note in [*experiment.data.notes, *experiment.notes]:
        context.reporter.say(note)
    findings = at_start(experiment)
    for one in (one for one in findings if one.code == "assistant_not_between"):
        context.reporter.say(str(one))
    world().from_first(lambda: estimate(context))
    context, teacher, members, digest, says = teacher_first(context)
    experiment = context.experiment
    findings += of_teacher(experiment, storing.as_kept(experiment, teacher), says["validation"])
    refuse(findings)
    searched = None
    with storing.kept(context, teacher, says["validation"]) as kept:
        heard = Heard(teacher, says, digest, kept)
        if experiment.search:
            student = experiment.student
            context, searched = search(context, heard.by(student, experiment), heard.key(student))
            experiment = context.experiment
        earlier, last = chain.between(context, heard)
        trained = {**earlier, **_students(context, heard, last)}
    said = {name: _as_said(one, context.splits[name]) for name, one in says.items()}
    reference = {name: experiment.task.reference(one) for name, one in said.items()}
    evaluations = {role: [evaluate(context, one, reference) for one in ones] for role, ones in trained.items()}
    if experiment.generations > 1:
        evaluations[chain.ENSEMBLE] = chain.together(context, trained, reference)
    evaluations = {"teacher": _evaluate_teacher(context, members, said), **evaluations}
    live = Heard(teacher, says, digest)  # without its store, which is finished
    return context, Outcome(teacher, members, trained, reference, evaluations, findings, searched, kept, live)


def teacher_first(
    context: Context,
) -> tuple[Context, Teacher, list[Trained | Given], str, dict[str, Any]]:
    """Train the teacher or take it as it is, and ask it about every split.

    Returns:
        The context, the teacher, its members as files, a digest of them, and what it says of each split.
    """
    teacher, members = _teacher(context)
    context = _with_classifier(context, members)
    digest = _digest(members, context.experiment.weights)
    says = listen(context, teacher, digest)
    if not context.experiment.task.dense:  # of patches, check_fits has seen it
        check_logits(says["validation"].logits, "the teacher", len(context.experiment.data.classes))
    return context, teacher, members, digest, says


def check_first(context: Context) -> None:
    """Refuse what can not end well before anything is trained."""
    experiment = context.experiment
    chain.check(experiment)
    reusing.check(experiment)
    storing.check(context)
    from_store.check(experiment)
    candidates = [*experiment.candidates, *experiment.assistants]
    for candidate in [*candidates, experiment.student]:
        check_fits(candidate.make(experiment.seeds[0]), candidate, experiment.data)
    for teacher in experiment.teachers:
        if not isinstance(teacher, Candidate):
            check_says(teacher, experiment.data)
    if experiment.student.settings is not None:
        experiment.objective.check_pieces(experiment.student.settings.accumulate)
    having = experiment.data.train.labeled
    if experiment.labels is not None and experiment.labels > having:
        raise RecipeError(
            f"student.labels is {experiment.labels}; the training split has {having} labels",
            cure="give fewer, or leave the key out to use them all",
        )
    _check_layers(context)
    check_metrics(experiment, [one.settings.select for one in [*candidates, experiment.student] if one.settings])


def _check_layers(context: Context) -> None:
    """See that the objective's layers exist and can be compared, say by which adapters, and try a user's losses."""
    experiment = context.experiment
    found = experiment.objective
    if not (found.waits or found.foreign) or experiment.student.settings is None or not experiment.teachers:
        return
    experiment, seed = reusing.resolved(experiment), experiment.seeds[0]
    teachers = [
        ModuleTeacher(one.make(seed), one.preparation) if isinstance(one, Candidate) else one
        for one in experiment.teachers
    ]
    scene = Scene(
        student=experiment.learner.make(seed),
        preparation=experiment.student.preparation,
        teacher=storing.as_kept(experiment, experiment.joined(teachers)),
        inputs=some_inputs(experiment.data.train),
        targets=experiment.data.train.targets,
        classes=len(experiment.data.classes),
        seed=seed,
    )
    for line in told(bind(experiment.objective, scene, rehearse=True)):
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
    return experiment.joined(alone), members


def _with_classifier(context: Context, members: list[Trained | Given]) -> Context:
    """The context with the student that keeps the trained teacher's classifier, where a term asks for it."""
    experiment, first = context.experiment, members[0]
    if not isinstance(first, Trained) or not reusing.keeps_classifier(experiment.objective):
        return context
    found = reusing.resolved(experiment, first.module())
    if found.distilled is not None:
        for note in found.distilled.notes:
            context.reporter.say(note)
        check_fits(found.distilled.make(experiment.seeds[0]), found.distilled, experiment.data)
    return replace(context, experiment=found)


def _students(context: Context, teacher: Heard, last: Heard) -> dict[str, list[Trained]]:
    """Controls and students of every seed: the same starting weights, samples, order, views, epochs and optimizer.

    The student learns from the ``last`` model of a chain; the chain's own control from the ``teacher``, for as many
    epochs as the whole chain.
    """
    experiment = context.experiment
    student, objectives = experiment.student, {"student": experiment.objective}
    if experiment.control and experiment.data.train.labeled:
        objectives["control"] = experiment.objective.without_teacher()
    if experiment.needs_hard_labels:
        objectives["control_hard_labels"] = experiment.objective.with_hard_labels()
    if experiment.control and experiment.assistants:
        objectives["control_direct"] = experiment.objective
    order = ("control", "control_hard_labels", "control_direct", "student")
    found: dict[str, list[Trained]] = {role: [] for role in order if role in objectives}
    live = last.by(student, experiment)
    for seed in experiment.seeds:
        split = chain.labeled(experiment, seed)
        for role, ones in found.items():
            if last.kept is not None:
                live = last.kept.teacher()  # a store that knows every view by now
            if role == "control_direct":
                longer = chain.direct(experiment)
                heard = teacher.by(longer, experiment)
                ones.append(train(context, role, seed, longer, split, objectives[role], heard, teacher.key(longer)))
            else:
                one = experiment.learner if role == "student" else student
                ones.append(train(context, role, seed, one, split, objectives[role], live, last.key(one)))
    return found


def _digest(members: list[Trained | Given], weights: Sequence[float] | None) -> str:
    found = [one.key if isinstance(one, Given) else one.digest for one in members]
    weighted = found if weights is None else [f"{weight:g}*{one}" for weight, one in zip(weights, found, strict=True)]
    return "+".join(weighted) if all(found) else ""


def _as_said(one: Any, split: Split) -> Any:
    """What a teacher said of a split as a model's answers are scored."""
    return (one.logits, split.targets) if isinstance(one, Outputs) else one


def _evaluate_teacher(
    context: Context, members: list[Trained | Given], said: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if len(members) == 1 and isinstance(members[0], Trained):
        replayable = all(split.replayable for split in context.splits.values())
        return [evaluate(context, members[0], None, said if replayable else None)]
    scored = context.experiment.task.score(said, context.splits, context.experiment.data.classes)
    found = {"role": "teacher", "seed": 0, "selected": {"epoch": None, **scored}, "last": {"epoch": None, **scored}}
    write_json(context.run.path / "evaluation" / "teacher-seed0.json", found)
    return [found]
