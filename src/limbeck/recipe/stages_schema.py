"""The recipe's keys about what follows the student: it is pruned, and distilled again to recover."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, model_validator

from limbeck.errors import nearest
from limbeck.recipe.model_schema import OptimizerSpec, ScheduleSpec, named
from limbeck.recipe.types import ModuleName, Part, Positive
from limbeck.recipe.values import run_name, wrong
from limbeck.recipe.views_schema import ViewsSpec

Fraction = Annotated[FiniteFloat, Field(gt=0, lt=1)]
_TAUGHT = ("teacher", "student")
_TAKEN = re.compile(r"student|control(_hard_labels|_direct)?|ensemble|(teacher|assistant|generation)[0-9]*|.*_outputs")
StageName = Annotated[str, Field(max_length=40), AfterValidator(run_name)]


class PruneSpec(Part):
    """Channels that are cut, to a share of the MACs or of the channels; or weights that are set to zero."""

    name: StageName | None = None
    macs: Fraction | None = Field(default=None, description="share of the multiply-accumulates that is left at most")
    channels: Fraction | None = Field(default=None, description="share of the channels that is cut")
    sparsity: Fraction | None = Field(default=None, description="share of the weights that is set to zero")
    importance: Literal["magnitude", "taylor", "bn_scale"] = Field(
        default="magnitude", description="what channels are judged by"
    )
    scope: Literal["global", "uniform"] = Field(default="global", description="uniform: every layer loses its share")
    round_to: int | None = Field(
        default=None, ge=1, le=1024, description="channels that are left are a multiple of this; by their number"
    )
    keep: list[ModuleName] = Field(default=[], max_length=1000, description="modules that lose nothing")
    batches: int = Field(default=8, ge=1, le=10_000, description="that taylor judges by")

    @model_validator(mode="after")
    def _one_target(self) -> PruneSpec:
        asked = [key for key in ("macs", "channels", "sparsity") if getattr(self, key) is not None]
        if len(asked) != 1:
            found = " and ".join(asked) or "none"
            raise wrong(f"expected one of 'macs', 'channels' and 'sparsity', found {found}")
        if self.sparsity is not None and (self.importance != "magnitude" or self.round_to is not None):
            key = "importance" if self.importance != "magnitude" else "round_to"
            raise wrong(f"'{key}' is for channels; weights are set to zero by their magnitude, one by one")
        return self


class SparsitySpec(Part):
    """Weights that go while the training goes on: a cubic schedule from the zeros that are there to ``final``."""

    final: Fraction
    begin: FiniteFloat = Field(default=0.0, ge=0, le=1, description="share of the training")
    end: FiniteFloat = Field(default=0.75, ge=0, le=1, description="share of the training")
    every: int = Field(default=100, ge=1, le=1_000_000, description="steps")
    scope: Literal["global", "uniform"] = "global"
    keep: list[ModuleName] = Field(default=[], max_length=1000)

    @model_validator(mode="after")
    def _in_order(self) -> SparsitySpec:
        if self.begin > self.end:
            raise wrong(f"expected begin to be at most end ({self.end:g}), found {self.begin:g}")
        return self


class RecoverSpec(Part):
    """Distill the model of the stage before again. What is not said is as the student's, for a fifth of its epochs."""

    name: StageName | None = None
    teacher: StageName = Field(default="teacher", description="teacher, student, or the name of an earlier stage")
    epochs: int | None = Field(default=None, ge=1, le=100_000)
    batch_size: int | None = Field(default=None, ge=2, le=1_000_000)
    optimizer: Annotated[OptimizerSpec | None, BeforeValidator(named)] = None
    schedule: Annotated[ScheduleSpec | None, BeforeValidator(named)] = None
    clip: Positive | None = None
    views: ViewsSpec | None = None
    sparsity: SparsitySpec | None = None
    control: bool = Field(default=True, description="train it from labels alone too, from the same weights")


class StageSpec(Part):
    """One stage: one of these keys."""

    prune: PruneSpec | None = None
    distill: RecoverSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _empty_mapping(cls, value: Any) -> Any:
        if isinstance(value, str):  # `- distill` alone
            return {value: {}}
        return {"distill": {}} if value == {"distill": None} else value

    @model_validator(mode="after")
    def _one_kind(self) -> StageSpec:
        asked = [key for key in ("prune", "distill") if getattr(self, key) is not None]
        if len(asked) != 1:
            raise wrong(f"expected one of 'prune' and 'distill', found {' and '.join(asked) or 'none'}")
        return self


def stage_names(stages: list[StageSpec]) -> list[str]:
    """The name of each stage: its own, or what it does, numbered where there are several.

    Example:
        >>> once = StageSpec(prune=PruneSpec(macs=0.5))
        >>> stage_names([once, StageSpec(distill=RecoverSpec()), once])
        ['pruned', 'recovered', 'pruned2']
    """
    found: list[str] = []
    for one in stages:
        plain = "recovered" if one.prune is None else "pruned"
        own = (one.distill if one.prune is None else one.prune).name  # type: ignore[union-attr]
        number = 1 + sum(name.rstrip("0123456789") == plain for name in found)
        found.append(own or (plain if number == 1 else f"{plain}{number}"))
    return found


def check_stages(stages: list[StageSpec]) -> None:
    """See that names are different and that a teacher comes before its student."""
    known: list[str] = []  # what earlier stages are called
    roles: set[str] = set()  # and their models' folders
    for number, (name, one) in enumerate(zip(stage_names(stages), stages, strict=True), start=1):
        teacher = "teacher" if one.distill is None else one.distill.teacher
        if teacher not in (*_TAUGHT, *known):
            near = nearest(teacher, [*_TAUGHT, *known])
            raise wrong(f"stage {number} learns from '{teacher}', and no stage before it has that name{near}")
        own = {name, f"{name}_control"}
        if roles & own or any(_TAKEN.fullmatch(one) for one in own):
            raise wrong(f"two models of the run would have the name '{name}': give stage {number} another one")
        known.append(name)
        roles |= own


__all__ = ["PruneSpec", "RecoverSpec", "SparsitySpec", "StageSpec", "check_stages", "stage_names"]
