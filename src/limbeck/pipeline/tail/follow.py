"""The stages after the student, in turn: each begins with the model of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from limbeck.errors import LimbeckError, ModelError, RecipeError
from limbeck.pipeline.experiment import Candidate
from limbeck.pipeline.modes.chain import labeled
from limbeck.pipeline.modes.heard import Heard
from limbeck.pipeline.outcome import Outcome, best_student
from limbeck.pipeline.stages import Context, Trained, evaluate, train
from limbeck.pipeline.tail.asked import Prune, Recover
from limbeck.pipeline.tail.pruning import prune
from limbeck.teachers import ModuleTeacher
from limbeck.training.optimizers import usual_rate
from limbeck.training.settings import Schedule, Settings, Sparsity

SHARE = 5  # of the student's epochs one in so many is spent on recovering
RATE = 0.1  # of the student's: it is near a minimum


def follow(context: Context, found: Outcome) -> Outcome:
    """Take the student that is best on validation through the stages that a recipe names after it.

    Returns:
        The outcome with each stage's model by its name, and the last of them as what ships.
    """
    stages = context.experiment.stages
    if not stages:
        return found
    current = found.trained["student"][best_student(context.experiment, found)]
    known, made, thin = {"student": current}, dict[str, list[Trained]](), False
    failed: LimbeckError | None = None
    for stage in stages:
        if isinstance(stage, Prune):
            try:
                current, thin = prune(context, current, stage), thin or stage.sparsity is not None
            except (ModelError, RecipeError) as error:  # what was made before it ships, and then it is told
                failed = error
                break
        else:
            candidate = _recovering(context, current, stage, thin)
            thin = thin or stage.sparsity is not None
            before, current = current, _recovered(context, found, known, current, candidate, stage)
            if stage.control and context.experiment.data.train.labeled:
                made[f"{stage.name}_control"] = [_control(context, before, candidate, stage)]
        known[stage.name] = current
        made[stage.name] = [current]
    scored = {role: [evaluate(context, one, found.reference) for one in ones] for role, ones in made.items()}
    trained, evaluations = {**found.trained, **made}, {**found.evaluations, **scored}
    return replace(found, trained=trained, evaluations=evaluations, final=current, failed=failed)


def _recovered(
    context: Context,
    found: Outcome,
    known: Mapping[str, Trained],
    current: Trained,
    candidate: Candidate,
    stage: Recover,
) -> Trained:
    experiment = context.experiment
    heard = found.heard
    if stage.teacher != "teacher" or heard is None:
        taught = known[stage.teacher]
        heard = Heard(ModuleTeacher(taught.module(), taught.candidate.preparation), {}, taught.digest)
    live, split = heard.by(candidate, experiment), labeled(experiment, current.seed)
    return train(context, stage.name, current.seed, candidate, split, experiment.objective, live, heard.key(candidate))


def _control(context: Context, before: Trained, candidate: Candidate, stage: Recover) -> Trained:
    """The same weights, samples, order, views, epochs and optimizer, from labels alone."""
    objective = context.experiment.objective.without_teacher()
    split = labeled(context.experiment, before.seed)
    return train(context, f"{stage.name}_control", before.seed, candidate, split, objective)


def _recovering(context: Context, current: Trained, stage: Recover, thin: bool) -> Candidate:
    """The model before, as it is trained now."""
    own = context.experiment.learner.settings or Settings()
    optimizer = stage.optimizer or replace(own.optimizer, lr=RATE * usual_rate(own.optimizer))
    settings = replace(
        own,
        epochs=stage.epochs or max(1, round(own.epochs / SHARE)),
        batch_size=stage.batch_size or own.batch_size,
        optimizer=optimizer,
        schedule=stage.schedule or Schedule(),
        clip=stage.clip or own.clip,
        views=stage.views or own.views,
        sparsity=stage.sparsity or (Sparsity() if thin else None),
        early_stopping=None,
        transfer=None,
        replay=None,
    )
    return replace(current.candidate, make=lambda seed: current.module(), settings=settings)


__all__ = ["follow"]
