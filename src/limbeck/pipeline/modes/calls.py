"""Chains and generations from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.errors import ModelError, RecipeError
from limbeck.pipeline.distill import carried_out, planned
from limbeck.pipeline.experiment import Candidate, from_module, weights_digest
from limbeck.pipeline.result import Result
from limbeck.training.distributed import processes


@processes()
def chain(
    models: Sequence[Any],
    data: Any,
    *,
    epochs: int | Sequence[int] = 30,
    run: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Distill a teacher into its assistant, that into the next, and the last of them into the student (TAKD).

    Each step is plain distillation from the model before: every step minimizes the same objective. Assistants are
    trained once, students and controls for each seed. Beside the usual control (the student without any teacher) stands
    ``control_direct``: the student taught by the teacher itself, for as many epochs as all steps have together. The
    doctor warns of an assistant that is not between its neighbors in size (``assistant_not_between``).

    Source: Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, AAAI 2020,
    https://arxiv.org/abs/1902.03393.

    Args:
        models: the teacher, as :func:`limbeck.distill` takes it, assistants and student: modules or factories.
        data: see :func:`limbeck.distill`.
        epochs: of each step, or one number for each of them.
        run: the run folder.
        quiet: show no progress.
        options: what else :func:`limbeck.distill` takes; settings are those of all steps.

    Returns:
        The result; ``result.model("assistant")`` is the first assistant, ``assistant2`` the second.

    Raises:
        LimbeckError: with what is wrong and the cure.

    Example:
        >>> import tempfile, torch, limbeck
        >>> x, y = torch.rand(120, 1, 8, 8), torch.arange(120) % 2
        >>> models = [limbeck.models.MLP((1, 8, 8), 2, hidden=[size]) for size in (32, 16, 4)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = limbeck.chain(models, (x, y), run=f"{folder}/r", epochs=1, export=(), quiet=True)
        >>> list(found.summary["models"]), found.summary["chain"]["direct_epochs"]
        (['teacher', 'assistant', 'control', 'control_direct', 'student'], 2)
    """
    if not isinstance(models, list | tuple) or len(models) < 2:
        raise RecipeError("a chain needs a teacher and a student", cure="give [teacher, assistant, student]")
    steps = len(models) - 1
    each = [epochs] * steps if isinstance(epochs, int) else list(epochs)
    if len(each) != steps:
        raise RecipeError(f"a chain of {steps} steps got {len(each)} numbers of epochs", cure="give one for each step")
    plan = planned(models[0], models[-1], data, epochs=each[-1], called="limbeck.chain", **options)
    settings = plan.student.settings
    if settings is None:
        raise RecipeError("the student of a chain is trained, and has no settings")
    assistants = tuple(
        from_module(one, plan.data, replace(settings, epochs=count))
        for one, count in zip(models[1:-1], each, strict=False)
    )
    seed = plan.seeds[0]
    starts = [{"kind": one.name, "weights": weights_digest(one.make(seed))} for one in assistants]
    described = {**plan.recipe, "assistants": starts, "epochs": each}
    return carried_out(replace(plan, assistants=assistants, recipe=_plain(described)), run, quiet=quiet)


@processes()
def born_again(
    teacher: Any,
    student: Any,
    data: Any,
    *,
    generations: int = 3,
    run: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Distill a teacher into a fresh model of the same architecture, that into the next, and so on (born-again).

    Every generation begins with fresh weights and is distilled from the one before it. The last one is the student;
    those before it are trained once, the student for each seed. The mean prediction of all generations is scored too,
    as ``ensemble``.

    Source: Furlanello et al., Born-Again Neural Networks, ICML 2018, https://arxiv.org/abs/1805.04770.

    Args:
        teacher: a trained model, as :func:`limbeck.distill` takes it.
        student: a factory without arguments that makes the teacher's architecture with fresh weights.
        data: see :func:`limbeck.distill`.
        generations: how many models are trained in turn.
        run: the run folder.
        quiet: show no progress.
        options: what else :func:`limbeck.distill` takes.

    Returns:
        The result; ``result.model("generation1")`` is the first generation.

    Raises:
        LimbeckError: with what is wrong and the cure, as a factory that gives the same weights for every seed.

    Example:
        >>> import tempfile, torch, limbeck
        >>> x, y = torch.rand(120, 1, 8, 8), torch.arange(120) % 2
        >>> make = lambda: limbeck.models.MLP((1, 8, 8), 2, hidden=[8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = limbeck.born_again(
        ...         make(), make, (x, y), generations=2, run=f"{folder}/r", epochs=1, export=(), quiet=True
        ...     )
        >>> list(found.summary["models"])
        ['teacher', 'generation1', 'control', 'student', 'ensemble']
    """
    if not isinstance(generations, int) or not 1 <= generations <= 100:
        raise RecipeError(f"generations is {generations!r}, expected a whole number from 1 to 100")
    plan = planned(teacher, student, data, called="limbeck.born_again", **options)
    _fresh(plan.student, student)
    return carried_out(
        replace(plan, generations=generations, recipe=_plain({**plan.recipe, "generations": generations})),
        run,
        quiet=quiet,
    )


def _fresh(candidate: Candidate, given: Any) -> None:
    """See that a candidate begins with other weights under another seed."""
    if isinstance(given, nn.Module) or weights_digest(candidate.make(0)) == weights_digest(candidate.make(1)):
        raise ModelError(
            f"each generation begins with fresh weights, and '{candidate.name}' has the same ones every time",
            cure="give a function that makes the model, such as lambda: Net()",
        )


def _plain(described: Any) -> Any:
    return json.loads(json.dumps(described, default=str))


__all__ = ["born_again", "chain"]
