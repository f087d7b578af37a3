"""``objective: auto``: temperature and weight chosen by a short search on the validation split."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from limbeck.data.data import few_labels
from limbeck.errors import LimbeckError
from limbeck.evaluation.names import shown, sign, title
from limbeck.objective import Objective
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.stages import Context, train
from limbeck.teachers import Teacher
from limbeck.training.distributed import world
from limbeck.training.settings import Settings

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
SUPERVISED = (0.1, 0.5)
PART = 0.25  # of the student's epochs


def points(experiment: Experiment) -> list[dict[str, float]]:
    """The points of the search: each temperature with each weight of the labels; kl has the rest of the weight.

    Where no training sample has a label, the weight makes no difference and is not searched.
    """
    weights = SUPERVISED if experiment.data.train.labeled else SUPERVISED[:1]
    return [{"temperature": one, "supervised": weight} for one, weight in product(TEMPERATURES, weights)]


def short(student: Candidate) -> Candidate:
    """The student with a quarter of its epochs, two at least, and its schedule shortened alike.

    Raises:
        LimbeckError: if it is not trained at all.
    """
    if student.settings is None:
        raise LimbeckError("the student has weights and is not trained: there is no objective to choose")
    epochs = min(student.settings.epochs, max(2, round(student.settings.epochs * PART)))
    return replace(student, settings=lasting(student.settings, epochs))


def search(context: Context, teacher: Teacher, digest: str) -> tuple[Context, dict[str, Any]]:
    """Train the student shortly at each point with the first seed, and take the objective that is best on validation.

    Each point is a stage of its own, ``models/auto/…``, so that a stopped search goes on where it was. The test split
    is not looked at. One short training a point is a rough choice: points whose scores differ by less than a standard
    error of the validation split are equally good.

    Args:
        context: of the run.
        teacher: as the student hears it.
        digest: of the teacher's weights.

    Returns:
        The context with the chosen objective, and what ``summary.json`` says of the search: ``points`` with scores and
        seconds, ``chosen``, ``metric``, ``split``, ``epochs``, ``seed`` and ``seconds``.
    """
    experiment, found = context.experiment, []
    seed, metric, candidate = experiment.seeds[0], experiment.task.primary, short(experiment.student)
    split, validation = experiment.data.train, experiment.data.validation
    if experiment.labels is not None:
        split = few_labels(split, experiment.labels, seed=seed)
    for point in points(experiment):
        role = f"auto/temperature{point['temperature']:g}-supervised{point['supervised']:g}"
        trained = train(context, role, seed, candidate, split, objective(point), teacher, digest)
        scores = experiment.task.quick(
            experiment.task.hear(trained.module(), candidate.preparation, validation), [metric]
        )
        seconds = round(trained.result["seconds"], 2)
        found.append({**point, metric: scores[metric], "loss": scores["loss"], "seconds": seconds})
    found = world().agreed(found)
    best = max(found, key=lambda one: (sign(metric) * one[metric], -one["loss"]))  # the first among equals
    chosen = {key: best[key] for key in ("temperature", "supervised")}
    told = {
        "points": found,
        "chosen": chosen,
        "metric": metric,
        "split": "validation",
        "epochs": candidate.settings.epochs if candidate.settings else None,
        "seed": seed,
        "seconds": round(sum(one["seconds"] for one in found), 2),
    }
    least = min(sign(metric) * one[metric] for one in found) * sign(metric)
    context.reporter.say(
        f"objective: auto: temperature {best['temperature']:g}, weight {best['supervised']:g} on the labels: "
        f"{title(metric)} {shown(metric, best[metric])} on validation (worst point {shown(metric, least)}); "
        f"{told['seconds']:.0f} s of training"
    )
    resolved = objective(chosen)
    context.run.info["objective"] = resolved.to_recipe()
    return replace(context, experiment=replace(experiment, objective=resolved, search=False)), told


def objective(point: dict[str, float]) -> Objective:
    """The objective of a point.

    Example:
        >>> [one.weight for one in objective({"temperature": 2.0, "supervised": 0.25}).terms]
        [0.25, 0.75]
    """
    return Objective.from_alpha_on_hard(point["supervised"], point["temperature"])


def lasting(settings: Settings, epochs: int) -> Settings:
    """Settings for another number of epochs, the schedule shortened or stretched alike.

    Example:
        >>> lasting(Settings(epochs=10), 25).epochs
        25
    """
    part = epochs / settings.epochs
    milestones = sorted({max(1, round(one * part)) for one in settings.schedule.milestones})
    schedule = replace(settings.schedule, warmup=settings.schedule.warmup * part, milestones=tuple(milestones))
    transfer = settings.transfer
    if transfer is not None:
        transfer = replace(transfer, freeze=min(round(transfer.freeze * part), epochs - 1))
    return replace(settings, epochs=epochs, schedule=schedule, transfer=transfer)


__all__ = ["lasting", "points", "search", "short"]
