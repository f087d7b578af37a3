"""Runs without a teacher: a student that learns from its own moving average, and networks that teach each other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from limbeck.errors import ModelError, RecipeError
from limbeck.files import read_tensors, sha256, write_tensors
from limbeck.objective.mutual import Cohort, MutualObjective
from limbeck.pipeline.examine import at_start, refuse
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.fits import check_fits
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.memory_format import without_channels_last_where_refused
from limbeck.pipeline.modes.chain import labeled
from limbeck.pipeline.outcome import Outcome
from limbeck.pipeline.stages import WEIGHTS, Context, Trained, evaluate, train
from limbeck.pipeline.walk import check_first
from limbeck.teachers.digest import weights_digest
from limbeck.teachers.ema import EmaTeacher

COHORT = "cohort"


def walk_alone(context: Context) -> tuple[Context, Outcome]:
    """Train and score everything of a run that has no teacher; a stage that is done is not run again.

    Returns:
        The context and what was found.

    Raises:
        LimbeckError: of the kind that says why, before anything is trained where that can be seen.
    """
    check_first(context)
    experiment = context.experiment
    if experiment.peers:
        _check_peers(experiment)
        joint = without_channels_last_where_refused(replace(experiment, student=_cohort(experiment))).student
        plain = replace(experiment.student, settings=joint.settings, notes=joint.notes)
        peers = tuple(replace(one, settings=joint.settings) for one in experiment.peers)
        experiment = replace(experiment, student=plain, peers=peers)
    else:
        experiment = without_channels_last_where_refused(experiment)
    context = replace(context, experiment=experiment)
    for note in [*experiment.data.notes, *experiment.notes]:
        context.reporter.say(note)
    findings = at_start(experiment)
    refuse(findings)
    trained = _mutual(context) if experiment.peers else _averaged(context)
    evaluations = {role: [evaluate(context, one, None) for one in ones] for role, ones in trained.items()}
    return context, Outcome(None, [], trained, {}, evaluations, findings, None)


def _averaged(context: Context) -> dict[str, list[Trained]]:
    """The control, and the student with its own moving average as the teacher, of every seed."""
    experiment = context.experiment
    student, decay = experiment.student, experiment.ema
    found: dict[str, list[Trained]] = {"control": []} if _controlled(experiment) else {}
    found["student"] = []
    for seed in experiment.seeds:
        split = labeled(experiment, seed)
        if "control" in found:
            alone = experiment.objective.without_teacher()
            found["control"].append(train(context, "control", seed, student, split, alone))
        teacher = EmaTeacher(0.999 if decay is None else decay, student.preparation)
        teacher.begin(student.make(seed))  # its layers can be looked at; the training begins anew
        said = f"moving average {teacher.decay!r}"
        found["student"].append(train(context, "student", seed, student, split, experiment.objective, teacher, said))
    return found


def _mutual(context: Context) -> dict[str, list[Trained]]:
    """Each network alone, as a control; then all of them together, and each of these as a file of its own."""
    experiment = context.experiment
    networks = members(experiment)
    found: dict[str, list[Trained]] = {}
    if _controlled(experiment):
        found = {control_of(role): [] for role in networks}
    found |= {role: [] for role in networks}
    for seed in experiment.seeds:
        split, alone = labeled(experiment, seed), experiment.objective.without_teacher()
        if _controlled(experiment):
            for role, one in networks.items():
                own = control_of(role)
                found[own].append(train(context, own, seed, one, split, alone))
        together = MutualObjective(experiment.objective.terms)
        cohort = train(context, COHORT, seed, _cohort(experiment), split, together)
        for number, (role, one) in enumerate(networks.items()):
            found[role].append(_own(context, cohort, number, role, one, len(networks)))
    return found


def members(experiment: Experiment) -> dict[str, Candidate]:
    """The networks of mutual learning by role; the first is the student. Each begins under a seed of its own."""
    return {"student": experiment.student} | {
        f"peer{number}": replace(one, make=partial(_make, one, 1000 * (number - 1)))
        for number, one in enumerate(experiment.peers, start=2)
    }


def control_of(role: str) -> str:
    """The role of the same network trained alone.

    Example:
        >>> control_of("student"), control_of("peer2")
        ('control', 'control_peer2')
    """
    return "control" if role == "student" else f"control_{role}"


def _make(candidate: Candidate, shift: int, seed: int) -> nn.Module:
    return candidate.make(seed + shift)


def _cohort(experiment: Experiment) -> Candidate:
    networks = members(experiment).values()
    return replace(
        experiment.student,
        name=" + ".join(one.name for one in networks),
        make=lambda seed: Cohort([one.make(seed) for one in networks]),
        frame=None,
        notes=(),
    )


def _own(context: Context, cohort: Trained, number: int, role: str, candidate: Candidate, count: int) -> Trained:
    """One network of a trained cohort as a model of its own."""
    stage, run = f"models/{role}/seed{cohort.seed}", context.run
    folder = run.path / stage
    key = key_of([{which: sha256(cohort.file(which)) for which in WEIGHTS}, number])
    result = run.done(stage, key)
    if result is None:
        prefix = f"networks.{number}."
        for which, name in WEIGHTS.items():
            state = read_tensors(cohort.file(which))[0]
            own = {one.removeprefix(prefix): value for one, value in state.items() if one.startswith(prefix)}
            write_tensors(folder / name, own)
        result = {**cohort.result, "seconds": cohort.result["seconds"] / count}
        run.complete(stage, key, result, list(WEIGHTS.values()))
    return Trained(role, cohort.seed, candidate, folder, result)


def _controlled(experiment: Experiment) -> bool:
    return experiment.control and experiment.data.train.labeled > 0


def _check_peers(experiment: Experiment) -> None:
    """See that the networks begin with different weights, and that there are labels to learn from.

    Raises:
        ModelError: if two begin alike: they would stay alike.
        RecipeError: without labels.
    """
    if not experiment.data.train.labeled:
        raise RecipeError("mutual learning begins from labels, and no training sample has one", cure="add labels")
    seen: dict[str, str] = {}
    for role, one in members(experiment).items():
        module = one.make(experiment.seeds[0])
        check_fits(module, one, experiment.data)
        digest = weights_digest(module)
        if digest in seen:
            raise ModelError(
                f"the networks '{seen[digest]}' and '{role}' begin with the same weights, and would never differ",
                cure="give a function that makes the model, or modules with different weights",
            )
        seen[digest] = role


__all__ = ["control_of", "members", "walk_alone"]
