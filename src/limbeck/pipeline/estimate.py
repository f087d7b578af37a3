"""How long a run will take, measured on a few steps before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from limbeck.data.datasets import LoaderSplit
from limbeck.data.split import Split
from limbeck.pipeline.auto import points, short
from limbeck.pipeline.experiment import Candidate
from limbeck.pipeline.modes.chain import direct
from limbeck.pipeline.planning import question, write_plan
from limbeck.pipeline.rates import Pace, asking, made, pace
from limbeck.pipeline.reusing import keeps_classifier, resolved
from limbeck.pipeline.stages import Context
from limbeck.store.plan import in_words


def estimate(context: Context) -> float | None:
    """Say how long the trainings will take, and give the seconds; None where nothing can be tried beforehand.

    Where the run has a store, all that was measured is kept as ``plan.json``.
    """
    experiment, split = context.experiment, context.experiment.data.train
    if isinstance(split, LoaderSplit):
        return None

    def tried(candidate: Candidate) -> Pace | None:
        return pace(candidate, split, experiment.seeds[0]) if candidate.settings else None

    def training(candidate: Candidate) -> float:
        return _training(candidate, tried(candidate), split)

    teachers = [*experiment.candidates, *(one for _, _, one in experiment.between)]
    seconds = sum(training(candidate) for candidate in teachers)
    each = 1 + experiment.control + experiment.needs_hard_labels
    own = tried(experiment.student)
    paces = {"control": own} if own else {}
    plain = _training(experiment.student, own, split)
    seconds += plain * each * len(experiment.seeds)
    if keeps_classifier(experiment.objective):
        seconds += (training(resolved(experiment).learner) - plain) * len(experiment.seeds)
    seconds += _teaching(context, paces)
    count = sum(candidate.settings is not None for candidate in teachers) + each * len(experiment.seeds)
    if experiment.control and experiment.assistants:
        longer = _training(direct(experiment), own, split)
        count, seconds = count + len(experiment.seeds), seconds + longer * len(experiment.seeds)
    if experiment.search:
        many, shorter = len(points(experiment)), short(experiment.student)
        search = many * _training(shorter, own, split)
        count, seconds = count + many, seconds + search
        epochs = shorter.settings.epochs if shorter.settings else 0
        length = f"{epochs} epoch{'s' * (epochs > 1)}"
        context.reporter.say(
            f"objective: auto: {many} short trainings of {length}, about {in_words(max(search, 1))} here"
        )
    context.reporter.say(
        f"{experiment.name}: {count} trainings, about {in_words(max(seconds, 1))} here (evaluation not counted)"
    )
    return seconds


def _training(candidate: Candidate, one: Pace | None, split: Split) -> float:
    """Seconds of one training of a candidate at its pace."""
    return one.total * len(split) * candidate.settings.epochs if one and candidate.settings else 0.0


def _teaching(context: Context, paces: Mapping[str, Pace]) -> float:
    """Seconds that the teacher adds to the students' trainings: at every step, or filling and reading the store."""
    experiment, settings = context.experiment, context.experiment.student.settings
    if settings is None or not experiment.teachers:
        return 0.0
    if experiment.store is not None:
        cost = write_plan(context, paces)["here"]["stored"]
        return float(cost["teacher"] + cost["write"] + cost["read"])
    asked = question(experiment)
    if not asked.students or asked.once:
        return 0.0
    batch, _ = made(experiment.data.train, settings, experiment.seeds[0])
    return asking(experiment, settings, batch) * asked.samples * asked.epochs * asked.students
