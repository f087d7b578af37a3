"""Running an experiment from data to files, each stage once, in a folder that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.errors import FileError, LimbeckError, ResumeError
from limbeck.files import read_json
from limbeck.models.lookup import user_models
from limbeck.pipeline import reusing
from limbeck.pipeline.conclude import conclude
from limbeck.pipeline.experiment import Candidate, Experiment, from_recipe
from limbeck.pipeline.folder import Run
from limbeck.pipeline.given import called
from limbeck.pipeline.modes.alone import members, walk_alone
from limbeck.pipeline.result import Result
from limbeck.pipeline.stages import Context, Trained
from limbeck.pipeline.tail.follow import follow
from limbeck.pipeline.tail.pruning import of_stage
from limbeck.pipeline.walk import walk
from limbeck.recipe.recipe import Recipe
from limbeck.training.distributed import processes, world
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
        if role not in summary["models"] or (role == "teacher" and not experiment.teachers):
            raise AttributeError(f"this run has no {role}; it has {', '.join(summary['models'])}")
        known = {name: one for name, _, one in experiment.between} | members(experiment)
        plain = role.removeprefix("control_")
        candidate = experiment.teachers[0] if role == "teacher" else known.get(plain, experiment.student)
        if role == "student":
            candidate = reusing.resolved(experiment).learner
        if not isinstance(candidate, Candidate):
            raise AttributeError(f"the teacher is no module: {called(candidate)}")
        runs = summary["models"][role]["runs"]
        chosen = next((one for one in runs if one["seed"] == summary["shipped_seed"]), runs[0])
        candidate = of_stage(reusing.resolved(experiment), folder, role, chosen["seed"]) or candidate
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
            steps = walk if experiment.teachers else walk_alone
            context, found = steps(Context(experiment, run, reporter(quiet=quiet), score_test))
            found = follow(context, found)
            # Sizes, export and report are the first process's; the others wait for it.
            world().from_first(lambda: conclude(context, found, lambda: time.monotonic() - began))
            return finished(run.path, context.experiment)
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
