"""The recipe's keys about a model and its training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, FiniteFloat, Tag, model_validator

from limbeck.recipe.data_schema import NormalizationSpec
from limbeck.recipe.store_schema import Store
from limbeck.recipe.types import (
    MAPPING,
    WORD,
    ClassName,
    ImageSize,
    MetricName,
    ModelName,
    ModuleName,
    Options,
    Part,
    Positive,
    TeacherFile,
    WeightsFile,
    word_or_mapping,
)
from limbeck.recipe.values import wrong
from limbeck.recipe.views_schema import ViewsSpec


class OptimizerSpec(Part):
    """An optimizer of torch's; a name alone takes its usual settings."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive | None = None
    weight_decay: FiniteFloat | None = Field(default=None, ge=0)
    momentum: FiniteFloat = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _momentum_for_nesterov(self) -> OptimizerSpec:
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise wrong("nesterov needs the optimizer sgd with a momentum above 0")
        return self


class ScheduleSpec(Part):
    """How the rate changes; warmup and milestones are in epochs."""

    name: Literal["cosine", "step", "constant"] = "cosine"
    warmup: FiniteFloat = Field(default=0.0, ge=0)
    milestones: list[Annotated[int, Field(ge=1, le=100_000)]] = Field(default=[])
    gamma: FiniteFloat = Field(default=0.1, gt=0, le=1)

    @model_validator(mode="after")
    def _steps_in_order(self) -> ScheduleSpec:
        if self.name == "step" and not self.milestones:
            raise wrong("the schedule step needs 'milestones', such as [30, 60]")
        if self.milestones != sorted(set(self.milestones)):
            raise wrong("expected milestones that increase")
        return self


class EarlyStoppingSpec(Part):
    """Stop when validation does not improve by more than min_delta for so many epochs."""

    patience: int = Field(ge=1)
    min_delta: FiniteFloat = Field(default=0.0, ge=0)


class TransferSpec(Part):
    """Start from trained weights: the head alone for some epochs, then all, the backbone at a lower rate."""

    freeze: int = Field(default=1, ge=0, le=100_000, description="epochs of the head alone")
    rate: FiniteFloat = Field(default=0.1, gt=0, le=1, description="of the backbone, as a part of the rate")
    head: ModuleName | None = Field(default=None, description="the module that gives the logits, where it is not found")


def named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class ModelSpec(Part):
    """A model by name, and its training."""

    model: ModelName = Field(description="limbeck/…, torchvision/…, timm/…, smp/… or user/… (with --models FILE)")
    options: Options = Field(default={}, description="keyword arguments of the architecture")
    pretrained: bool = False
    weights: WeightsFile | None = Field(default=None, description="a file: taken as it is, or the start of a transfer")
    transfer: TransferSpec | None = Field(default=None, description="from pretrained or weights to the data's classes")
    input_size: ImageSize | None = Field(default=None, description="of this model, if not the data's: 224, or [H, W]")
    normalization: (
        Annotated[
            Annotated[Literal["none"], Tag(WORD)] | Annotated[NormalizationSpec, Tag(MAPPING)],
            Discriminator(word_or_mapping),
        ]
        | None
    ) = Field(default=None, description="of this model, if not the data's; with pretrained, the published one")
    epochs: int = Field(default=30, ge=1, le=100_000)
    batch_size: int = Field(default=128, ge=2, le=1_000_000)
    optimizer: Annotated[OptimizerSpec, BeforeValidator(named)] = OptimizerSpec()
    schedule: Annotated[ScheduleSpec, BeforeValidator(named)] = ScheduleSpec()
    accumulate: int = Field(default=1, ge=1, le=100_000, description="pieces that a batch is computed in")
    clip: Positive | None = None
    early_stopping: EarlyStoppingSpec | None = None
    select: MetricName | None = Field(default=None, description="metric that chooses the epoch, if not the recipe's")
    ema: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    views: ViewsSpec = ViewsSpec()
    sampling: Literal["none", "balanced"] = Field(default="none", description="balanced: classes equally likely")
    workers: int = Field(default=0, ge=0, le=256)
    compile: bool = Field(default=False, description="torch.compile: pays on long trainings, mostly on a GPU")

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelSpec:
        if self.pretrained and self.weights is not None:
            raise wrong("expected either 'pretrained' or 'weights', found both")
        if self.pretrained and str(self.model).startswith(("limbeck/", "user/")):
            raise wrong(f"{self.model} has no published weights; set 'weights' to a file instead of 'pretrained'")
        if self.transfer and not (self.pretrained or self.weights or str(self.model).startswith("user/")):
            raise wrong("transfer needs weights to start from: set 'pretrained: true' or 'weights: FILE'")
        if self.transfer and self.transfer.freeze > self.epochs:
            raise wrong(f"expected a transfer.freeze of at most epochs ({self.epochs}), found {self.transfer.freeze}")
        if self.schedule.warmup and self.schedule.warmup >= self.epochs:
            raise wrong(f"expected a schedule.warmup below epochs ({self.epochs}), found {self.schedule.warmup:g}")
        return self


class TeacherSpec(ModelSpec):
    """The teacher: a model, trained here or with weights, or an ONNX file as it is."""

    model: ModelName | None = Field(  # type: ignore[assignment]
        default=None, description="limbeck/…, torchvision/…, timm/…, smp/… or user/…; an .onnx file needs none"
    )
    weights: TeacherFile | None = Field(default=None, description="a file: taken as it is, or the start of a transfer")
    class_order: list[ClassName] | None = Field(
        default=None, min_length=2, max_length=100_000, description="names of its classes, in its own order"
    )
    weight: Positive | None = Field(default=None, description="of a teacher among several; all are scaled to sum to 1")
    output: str | None = Field(default=None, min_length=1, description="the .onnx file's output of scores, of several")
    probabilities: bool = Field(default=False, description="the .onnx file's outputs are probabilities: log is taken")
    store: Store = Field(default=None, description="keep what it says of each view: auto, a path, or a mapping")

    @model_validator(mode="after")
    def _one_kind(self) -> TeacherSpec:
        file = self.weights is not None and self.weights.endswith(".onnx")
        if self.model is None and not file:
            raise wrong("the key 'model' is needed, unless 'weights' is an .onnx file")
        if file and (self.transfer or self.options):
            raise wrong(f"an .onnx file is taken as it is: remove '{'transfer' if self.transfer else 'options'}'")
        for key in ("output", "probabilities"):
            if getattr(self, key) and not file:
                raise wrong(f"'{key}' is for an .onnx file")
        if self.class_order and (self.transfer or not self.weights):
            raise wrong("'class_order' is for a teacher that has its weights; one trained here has the data's order")
        return self


class StudentSpec(ModelSpec):
    """The student; its control is trained in the same way."""

    labels: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None,
        description="so many training labels for student and controls, drawn for each seed",
    )

    @model_validator(mode="after")
    def _is_trained(self) -> StudentSpec:
        if self.weights is not None and self.transfer is None:
            raise wrong(
                "a student with weights is not trained, so nothing would be distilled; "
                "remove 'weights', or add 'transfer: {}' to start from them"
            )
        return self
