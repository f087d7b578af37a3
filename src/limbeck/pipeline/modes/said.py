"""What the summary says of a run whose teacher is not simply there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.evaluation.names import title
from limbeck.evaluation.statistics import Interval, points
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.modes.chain import budget
from limbeck.pipeline.reusing import counted
from limbeck.pipeline.summary import Evaluations, difference

COUNTS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}


def told(
    experiment: Experiment, sizes: Mapping[str, Mapping[str, Any]], evaluations: Evaluations, split: str
) -> dict[str, Any] | None:
    """The summary's ``mode``: ``kind``, a ``sentence``, and what belongs to the kind; None for plain distillation.

    Args:
        experiment: that was run.
        sizes: by role, with ``parameters``.
        evaluations: by role, one for each seed.
        split: that models are compared on.
    """
    metric = experiment.task.primary
    if experiment.between:
        return _of_chain(experiment, sizes, difference(evaluations, metric, "control_direct", split))
    if experiment.peers:
        return _of_peers(experiment, evaluations, split)
    if experiment.ema is not None:
        text = f"The student's teacher was the moving average of its own weights, of decay {experiment.ema:g}."
        return {"kind": "ema", "decay": experiment.ema, "sentence": text}
    return _of_classifier(experiment) if experiment.distilled is not None else None


def _of_classifier(experiment: Experiment) -> dict[str, Any]:
    """How many parameters the student has more than the plain one, and a sentence."""
    found = counted(experiment)
    text = f"The student keeps the teacher's classifier ({found['classifier']:,} parameters) behind a projector "
    text += f"({found['projector']:,}): {found['student']:,} parameters in all. "
    text += f"The plain student, as the control is, has {found['control']:,}: the two are not of one size."
    return {"kind": "reused_classifier", "parameters": found, "sentence": text}


def _of_peers(experiment: Experiment, evaluations: Evaluations, split: str) -> dict[str, Any]:
    """Each network with its difference to the same network trained alone, and a sentence."""
    metric = experiment.task.primary
    networks: list[dict[str, Any]] = []
    for number, one in enumerate([experiment.student, *experiment.peers], start=1):
        role = "student" if number == 1 else f"peer{number}"
        control = "control" if number == 1 else f"control_{role}"
        found = difference(evaluations, metric, control, split, role=role)
        networks.append({"role": role, "model": one.name, "control": control, "difference": found})
    text = f"{COUNTS.get(len(networks), str(len(networks)))} networks learned from each other, all updated at the same "
    text += "step; the epoch was chosen by their mean prediction on validation."
    gains = [f"{one['role']} {_points(one['difference'])}" for one in networks if one["difference"]]
    if gains:
        text += f" Each minus the same network trained alone, in {title(metric)}: {'; '.join(gains)}."
    return {"kind": "mutual", "networks": networks, "sentence": text}


def _of_chain(
    experiment: Experiment, sizes: Mapping[str, Mapping[str, Any]], difference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Its steps, the epochs of its control, and a sentence."""
    steps: list[dict[str, Any]] = []
    teacher = "teacher"
    for role, seed, one in [*experiment.between, ("student", experiment.seeds[0], experiment.student)]:
        epochs = one.settings.epochs if one.settings else 0
        size = sizes.get(role, {}).get("parameters")
        steps.append({"role": role, "model": one.name, "teacher": teacher, "parameters": size, "epochs": epochs})
        steps[-1]["seed"] = seed
        teacher = role
    if not experiment.assistants:
        text = f"The student is generation {experiment.generations}: each was distilled from the one before, "
        text += "from fresh weights; 'ensemble' is the mean prediction of all of them."
        return {"kind": "generations", "steps": steps, "direct_epochs": None, "sentence": text}
    path = " → ".join(["teacher", *(one["role"] for one in steps)])
    text = f"{path}, {budget(experiment)} epochs in all."
    if difference is not None:
        text += " The control without assistants learned from the teacher directly for as many epochs of the student, "
        text += "which cost less where an assistant is larger; student minus that control in "
        text += f"{title(difference['metric'])}: {_points(difference)}."
    return {"kind": "assistants", "steps": steps, "direct_epochs": budget(experiment), "sentence": text}


def _points(found: Mapping[str, Any]) -> str:
    return points(Interval(found["mean"], found["low"], found["high"], found["seeds"]), found["metric"])


__all__ = ["told"]
