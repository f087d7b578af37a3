"""Running an experiment from data to files, each stage once, in a folder that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.compress.card import model_card
from limbeck.data.data import few_labels
from limbeck.data.split import Split
from limbeck.doctor import Finding
from limbeck.errors import ExportError, FileError, LimbeckError, RecipeError, ResumeError
from limbeck.evaluation.names import sign
from limbeck.files import read_json, write_json, write_text
from limbeck.models.lookup import user_models
from limbeck.objective import Objective, supervised
from limbeck.outputs import Outputs
from limbeck.pipeline import summary as told
from limbeck.pipeline.auto import search
from limbeck.pipeline.estimate import estimate
from limbeck.pipeline.examine import after, at_start, of_teacher, refuse, together
from limbeck.pipeline.experiment import Candidate, Experiment, check_fits, check_metrics, from_recipe
from limbeck.pipeline.folder import Run, environment
from limbeck.pipeline.given import Given, called, check_says, take
from limbeck.pipeline.memory import without_channels_last_where_refused
from limbeck.pipeline.result import Result
from limbeck.pipeline.ship import export, measure, ship
from limbeck.pipeline.stages import Context, Trained, evaluate, listen, train
from limbeck.pipeline.uncertainty import add_uncertainty, of_shipped
from limbeck.recipe.recipe import Recipe
from limbeck.report.render import write_report
from limbeck.teachers import Ensemble, ModuleTeacher, Recorded, Teacher, check_logits
from limbeck.training.distributed import processes, world
from limbeck.training.precision import choose
from limbeck.training.progress import reporter


@processes()
def execute(
    recipe: Recipe | Mapping[str, Any],
    folder: str | Path,
    *,
    command: str = "",
    quiet: bool = False,
    models: Path | None = None,
    score_test: bool = True,
    shared: Path | None = None,
) -> Result:
    """Run a checked recipe in a folder; a run that is there already goes on where it was stopped.

    Args:
        recipe: a Recipe, or what its ``to_dict`` gave.
        folder: the run folder.
        command: that was typed, for the record.
        quiet: show no progress.
        models: the user's own models, a Python file.
        score_test: False: the test split is not looked at, as in the points of a sweep.
        shared: folder of trained stages that several runs have in common.
    """
    recipe = recipe.to_dict() if isinstance(recipe, Recipe) else recipe
    run = Run(folder, shared)
    run.begin(recipe["name"], recipe, command)
    if run.was_done:
        return finished(run.path)
    with _noting_a_stop(run):
        user = user_models(models) if models else None
        if world().several and recipe["data"].get("download"):  # several would write the same files
            world().from_first(lambda: from_recipe(recipe, user).name)
        experiment = from_recipe(recipe, user)
    return conduct(experiment, run, quiet=quiet, score_test=score_test)


def resume(folder: str | Path, *, models: Path | None = None, quiet: bool = False) -> Result:
    """Go on with a run that was stopped; finished stages are not run again.

    Raises:
        ResumeError: if the run was started from Python, whose objects are not in the folder.
    """
    info = read_json(Path(folder) / "run.json")
    if "teacher" not in info["recipe"]:
        raise ResumeError(
            f"{folder} was started from Python", cure="call limbeck.distill again with the same arguments and folder"
        )
    return execute(info["recipe"], folder, command=info["command"], quiet=quiet, models=models)


def finished(folder: Path, experiment: Experiment | None = None) -> Result:
    """The result of a run that is done, from its folder; with its models if the experiment is at hand."""
    summary = read_json(folder / "summary.json")
    if experiment is None:
        return Result(folder, summary)

    def load(role: str) -> nn.Module:
        candidate = experiment.teachers[0] if role == "teacher" else experiment.student
        if not isinstance(candidate, Candidate):
            raise AttributeError(f"the teacher is no module: {called(candidate)}")
        runs = summary["models"][role]["runs"]
        chosen = next((one for one in runs if one["seed"] == summary["shipped_seed"]), runs[0])
        return Trained(role, chosen["seed"], candidate, (folder / chosen["file"]).parent).module()

    return Result(folder, summary, load)


def conduct(experiment: Experiment, run: Run, *, quiet: bool = False, score_test: bool = True) -> Result:
    """Run an experiment: teacher, controls and students, evaluation, export, summary, report."""
    began = time.monotonic()
    before = torch.get_num_threads()
    try:
        if experiment.threads:
            torch.set_num_threads(experiment.threads)
        with _noting_a_stop(run):
            return _conduct(Context(experiment, run, reporter(quiet=quiet), score_test), began)
    finally:
        torch.set_num_threads(before)


@contextmanager
def _noting_a_stop(run: Run) -> Iterator[None]:
    try:
        yield
    except (LimbeckError, KeyboardInterrupt):
        with suppress(FileError):  # the disk may be what failed
            run.finish("stopped")
        raise


def _check_first(experiment: Experiment) -> None:
    """Refuse what can not end well before anything is trained."""
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
    check_metrics(experiment, [one.settings.select for one in [*candidates, experiment.student] if one.settings])


def _conduct(context: Context, began: float) -> Result:
    _check_first(context.experiment)
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
    # Sizes, export and report are the first process's; the others wait for it.
    world().from_first(
        lambda: _conclude(context, teacher, members, trained, logits, evaluations, findings, searched, began)
    )
    return finished(context.run.path, experiment)


def _conclude(
    context: Context,
    teacher: Teacher,
    members: list[Trained | Given],
    trained: Mapping[str, list[Trained]],
    logits: Mapping[str, Tensor],
    evaluations: dict[str, list[dict[str, Any]]],
    findings: list[Finding],
    searched: dict[str, Any] | None,
    began: float,
) -> None:
    """Choose the student that ships, measure and export it, and write summary and report."""
    experiment = context.experiment
    best = _best(experiment, trained["student"], evaluations["student"])
    chosen = {role: ones[best] for role, ones in trained.items()}
    sizes = measure(context, {**({"teacher": members[0]} if len(members) == 1 else {}), **chosen})
    scored = of_shipped(evaluations, chosen["student"].seed, "test" if context.score_test else "validation")
    exports, failed = _ship(context, chosen["student"], scored["student"].get("operating_point"))
    said: dict[str, Tensor] = {}
    if context.score_test:
        said = {role: _test_logits(context, one) for role, one in chosen.items()}
        said = {"teacher": logits["test"], **said}
        test, modules = experiment.data.test, _modules(teacher, chosen)
        experiment.task.pictures(context.run.path, test, experiment.data.classes, said, modules)
    summary = _summary(context, {"teacher": members, **trained}, evaluations, sizes, exports, failed, findings)
    add_uncertainty(summary, experiment, scored, said)
    summary["objective_search"] = searched
    summary["shipped_seed"] = chosen["student"].seed
    summary["seconds"] = time.monotonic() - began
    _write(context, summary)
    if failed is not None:
        raise failed


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
    if settings.views.identity and experiment.data.train.replayable:
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


def _best(experiment: Experiment, students: list[Trained], evaluations: list[dict[str, Any]]) -> int:
    """The seed that ships: the best on validation, the first among equals."""
    metric = experiment.task.primary
    found = [one["selected"]["validation"] for one in evaluations]
    scores = [(sign(metric) * one[metric], -one["loss"]) for one in found]
    return max(range(len(students)), key=lambda number: (scores[number], -number))


def _modules(teacher: Teacher, chosen: Mapping[str, Trained]) -> dict[str, tuple[nn.Module, Any]]:
    """The models that have gradients, by role, each with the preparation of its inputs."""
    found: dict[str, tuple[nn.Module, Any]]
    found = {role: (one.module(), one.candidate.preparation) for role, one in chosen.items()}
    if isinstance(teacher, ModuleTeacher):
        found["teacher"] = (teacher.module, teacher.normalization)
    return found


def _test_logits(context: Context, trained: Trained) -> Tensor:
    from limbeck.evaluation.predict import predict

    return predict(trained.module(), trained.candidate.preparation, context.experiment.data.test)[0]


def _ship(
    context: Context, student: Trained, point: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], ExportError | None]:
    """Ship and export; a failed export is told at the end, when everything else is kept."""
    if not context.score_test:
        return [], None
    ship(context, student, point)
    if "onnx" not in context.experiment.exports:
        return [], None
    try:
        return [export(context, student, _test_logits(context, student), point)], None
    except ExportError as error:
        return [], error


def _summary(
    context: Context,
    trained: Mapping[str, Sequence[Trained | Given]],
    evaluations: dict[str, list[dict[str, Any]]],
    sizes: dict[str, dict[str, Any]],
    exports: list[dict[str, Any]],
    failed: ExportError | None,
    findings: list[Finding],
) -> dict[str, Any]:
    from limbeck import __version__

    experiment, metric = context.experiment, context.experiment.task.primary
    split = "test" if context.score_test else "validation"
    differences = {
        role: told.difference(evaluations, metric, role, split) for role in ("control", "control_hard_labels")
    }
    later = after(context, evaluations, sizes, differences, failed)
    return {
        "limbeck": __version__,
        "recipe": dict(experiment.recipe),
        "objective": experiment.objective.to_recipe(),
        "data": experiment.data.describe(),
        "metric": metric,
        "positive": experiment.task.positive,
        "models": told.models(trained, evaluations, sizes),
        "difference": differences["control"],
        "difference_to_hard_labels": differences["control_hard_labels"],
        "intervals": {role: told.mean_interval(evaluations, role, metric, split) for role in evaluations},
        "exports": exports,
        "findings": together(findings, later),
        "verdict": told.sentence(differences),
        "environment": environment(),
    }


def _write(context: Context, summary: dict[str, Any]) -> None:
    run = context.run
    write_json(run.path / "summary.json", summary)
    run.finish("done")
    if context.score_test:
        described = read_json(run.path / "student.json")
        write_text(run.path / "MODEL_CARD.md", model_card(summary, run.info, described))
        write_report(run.path)
