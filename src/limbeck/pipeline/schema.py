"""The recipe's keys, typed: each with its range and a default that works."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from limbeck.pipeline.values import (
    local_path,
    model_name,
    not_a_number,
    number_or_fraction,
    option_values,
    run_name,
    weights_file,
    wrong,
)

# Branches of the unions below. Pydantic puts them into the place of an error, where they are taken out again.
ONE, SEVERAL, WORD, MAPPING = TAGS = ("one teacher", "several teachers", "a word", "a mapping")

Positive = Annotated[FiniteFloat, Field(gt=0, le=1e9)]
LocalPath = Annotated[str, Field(max_length=4096), AfterValidator(local_path)]
WeightsFile = Annotated[LocalPath, AfterValidator(weights_file)]
ModelName = Annotated[str, Field(max_length=200), AfterValidator(model_name)]
Share = Annotated[
    int | float,
    PlainValidator(number_or_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }
    ),
]
Options = Annotated[dict[str, Any], PlainValidator(option_values), WithJsonSchema({"type": "object"})]
AutoOrBool = Annotated[Literal["auto", True, False], BeforeValidator(not_a_number)]


def _word_or_mapping(value: Any) -> str:
    return MAPPING if isinstance(value, dict | BaseModel) else WORD


def _one_or_several(value: Any) -> str:
    return SEVERAL if isinstance(value, list) else ONE


class Part(BaseModel):
    """What all parts share: unknown keys are refused, text is not taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NormalizationSpec(Part):
    """Mean and deviation of each channel, for inputs scaled to [0, 1]."""

    mean: list[FiniteFloat] = Field(min_length=1)
    std: list[Positive] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_channels(self) -> NormalizationSpec:
        if len(self.mean) != len(self.std):
            raise wrong(f"expected as many means as deviations, found {len(self.mean)} and {len(self.std)}")
        return self


class DataSpec(Part):
    """Which data, how divided and normalized."""

    source: Literal["digits", "mnist", "arrays"] = "digits"
    root: LocalPath | None = Field(default=None, description="folder of the data sets, for mnist")
    path: LocalPath | None = Field(default=None, description="an .npz file, for arrays")
    validation: Share | None = Field(default=None, description="fraction or count of training samples to choose on")
    test: Share | None = Field(default=None, description="fraction or count, where the source has no test split")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the splits; the same for every run")
    download: bool = False
    normalization: Annotated[
        Annotated[Literal["auto", "none"], Tag(WORD)] | Annotated[NormalizationSpec, Tag(MAPPING)],
        Discriminator(_word_or_mapping),
    ] = Field(default="auto", description="auto: measured on the training split")

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> DataSpec:
        if self.source == "mnist" and self.root is None:
            raise wrong("source mnist needs the key 'root': the folder that holds MNIST/raw")
        if self.source == "arrays" and self.path is None:
            raise wrong("source arrays needs the key 'path': an .npz file")
        return self


class ViewsSpec(Part):
    """Augmentation; see limbeck.Views."""

    shift: int = Field(default=0, ge=0, le=1024)
    flip: bool = False
    rotate: FiniteFloat = Field(default=0.0, ge=0, le=180)
    scale: FiniteFloat = Field(default=0.0, ge=0, le=0.9)
    erase: FiniteFloat = Field(default=0.0, ge=0, le=1)


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
    milestones: list[Annotated[int, Field(ge=1, le=100_000)]] = []
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


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class ModelSpec(Part):
    """A model by name, and its training."""

    model: ModelName = Field(description="limbeck/…, torchvision/…, timm/… or user/… (with --models FILE)")
    options: Options = Field(default={}, description="keyword arguments of the architecture")
    pretrained: bool = False
    weights: WeightsFile | None = Field(default=None, description=".safetensors, .pth: not trained then")
    normalization: (
        Annotated[
            Annotated[Literal["none"], Tag(WORD)] | Annotated[NormalizationSpec, Tag(MAPPING)],
            Discriminator(_word_or_mapping),
        ]
        | None
    ) = Field(default=None, description="of this model, if not the data's")
    epochs: int = Field(default=30, ge=1, le=100_000)
    batch_size: int = Field(default=128, ge=2, le=1_000_000)
    optimizer: Annotated[OptimizerSpec, BeforeValidator(_named)] = OptimizerSpec()
    schedule: Annotated[ScheduleSpec, BeforeValidator(_named)] = ScheduleSpec()
    accumulate: int = Field(default=1, ge=1, le=100_000, description="pieces that a batch is computed in")
    clip: Positive | None = None
    early_stopping: EarlyStoppingSpec | None = None
    select: Literal["accuracy", "loss"] = "accuracy"
    ema: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    views: ViewsSpec = ViewsSpec()
    workers: int = Field(default=0, ge=0, le=256)

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelSpec:
        if self.pretrained and self.weights is not None:
            raise wrong("expected either 'pretrained' or 'weights', found both")
        if self.pretrained and self.model.startswith(("limbeck/", "user/")):
            raise wrong(f"{self.model} has no published weights; set 'weights' to a file instead of 'pretrained'")
        if self.schedule.warmup and self.schedule.warmup >= self.epochs:
            raise wrong(f"expected a schedule.warmup below epochs ({self.epochs}), found {self.schedule.warmup:g}")
        return self


class StudentSpec(ModelSpec):
    """The student; its control is trained in the same way."""

    labels: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None,
        description="so many training labels for student and controls, drawn for each seed",
    )

    @model_validator(mode="after")
    def _is_trained(self) -> StudentSpec:
        if self.weights is not None:
            raise wrong("a student with weights is not trained, so nothing would be distilled; remove 'weights'")
        return self


class ControlsSpec(Part):
    """What the student is compared with."""

    control: bool = True
    hard_labels: AutoOrBool = Field(default="auto", description="auto: where training samples lack labels")


class RecipeSpec(Part):
    """A distillation, from data to an exported file."""

    name: Annotated[str, AfterValidator(run_name)] = "run"
    task: Literal["classification"] = "classification"
    data: DataSpec = DataSpec()
    teacher: Annotated[
        Annotated[ModelSpec, Tag(ONE)] | Annotated[list[ModelSpec], Tag(SEVERAL), Field(min_length=1, max_length=64)],
        Discriminator(_one_or_several),
    ]
    student: StudentSpec
    objective: dict[str, Any] = Field(
        default={"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4.0}}, min_length=1
    )
    controls: ControlsSpec = ControlsSpec()
    seed: int = Field(default=0, ge=0, lt=2**31, description="the first seed")
    seeds: int = Field(default=3, ge=1, le=1000, description="how many seeds student and controls are trained with")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    fast: bool = Field(default=True, description="channels-last and automatic precision; false: plain float32")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    checkpoint_seconds: FiniteFloat = Field(default=15.0, ge=0, le=1e6)
    export: list[Literal["onnx"]] = ["onnx"]

    @model_validator(mode="after")
    def _last_seed(self) -> RecipeSpec:
        if self.seed + self.seeds > 2**31:
            raise wrong("expected seed + seeds to be at most 2**31")
        return self
