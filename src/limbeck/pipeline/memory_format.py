"""Channels-last memory is faster for images, and refused by modules that call ``view``: they are found beforehand."""

from __future__ import annotations

from dataclasses import replace

import torch

from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.teachers import evaluating
from limbeck.training.precision import Precision, choose


def without_channels_last_where_refused(experiment: Experiment) -> Experiment:
    """The experiment, with plain memory for each training that channels-last memory would stop, and a note on it.

    The student's training also computes the teacher, where the student's views change: then the teacher counts too.
    """
    seed, student = experiment.seeds[0], experiment.student
    teachers = [*experiment.candidates, *experiment.assistants]
    asked = {id(one): _refuses(one, seed, experiment.data.shape) for one in [*teachers, student]}
    settings = student.settings
    once = settings is not None and settings.views.identity and experiment.data.train.replayable
    once = once and not experiment.task.dense  # what was said of pixels is not kept
    live = settings is not None and (not once or experiment.store is not None)
    culprits = [one for one in [student, *(teachers if live else [])] if asked[id(one)]]
    return replace(
        experiment,
        teachers=[
            _plain(one, [one]) if isinstance(one, Candidate) and asked[id(one)] else one for one in experiment.teachers
        ],
        assistants=tuple(
            _plain(one, [other for other in [one, *(teachers if live else [])] if asked[id(other)]])
            for one in experiment.assistants
        ),
        student=_plain(student, culprits),
    )


def _refuses(candidate: Candidate, seed: int, shape: tuple[int, ...]) -> bool:
    if len(shape) != 3:
        return False
    here = Precision(torch.device("cpu"), "fp32", channels_last=True)
    module = here.place(candidate.make(seed))
    try:
        with torch.no_grad(), evaluating(module):
            module(candidate.preparation(here.inputs(torch.zeros(2, *shape))))
    except RuntimeError as error:
        return "view" in str(error)
    return False


def _plain(candidate: Candidate, culprits: list[Candidate]) -> Candidate:
    settings = candidate.settings
    if settings is None or not settings.fast or not culprits:
        return candidate
    precision = choose(settings.device, settings.precision, fast=True).name
    note = (
        f"{candidate.name} is trained without channels-last memory, which is slower: {culprits[0].name} calls view on "
        "its images; reshape or flatten would take them either way"
    )
    plain = replace(settings, fast=False, precision=precision)  # type: ignore[arg-type]
    return replace(candidate, settings=plain, notes=(*candidate.notes, note))
