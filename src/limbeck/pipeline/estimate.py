"""How long a run will take, measured on a few steps before it starts."""

from __future__ import annotations

import time

import torch

from limbeck.data.batches import batches, steps_per_epoch
from limbeck.data.datasets import LoaderSplit
from limbeck.pipeline.auto import points, short
from limbeck.pipeline.experiment import Candidate
from limbeck.pipeline.modes.chain import direct
from limbeck.pipeline.reusing import keeps_classifier, resolved
from limbeck.pipeline.stages import Context
from limbeck.training.precision import choose

STEPS = 3


def estimate(context: Context) -> float | None:
    """Say how long the trainings will take, and give the seconds; None where nothing can be tried beforehand."""
    experiment = context.experiment
    if isinstance(experiment.data.train, LoaderSplit):
        return None
    teachers = [*experiment.candidates, *(one for _, _, one in experiment.between)]
    seconds = sum(_training(context, candidate) for candidate in teachers)
    each = 1 + experiment.control + experiment.needs_hard_labels
    plain = _training(context, experiment.student)
    seconds += plain * each * len(experiment.seeds)
    if keeps_classifier(experiment.objective):
        seconds += (_training(context, resolved(experiment).learner) - plain) * len(experiment.seeds)
    count = sum(candidate.settings is not None for candidate in teachers) + each * len(experiment.seeds)
    if experiment.control and experiment.assistants:
        longer = _training(context, direct(experiment))
        count, seconds = count + len(experiment.seeds), seconds + longer * len(experiment.seeds)
    if experiment.search:
        many, shorter = len(points(experiment)), short(experiment.student)
        search = many * _training(context, shorter)
        count, seconds = count + many, seconds + search
        epochs = shorter.settings.epochs if shorter.settings else 0
        length = f"{epochs} epoch{'s' * (epochs > 1)}"
        context.reporter.say(f"objective: auto: {many} short trainings of {length}, about {in_words(search)} here")
    context.reporter.say(
        f"{experiment.name}: {count} trainings, about {in_words(seconds)} here (evaluation not counted)"
    )
    return seconds


def in_words(seconds: float) -> str:
    """A duration for people.

    Example:
        >>> in_words(42), in_words(600), in_words(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _training(context: Context, candidate: Candidate) -> float:
    """Seconds of one training of a candidate, from a few steps of a copy."""
    settings, split = candidate.settings, context.experiment.data.train
    if settings is None:
        return 0.0
    precision = choose(settings.device, settings.precision, fast=settings.fast)
    module = precision.place(candidate.make(context.experiment.seeds[0])).train()
    parameters = [one for one in module.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    times = []
    with torch.random.fork_rng(devices=[]):
        for number, batch in zip(range(STEPS + 1), batches(split, batch_size=settings.batch_size), strict=False):
            start = time.monotonic()
            inputs = candidate.preparation(precision.inputs(batch.inputs))
            with precision.autocast():
                outputs = module(inputs)
            getattr(outputs, "logits", outputs).float().logsumexp(dim=1).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if number or len(split) <= settings.batch_size:  # the first step warms up
                times.append(time.monotonic() - start)
    return min(times) * steps_per_epoch(split, settings.batch_size) * settings.epochs
