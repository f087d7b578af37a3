"""A teacher as the next model of a chain hears it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.keeping import Keeping
from limbeck.teachers import Recorded, Teacher
from limbeck.training.precision import choose


@dataclass(frozen=True)
class Heard:
    """A teacher, what it said about each split, the digest of its weights (empty: not known), and its store."""

    teacher: Teacher
    says: Mapping[str, Any]
    digest: str
    kept: Keeping | None = None

    def by(self, candidate: Candidate, experiment: Experiment) -> Teacher:
        """The teacher for a training: its store, or what it said once, where the candidate always sees one view."""
        settings = candidate.settings
        if settings is None:
            raise LimbeckError(f"{candidate.name} has weights and is not trained: there is nothing to distill into")
        if self.kept is not None and settings.replay is not None:
            return self.kept.teacher()
        logits_only = not experiment.objective.reads_layers
        once = settings.views.identity and experiment.data.train.replayable and "train" in self.says
        if once and logits_only and not experiment.task.dense:  # of regions labels are kept, and no logits
            return Recorded(self.says["train"])
        precision = choose(settings.device, settings.precision, fast=settings.fast)
        return self.teacher.placed(precision.place)

    def key(self, candidate: Candidate) -> str:
        """All that what a training hears depends on."""
        settings = candidate.settings
        if self.kept is None or settings is None or settings.replay is None:
            return self.digest
        return f"{self.digest} store {self.kept.key}"


__all__ = ["Heard"]
