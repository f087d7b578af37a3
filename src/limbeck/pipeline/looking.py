"""What is looked at of an experiment before it is run: a batch, and what a teacher says of whole splits."""

from __future__ import annotations

from typing import Any

import torch

from limbeck.data.batch import Batch
from limbeck.data.batches import batches
from limbeck.data.data import few_labels
from limbeck.data.split import Split
from limbeck.evaluation.predict import ask
from limbeck.outputs import Outputs
from limbeck.pipeline.experiment import Experiment
from limbeck.store import Store
from limbeck.teachers import Teacher

BATCH = 64  # samples that gradients are computed on
PATCHES = 4  # likewise, where each has a label for every pixel


def a_batch(experiment: Experiment, teacher: Teacher) -> Batch:
    """A batch of training samples of which some have labels, if any have, as the student keeps them.

    The samples are as they are; views, where the teacher is a store of these.
    """
    split, settings, seed = experiment.data.train, experiment.student.settings, experiment.seeds[0]
    if experiment.labels is not None:
        split = few_labels(split, experiment.labels, seed=seed)
    options: dict[str, Any] = {"batch_size": PATCHES if experiment.task.dense else BATCH, "seed": seed}
    if isinstance(teacher, Store) and settings is not None:
        options |= {"views": settings.views, "sampling": settings.sampling, "replay": settings.replay}
    found = next(batches(split, **options))
    for other in batches(split, **options):
        found = other
        if bool((found.target >= 0).any()):
            break
    return found


def says(teacher: Teacher, split: Split) -> Outputs:
    """What a teacher says of every sample of a split as it is; a store knows that of all splits but the training's."""
    return teacher.says(split.name, split) if isinstance(teacher, Store) else ask(teacher, split)


def a_few_said(teacher: Teacher, split: Split) -> Outputs:
    """What a teacher says of a few samples."""
    return ask(teacher, split.subset(torch.arange(min(PATCHES, len(split)))))


__all__ = ["a_batch", "a_few_said", "says"]
