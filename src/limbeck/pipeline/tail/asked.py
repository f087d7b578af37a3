"""The stages that follow the student, as they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.data.views import Views
from limbeck.recipe.stages_schema import StageSpec, stage_names
from limbeck.training.settings import Optimizer, Schedule, Sparsity


@dataclass(frozen=True)
class Prune:
    """Cut channels, or set weights to zero; one of ``macs``, ``channels`` and ``sparsity``.

    Args:
        name: of the stage.
        macs: share of the multiply-accumulates that is left at most.
        channels: share of the channels that is cut.
        sparsity: share of the weights that is set to zero.
        importance: of channels, see :meth:`limbeck.compress.prune.groups.Graph.groups`.
        scope: ``global`` or ``uniform``, see :func:`limbeck.compress.prune.choice.choose`.
        round_to: channels that are left are a multiple of this; None: by their number.
        keep: names of modules that lose nothing.
        batches: of the training split, that ``taylor`` judges by.
    """

    name: str = "pruned"
    macs: float | None = None
    channels: float | None = None
    sparsity: float | None = None
    importance: str = "magnitude"
    scope: str = "global"
    round_to: int | None = None
    keep: tuple[str, ...] = ()
    batches: int = 8


@dataclass(frozen=True)
class Recover:
    """Distill the model of the stage before again; None: as the student was trained.

    Args:
        name: of the stage.
        teacher: ``teacher``, ``student`` or an earlier stage.
        epochs: None: a fifth of the student's.
        batch_size: of it.
        optimizer: None: the student's at a tenth of its rate.
        schedule: of it.
        clip: of it.
        views: of it.
        sparsity: weights that go while it goes on; None: zeros that are there stay.
        control: train it from labels alone too, from the same weights.
    """

    name: str = "recovered"
    teacher: str = "teacher"
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    clip: float | None = None
    views: Views | None = None
    sparsity: Sparsity | None = None
    control: bool = True


Stage = Prune | Recover


def from_spec(specs: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """The stages of a checked recipe.

    Args:
        specs: as ``Recipe.to_dict`` gives them under ``stages``.

    Example:
        >>> from_spec([{"prune": {"macs": 0.5}}])[0].name
        'pruned'
    """
    checked = [StageSpec.model_validate(dict(one)) for one in specs]
    names = stage_names(checked)
    return tuple(_stage(name, one) for name, one in zip(names, checked, strict=True))


def _stage(name: str, spec: StageSpec) -> Stage:
    if spec.prune is not None:
        given = spec.prune.model_dump() | {"name": name}
        return Prune(**{**given, "keep": tuple(given["keep"])})
    if spec.distill is None:
        raise TypeError(f"stage '{name}' is of no kind")
    given = spec.distill.model_dump() | {"name": name}
    made: dict[str, Any] = {"optimizer": Optimizer, "views": Views}
    given |= {key: kind(**given[key]) for key, kind in made.items() if given[key] is not None}
    for key, kind, field in (("schedule", Schedule, "milestones"), ("sparsity", Sparsity, "keep")):
        if given[key] is not None:
            given[key] = kind(**{**given[key], field: tuple(given[key][field])})
    return Recover(**given)


__all__ = ["Prune", "Recover", "Stage", "from_spec"]
