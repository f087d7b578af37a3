"""Chains, generations, self-distillation and mutual learning from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.errors import ModelError, RecipeError
from limbeck.objective.mutual import MutualObjective
from limbeck.pipeline.distill import Terms, carried_out, planned
from limbeck.pipeline.experiment import Candidate, from_module
from limbeck.pipeline.modes.alone import members
from limbeck.pipeline.result import Result
from limbeck.teachers.digest import weights_digest
from limbeck.teachers.ema import EmaTeacher
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
        >>> list(found.summary["models"]), found.summary["mode"]["direct_epochs"]
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


@processes()
def self_distill(
    student: Any,
    data: Any,
    *,
    decay: float = 0.999,
    objective: Terms = None,
    run: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Train a student whose teacher is the moving average of its own weights, and its control beside it.

    Source: Tarvainen, Valpola, Mean teachers are better role models, NeurIPS 2017, https://arxiv.org/abs/1703.01780.
    Here teacher and student see the same view.

    Args:
        student: a module, which is not changed, or a factory.
        data: see :func:`limbeck.distill`.
        decay: of the average, see :class:`limbeck.teachers.EmaTeacher`.
        objective: terms; by default 1 · labels + 1 · kl at temperature 1, whose weight no paper published for this.
        run: the run folder.
        quiet: show no progress.
        options: what else :func:`limbeck.distill` takes.

    Returns:
        The result; it has no teacher, as that was the student's past.

    Raises:
        LimbeckError: with what is wrong and the cure.

    Example:
        >>> import tempfile, torch, limbeck
        >>> data = (torch.rand(120, 1, 8, 8), torch.arange(120) % 2)
        >>> student = limbeck.models.MLP((1, 8, 8), 2, hidden=[8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = limbeck.self_distill(student, data, run=f"{folder}/r", epochs=1, export=(), quiet=True)
        >>> list(found.summary["models"])
        ['control', 'student']
    """
    decay = EmaTeacher(decay).decay
    plan = planned([], student, data, objective=_own_terms(objective), called="limbeck.self_distill", **options)
    described = _plain({**plan.recipe, "decay": decay})
    return carried_out(replace(plan, ema=decay, hard_labels=False, recipe=described), run, quiet=quiet)


@processes()
def mutual(
    models: Sequence[Any],
    data: Any,
    *,
    objective: Terms = None,
    run: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Train networks that learn from the labels and from each other at the same time (deep mutual learning).

    ``CE_k + 1/(K-1) · sum_{l≠k} KL(p_l ‖ p_k)`` for each network k, temperature 1, its peers being constants. All are
    updated at the same step. Each is scored, beside the same network trained alone from the same weights in the same
    order. The first is the student, which ships; the epoch is chosen by the networks' mean prediction on validation.

    Source: Zhang et al., Deep Mutual Learning, CVPR 2018, https://arxiv.org/abs/1706.00384.

    Args:
        models: two or more modules or factories; one factory may be given several times, and is called under as many
            seeds.
        data: see :func:`limbeck.distill`.
        objective: terms of one network with another as its teacher, instead of the paper's.
        run: the run folder.
        quiet: show no progress.
        options: what else :func:`limbeck.distill` takes.

    Returns:
        The result; ``result.model("peer2")`` is the second network, ``control_peer2`` the same trained alone.

    Raises:
        LimbeckError: with what is wrong and the cure, as two networks that begin with the same weights.

    Example:
        >>> import tempfile, torch, limbeck
        >>> data = (torch.rand(120, 1, 8, 8), torch.arange(120) % 2)
        >>> make = lambda: limbeck.models.MLP((1, 8, 8), 2, hidden=[8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = limbeck.mutual([make, make], data, run=f"{folder}/r", epochs=1, export=(), quiet=True)
        >>> list(found.summary["models"])
        ['control', 'control_peer2', 'student', 'peer2']
    """
    if not isinstance(models, list | tuple) or len(models) < 2:
        raise RecipeError("mutual learning needs two networks at least", cure="give [network, network]")
    plan = planned([], models[0], data, objective=_own_terms(objective), called="limbeck.mutual", **options)
    MutualObjective(plan.objective.terms)
    peers = tuple(from_module(one, plan.data, plan.student.settings) for one in models[1:])
    plan = replace(plan, peers=peers, hard_labels=False)
    starts = {role: weights_digest(one.make(plan.seeds[0])) for role, one in members(plan).items()}
    return carried_out(replace(plan, recipe=_plain({**plan.recipe, "networks": starts})), run, quiet=quiet)


def _own_terms(objective: Terms) -> Any:
    """The labels and the other's probabilities at temperature 1, unless terms are given."""
    if isinstance(objective, str):
        raise RecipeError("objective: auto searches with a teacher, and there is none here", cure="give terms")
    return {"supervised": 1.0, "kl": {"weight": 1.0, "temperature": 1.0}} if objective is None else objective


def _fresh(candidate: Candidate, given: Any) -> None:
    """See that a candidate begins with other weights under another seed."""
    if isinstance(given, nn.Module) or weights_digest(candidate.make(0)) == weights_digest(candidate.make(1)):
        raise ModelError(
            f"each generation begins with fresh weights, and '{candidate.name}' has the same ones every time",
            cure="give a function that makes the model, such as lambda: Net()",
        )


def _plain(described: Any) -> Any:
    return json.loads(json.dumps(described, default=str))


__all__ = ["born_again", "chain", "mutual", "self_distill"]
