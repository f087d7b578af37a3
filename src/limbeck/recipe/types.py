"""What the parts of the schema share: checked kinds of values, and the base of all parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainValidator,
    WithJsonSchema,
)

from limbeck.recipe.values import (
    class_name,
    image_size,
    local_path,
    model_name,
    module_name,
    not_a_number,
    number_or_fraction,
    option_values,
    teacher_file,
    weights_file,
)

# Branches of the unions below. Pydantic puts them into the place of an error, where they are taken out again.
ONE, SEVERAL, WORD, MAPPING = TAGS = ("one teacher", "several teachers", "a word", "a mapping")

Positive = Annotated[FiniteFloat, Field(gt=0, le=1e9)]
LocalPath = Annotated[str, Field(max_length=4096), AfterValidator(local_path)]
WeightsFile = Annotated[LocalPath, AfterValidator(weights_file)]
TeacherFile = Annotated[LocalPath, AfterValidator(teacher_file)]
ClassName = Annotated[str, Field(max_length=1000), BeforeValidator(class_name)]
ModuleName = Annotated[str, Field(max_length=200), AfterValidator(module_name)]
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
_SIDE = {"type": "integer", "minimum": 1}
ImageSize = Annotated[
    int | list[int],
    PlainValidator(image_size),
    WithJsonSchema({"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}]}),
]
Options = Annotated[dict[str, Any], PlainValidator(option_values), WithJsonSchema({"type": "object"})]
Classifying = Literal["accuracy", "balanced_accuracy", "macro_f1", "f1", "auc", "average_precision", "loss"]
Segmenting = Literal["mean_iou", "mean_dice", "pixel_accuracy", "macro_precision", "macro_recall"]
MetricName = Classifying | Segmenting
AutoOrBool = Annotated[Literal["auto", True, False], BeforeValidator(not_a_number)]


def word_or_mapping(value: Any) -> str:
    return MAPPING if isinstance(value, dict | BaseModel) else WORD


def one_or_several(value: Any) -> str:
    return SEVERAL if isinstance(value, list) else ONE


class Part(BaseModel):
    """What all parts share: unknown keys are refused, text is not taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
