"""The end of a run: the student that ships, its files, and what is told of all models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from limbeck.compress.card.card import model_card
from limbeck.errors import ExportError, LimbeckError
from limbeck.files import read_json, write_json, write_text
from limbeck.pipeline import from_store
from limbeck.pipeline import summary as told
from limbeck.pipeline.afterwards import after, together
from limbeck.pipeline.colored import colors
from limbeck.pipeline.folder import environment
from limbeck.pipeline.keeping import of_finished
from limbeck.pipeline.modes import said as of_mode
from limbeck.pipeline.outcome import Outcome, best_student
from limbeck.pipeline.planning import compared
from limbeck.pipeline.ship import export, measure, ship
from limbeck.pipeline.stages import Context, Trained
from limbeck.pipeline.tail.told import sentence as stages_sentence
from limbeck.pipeline.tail.told import stages
from limbeck.pipeline.uncertainty import add_uncertainty, of_shipped
from limbeck.report.read import COMPARED as ROLES
from limbeck.report.render import write_report
from limbeck.teachers import ModuleTeacher, Teacher


def conclude(context: Context, found: Outcome, seconds: Callable[[], float]) -> None:
    """Choose the student that ships, measure and export it, and write summary, card and report.

    Args:
        context: of the run.
        found: what the trainings left.
        seconds: gives the time since the run began.

    Raises:
        ExportError: at the end, when everything else is kept; or what a stage after the student could not do.
    """
    experiment, evaluations = context.experiment, found.evaluations
    best = best_student(experiment, found)
    chosen = {role: ones[min(best, len(ones) - 1)] for role, ones in found.trained.items()}
    sizes = measure(context, {**({"teacher": found.members[0]} if len(found.members) == 1 else {}), **chosen})
    shipped = found.final or chosen["student"]
    scored = of_shipped(evaluations, shipped.seed, context.compared)
    exports: list[dict[str, Any]] = []
    said: dict[str, dict[str, Any]] = {}
    failed: LimbeckError | None = None
    if context.score_test:
        heard = _hear(context, shipped, "test")
        exports, failed = _ship(context, shipped, heard, scored[shipped.role].get("operating_point"))
        said = _shown(context, found, chosen, {shipped.role: heard})
    failed = failed or found.failed
    summary = _summary(context, found, sizes, exports, failed)
    add_uncertainty(summary, experiment, scored, {role: one["test"] for role, one in said.items()})
    summary["objective_search"] = found.searched
    alone = from_store.store_of(experiment)
    summary["store"] = found.kept.summary() if found.kept else None if alone is None else of_finished(alone)
    summary["plan"] = compared(context.run.path, found.kept.folder if found.kept is not None else None)
    summary["shipped_seed"], summary["shipped_role"] = shipped.seed, shipped.role
    if experiment.stages:
        summary["stages"] = stages(found, sizes, experiment, context.compared)
        summary["verdict"] += f" {stages_sentence(summary, shipped.role)}"
    summary["seconds"] = seconds()
    _write(context, summary)
    if failed is not None:
        raise failed


def _modules(teacher: Teacher | None, chosen: Mapping[str, Trained]) -> dict[str, tuple[nn.Module, Any]]:
    """The models that have gradients, by role, each with the preparation of its inputs."""
    found: dict[str, tuple[nn.Module, Any]]
    found = {role: (one.module(), one.candidate.preparation) for role, one in chosen.items()}
    if isinstance(teacher, ModuleTeacher):
        found["teacher"] = (teacher.module, teacher.normalization)
    return found


def _shown(
    context: Context, found: Outcome, chosen: Mapping[str, Trained], heard: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write the pictures of a run; what each reloaded file of the chosen models says of them, by role and split.

    Args:
        context: of the run.
        found: what the trainings left.
        chosen: the models, by role.
        heard: what the model that ships says of the test split, by its role.
    """
    experiment, task = context.experiment, context.experiment.task
    several = {role: one for role, one in chosen.items() if role in ROLES}
    said: dict[str, dict[str, Any]] = {}
    if found.teacher is not None:
        said["teacher"] = {name: found.reference[name] for name in task.shown}
    for role, one in several.items():
        known = {"test": heard[role]} if role in heard else {}
        asked = {name: known[name] if name in known else _hear(context, one, name) for name in task.shown}
        said[role] = {name: task.reference(one) for name, one in asked.items()}
    task.pictures(
        context.run.path,
        {name: context.splits[name] for name in task.shown},
        experiment.data.classes,
        said,
        _modules(found.teacher, several),
        seed=experiment.seeds[0],
        colors=colors(experiment.recipe),
    )
    return said


def _hear(context: Context, trained: Trained, split: str) -> Any:
    experiment = context.experiment
    return experiment.task.hear(trained.module(), trained.candidate.preparation, context.splits[split])


def _ship(
    context: Context, student: Trained, heard: Any, point: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], ExportError | None]:
    """Ship and export; a failed export is told at the end, when everything else is kept."""
    ship(context, student, point)
    if "onnx" not in context.experiment.exports:
        return [], None
    try:
        return [export(context, student, heard, point)], None
    except ExportError as error:
        return [], error


def _summary(
    context: Context,
    found: Outcome,
    sizes: dict[str, dict[str, Any]],
    exports: list[dict[str, Any]],
    failed: LimbeckError | None,
) -> dict[str, Any]:
    from limbeck import __version__

    experiment, metric, split = context.experiment, context.experiment.task.primary, context.compared
    evaluations = found.evaluations
    differences = {
        role: told.difference(evaluations, metric, role, split)
        for role in ("control", "control_hard_labels", "control_direct")
    }
    mode = of_mode.told(experiment, sizes, evaluations, split)
    later = after(context, evaluations, sizes, differences, failed)
    return {
        "limbeck": __version__,
        "recipe": dict(experiment.recipe),
        "objective": experiment.objective.to_recipe(),
        "data": experiment.data.describe(),
        "metric": metric,
        "positive": experiment.task.positive,
        "models": told.models({"teacher": found.members, **found.trained}, evaluations, sizes),
        "difference": differences["control"],
        "difference_to_hard_labels": differences["control_hard_labels"],
        "difference_to_direct": differences["control_direct"],
        "mode": mode,
        "intervals": {role: told.mean_interval(evaluations, role, metric, split) for role in evaluations},
        "exports": exports,
        "findings": together(found.findings, later),
        "verdict": told.sentence(differences) + (f" {mode['sentence']}" if mode else ""),
        "environment": environment(),
    }


def _write(context: Context, summary: dict[str, Any]) -> None:
    run = context.run
    write_json(run.path / "summary.json", summary)
    run.finish("done")
    if context.score_test:
        described = read_json(run.path / "student.json")
        file = run.path / "evaluation" / f"{summary['shipped_role']}-seed{summary['shipped_seed']}.json"
        scored = read_json(file) if context.experiment.task.dense else None
        write_text(run.path / "MODEL_CARD.md", model_card(summary, run.info, described, scored))
        write_report(run.path)
