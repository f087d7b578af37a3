"""What the trainings of an experiment left, and which of its students is the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.doctor import Finding
from limbeck.errors import LimbeckError
from limbeck.evaluation.names import sign
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.given import Given
from limbeck.pipeline.keeping import Keeping
from limbeck.pipeline.modes.heard import Heard
from limbeck.pipeline.stages import Trained
from limbeck.teachers import Teacher


@dataclass(frozen=True)
class Outcome:
    """What the trainings of an experiment left.

    Args:
        teacher: as it was asked; None in a run without one.
        members: its members as files.
        trained: controls and students, by role, one for each seed.
        reference: what of the teacher's answers about each split models are compared with; empty without one.
        evaluations: by role, the teacher's too, one for each seed.
        findings: of the doctor, so far.
        searched: how the objective was chosen, if it was.
        kept: the store of the teacher's outputs, if there is one.
        heard: the teacher as later stages hear it.
        final: what ships, if it is not the student that is best on validation.
        failed: why a stage after the student could not be done; ``final`` is what the stages before it made.
    """

    teacher: Teacher | None
    members: list[Trained | Given]
    trained: Mapping[str, list[Trained]]
    reference: Mapping[str, Any]
    evaluations: dict[str, list[dict[str, Any]]]
    findings: list[Finding]
    searched: dict[str, Any] | None
    kept: Keeping | None = None
    heard: Heard | None = None
    final: Trained | None = None
    failed: LimbeckError | None = None


def best_student(experiment: Experiment, found: Outcome) -> int:
    """The number of the seed that ships: the best on validation, the first among equals."""
    metric = experiment.task.primary
    told = [one["selected"]["validation"] for one in found.evaluations["student"]]
    scores = [(sign(metric) * one[metric], -one["loss"]) for one in told]
    return max(range(len(scores)), key=lambda number: (scores[number], -number))


__all__ = ["Outcome", "best_student"]
