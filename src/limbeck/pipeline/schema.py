"""The recipe's keys, typed: each with its range and a default that works."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from limbeck.training import settings as training

Positive = Annotated[FiniteFloat, Field(gt=0)]
Share = Annotated[int, Field(ge=1)] | Annotated[FiniteFloat, Field(gt=0, lt=1)]
Scalar = bool | int | FiniteFloat | str | None


class Part(BaseModel):
    """What all parts share: unknown keys are refused, text is not taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NormalizationSpec(Part):
    """Mean and deviation of each channel, for inputs scaled to [0, 1]."""

    mean: list[FiniteFloat] = Field(min_length=1)
    std: list[Positive] = Field(min_length=1)


class DataSpec(Part):
    """Which data, how divided and normalized."""

    source: str = Field("digits", description="digits, mnist or arrays")
    root: str | None = Field(None, description="folder of the data sets, for mnist")
    path: str | None = Field(None, description="an .npz file, for arrays")
    validation: Share | None = Field(None, description="fraction or count of training samples to choose on")
    test: Share | None = Field(None, description="fraction or count, where the source has no test split")
    seed: int = Field(0, ge=0, description="of the splits; the same for every run")
    download: bool = False
    normalization: Literal["auto", "none"] | NormalizationSpec = "auto"


class ViewsSpec(Part):
    """Augmentation; see limbeck.Views."""

    shift: int = Field(0, ge=0, le=1024)
    flip: bool = False
    rotate: FiniteFloat = Field(0.0, ge=0, le=180)
    scale: FiniteFloat = Field(0.0, ge=0, le=0.9)
    erase: FiniteFloat = Field(0.0, ge=0, le=1)


class OptimizerSpec(Part):
    """An optimizer of torch's; a name alone takes its usual settings."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive | None = None
    weight_decay: FiniteFloat | None = Field(None, ge=0)
    momentum: FiniteFloat = Field(0.9, ge=0, lt=1)
    nesterov: bool = False


class ScheduleSpec(Part):
    """How the rate changes; warmup and milestones are in epochs."""

    name: Literal["cosine", "step", "constant"] = "cosine"
    warmup: FiniteFloat = Field(0.0, ge=0)
    milestones: list[Annotated[int, Field(ge=1)]] = []
    gamma: Positive = 0.1


class EarlyStoppingSpec(Part):
    """Stop when validation does not improve by more than min_delta for so many epochs."""

    patience: int = Field(ge=1)
    min_delta: FiniteFloat = Field(0.0, ge=0)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class ModelSpec(Part):
    """A model by name, and its training."""

    model: str = Field(description="limbeck/…, torchvision/…, timm/… or user/… (with --models FILE)")
    options: dict[str, Scalar | list[Scalar]] = {}
    pretrained: bool = False
    weights: str | None = Field(None, description=".safetensors, or .pth of plain weights: no training then")
    normalization: Literal["none"] | NormalizationSpec | None = Field(
        None, description="of this model, if not the data's"
    )
    epochs: int = Field(30, ge=1, le=100_000)
    batch_size: int = Field(128, ge=2, le=1_000_000)
    optimizer: Annotated[OptimizerSpec, BeforeValidator(_named)] = OptimizerSpec()
    schedule: Annotated[ScheduleSpec, BeforeValidator(_named)] = ScheduleSpec()
    accumulate: int = Field(1, ge=1, description="pieces that a batch is computed in")
    clip: Positive | None = None
    early_stopping: EarlyStoppingSpec | None = None
    select: Literal["accuracy", "loss"] = "accuracy"
    ema: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    views: ViewsSpec = ViewsSpec()
    workers: int = Field(0, ge=0, le=256)


class StudentSpec(ModelSpec):
    """The student; its control is trained in the same way."""

    labels: Annotated[int, Field(ge=1)] | None = Field(
        None, description="so many training samples keep their label for student and controls; drawn for each seed"
    )


class ControlsSpec(Part):
    """What the student is compared with."""

    control: bool = True
    hard_labels: bool | Literal["auto"] = Field("auto", description="auto: where training samples lack labels")


class RecipeSpec(Part):
    """A distillation, from data to an exported file."""

    name: str = Field("run", min_length=1, max_length=100)
    task: Literal["classification"] = "classification"
    data: DataSpec = DataSpec()
    teacher: ModelSpec | list[ModelSpec]
    student: StudentSpec
    objective: dict[str, FiniteFloat | int | dict[str, Scalar | list[FiniteFloat]]] = Field(
        {"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4.0}}, min_length=1
    )
    controls: ControlsSpec = ControlsSpec()
    seed: int = Field(0, ge=0, lt=2**31, description="the first seed")
    seeds: int = Field(3, ge=1, le=1000, description="how many seeds student and controls are trained with")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    fast: bool = Field(True, description="channels-last and automatic precision; false: plain float32")
    device: str = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    checkpoint_seconds: FiniteFloat = Field(15.0, ge=0)
    export: list[Literal["onnx"]] = ["onnx"]

    @model_validator(mode="after")
    def _teachers(self) -> RecipeSpec:
        if isinstance(self.teacher, list) and not self.teacher:
            raise ValueError("an ensemble needs a teacher")
        return self


def settings(spec: ModelSpec, recipe: RecipeSpec) -> training.Settings:
    """What the training loop is told."""
    from limbeck.data.views import Views

    schedule = spec.schedule.model_dump()
    return training.Settings(
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        optimizer=training.Optimizer(**spec.optimizer.model_dump()),
        schedule=training.Schedule(**{**schedule, "milestones": tuple(schedule["milestones"])}),
        accumulate=spec.accumulate,
        clip=spec.clip,
        early_stopping=training.EarlyStopping(**spec.early_stopping.model_dump()) if spec.early_stopping else None,
        select=spec.select,
        ema=spec.ema,
        views=Views(**spec.views.model_dump()),
        workers=spec.workers,
        precision=recipe.precision,
        fast=recipe.fast,
        device=recipe.device,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )
