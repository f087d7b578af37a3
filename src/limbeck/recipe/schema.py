"""The recipe's keys, typed: each with its range and a default that works."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, FiniteFloat, Tag, model_validator

from limbeck.recipe.data_schema import DataSpec
from limbeck.recipe.model_schema import ModelSpec, StudentSpec, TeacherSpec
from limbeck.recipe.stages_schema import StageSpec, check_stages
from limbeck.recipe.types import (
    MAPPING,
    ONE,
    SEVERAL,
    WORD,
    AutoOrBool,
    MetricName,
    Part,
    one_or_several,
    word_or_mapping,
)
from limbeck.recipe.values import run_name, wrong


class ControlsSpec(Part):
    """What the student is compared with."""

    control: bool = True
    hard_labels: AutoOrBool = Field(default="auto", description="auto: where training samples lack labels")


class RecipeSpec(Part):
    """A distillation, from data to an exported file."""

    name: Annotated[str, AfterValidator(run_name)] = "run"
    task: Literal["classification", "segmentation"] = "classification"
    data: DataSpec = DataSpec()
    teacher: Annotated[
        Annotated[TeacherSpec, Tag(ONE)]
        | Annotated[list[TeacherSpec], Tag(SEVERAL), Field(min_length=1, max_length=64)],
        Discriminator(one_or_several),
    ]
    student: StudentSpec
    assistants: list[ModelSpec] = Field(
        default=[], max_length=16, description="models between teacher and student, each distilled from the one before"
    )
    generations: int = Field(
        default=1, ge=1, le=100, description="how many times in turn the student is distilled, from fresh weights"
    )
    objective: Annotated[
        Annotated[Literal["auto"], Tag(WORD)] | Annotated[dict[str, Any], Tag(MAPPING), Field(min_length=1)],
        Discriminator(word_or_mapping),
    ] = Field(
        default={"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4.0}},
        description="terms with weights; auto: temperature and weight are chosen by a short search on validation",
    )
    controls: ControlsSpec = ControlsSpec()
    metric: MetricName = Field(default="accuracy", description="that models are compared and epochs selected by")
    positive: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="name of the class that is looked for: its F1, sensitivity and specificity are told"
    )
    specificity: FiniteFloat | None = Field(
        default=None, gt=0, lt=1, description="of the operating point; its threshold is chosen on validation"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="the first seed")
    seeds: int = Field(default=3, ge=1, le=1000, description="how many seeds student and controls are trained with")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    fast: bool = Field(default=True, description="channels-last and automatic precision; false: plain float32")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    checkpoint_seconds: FiniteFloat = Field(default=15.0, ge=0, le=1e6)
    stages: list[StageSpec] = Field(
        default=[], max_length=50, description="what follows the student that is best on validation: prune, distill"
    )
    export: list[Literal["onnx"]] = Field(default=["onnx"])

    @model_validator(mode="before")
    @classmethod
    def _metric_of_its_task(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("task") == "segmentation" and "metric" not in value:
            return {**value, "metric": "mean_iou"}
        return value

    @model_validator(mode="after")
    def _chained(self) -> RecipeSpec:
        if isinstance(self.teacher, TeacherSpec) and self.teacher.weight is not None:
            raise wrong("'weight' is for a teacher among several: give a list of teachers, or leave it out")
        if isinstance(self.teacher, list):
            first, *others = (one.store for one in self.teacher)
            if any(one is not None for one in others) and any(one != first for one in others):
                raise wrong("several teachers have one store, of their mean: give 'store' to the first one alone")
        if self.generations > 1 and self.assistants:
            raise wrong("expected either 'assistants' or 'generations' above 1, found both")
        if self.generations > 1 and (self.student.transfer or self.student.pretrained):
            raise wrong(
                "each generation begins with fresh weights: leave 'pretrained' and 'transfer' out of the student"
            )
        return self

    @model_validator(mode="after")
    def _stages_in_order(self) -> RecipeSpec:
        check_stages(self.stages)
        return self

    @model_validator(mode="after")
    def _last_seed(self) -> RecipeSpec:
        if self.seed + self.seeds > 2**31:
            raise wrong("expected seed + seeds to be at most 2**31")
        return self
