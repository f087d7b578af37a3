"""Models between teacher and student, each distilled from the one before it: assistants, and generations.

Assistants: Mirzadeh et al., AAAI 2020, https://arxiv.org/abs/1902.03393. Generations: Furlanello et al., ICML 2018,
https://arxiv.org/abs/1805.04770. Each step minimizes the run's objective, with the model before as the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from limbeck.data.data import few_labels
from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.errors import RecipeError
from limbeck.evaluation.dense.reading import read_teacher
from limbeck.evaluation.predict import predict
from limbeck.files import write_json
from limbeck.outputs import Outputs
from limbeck.pipeline.auto import lasting
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.modes.heard import Heard
from limbeck.pipeline.stages import Context, Trained, listen, train
from limbeck.teachers import Ensemble, ModuleTeacher

ENSEMBLE = "ensemble"  # of all generations


def check(experiment: Experiment) -> None:
    """Refuse an objective that a chain can not have: its layers are named for two models, and there are more.

    Raises:
        RecipeError: if a term reads layers.
    """
    if experiment.between and experiment.objective.reads_layers:
        raise RecipeError(
            "a chain of assistants or generations distills between logits, and a term of the objective reads layers",
            cure="use losses between logits, or distill each step on its own",
        )


def between(context: Context, teacher: Heard) -> tuple[dict[str, list[Trained]], Heard]:
    """Train what stands between teacher and student, once for the run; a step that is done is not run again.

    Args:
        context: of the run.
        teacher: at the head of the chain.

    Returns:
        What was trained, by role, and the last of it as the student hears it; the teacher where there is none.
    """
    experiment, found = context.experiment, dict[str, list[Trained]]()
    split = labeled(experiment, experiment.seeds[0])
    for role, seed, candidate in experiment.between:
        live = teacher.by(candidate, experiment) if candidate.settings else None
        one = train(context, role, seed, candidate, split, experiment.objective, live, teacher.key(candidate))
        taught = ModuleTeacher(one.module(), candidate.preparation)
        teacher = Heard(taught, listen(context, taught, one.digest, role), one.digest)
        found[role] = [one]
    return found, teacher


def labeled(experiment: Experiment, seed: int) -> Split:
    """The training split with the labels that student and controls of a seed keep."""
    split = experiment.data.train
    return split if experiment.labels is None else few_labels(split, experiment.labels, seed=seed)


def budget(experiment: Experiment) -> int:
    """The epochs of all assistants and the student together."""
    steps = [*experiment.assistants, experiment.student]
    return sum(one.settings.epochs for one in steps if one.settings is not None)


def direct(experiment: Experiment) -> Candidate:
    """The student for the chain's own control: taught by the teacher itself, for as many epochs as the whole chain."""
    settings = experiment.student.settings
    if settings is None:
        return experiment.student
    return replace(experiment.student, settings=lasting(settings, budget(experiment)))


def together(
    context: Context, trained: Mapping[str, Sequence[Trained]], teacher_says: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Score the mean prediction of all generations, the student of each seed being the last of them."""
    experiment, found = context.experiment, []
    earlier = [trained[role][0] for role, _, _ in experiment.between]
    for student in trained["student"]:
        said = {name: _mean([*earlier, student], split) for name, split in context.splits.items()}
        scores = experiment.task.score(said, context.splits, experiment.data.classes, teacher_says)
        whole = {"epoch": None, **scores}
        found.append({"role": ENSEMBLE, "seed": student.seed, "selected": whole, "last": whole})
        write_json(context.run.path / "evaluation" / f"{ENSEMBLE}-seed{student.seed}.json", found[-1])
    return found


def _mean(models: Sequence[Trained], split: Split) -> Any:
    """The mean prediction of models on a split, as the task scores it; of pixels window by window, none kept."""
    if isinstance(split, SceneSplit):
        each = [ModuleTeacher(one.module(), one.candidate.preparation) for one in models]
        return read_teacher(Ensemble(each), split)
    logits = [predict(one.module(), one.candidate.preparation, split)[0] for one in models]
    mean = Outputs.ensemble(torch.stack(logits), torch.full((len(logits),), 1 / len(logits)))
    return mean.logits, split.targets


__all__ = ["ENSEMBLE", "between", "budget", "check", "direct", "labeled", "together"]
