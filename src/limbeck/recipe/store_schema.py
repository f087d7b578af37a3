"""The recipe's keys about a store of the teacher's outputs."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from limbeck.errors import nearest
from limbeck.recipe.reading import describe
from limbeck.recipe.types import MAPPING, WORD, LocalPath, Part, Positive, word_or_mapping
from limbeck.recipe.values import wrong

AUTO = "auto"
MOST = 1_000_000  # views


def _word_path_or_mapping(value: Any) -> Any:
    if isinstance(value, str | dict | StoreSpec) or value is None:
        return value
    raise wrong(f"expected auto, a path, or a mapping such as {{views: 4}}, found {describe(value)}")


def _store_path(value: str) -> str:
    """``auto``, or a folder; a word that is nearly ``auto`` is not taken for one."""
    near = nearest(value.lower(), [AUTO])
    if value != AUTO and near and value == PurePath(value).name:
        raise wrong(f"expected auto or a path, found '{value}'{near} A folder of that name is './{value}'")
    return value


def _different(value: list[Any]) -> list[Any]:
    if len(set(value)) < len(value):
        raise wrong(f"expected different values, found {value}")
    return value


def _views(value: Any) -> Any:
    if value == AUTO or (type(value) is int and 1 <= value <= MOST):
        return value
    near = nearest(value, [AUTO]) if isinstance(value, str) else ""
    raise wrong(f"expected auto, or a whole number from 1 to {MOST:,}, found {describe(value)}{near}")


StorePath = Annotated[LocalPath, AfterValidator(_store_path)]
Temperatures = Annotated[list[Positive], Field(min_length=1, max_length=16), AfterValidator(_different)]
ViewCount = Annotated[
    Literal["auto"] | int,
    PlainValidator(_views),
    WithJsonSchema({"anyOf": [{"const": AUTO}, {"type": "integer", "minimum": 1, "maximum": MOST}]}),
]
LayerNames = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=16), AfterValidator(_different)
]


class StoreSpec(Part):
    """Where what the teacher says is kept, and how much of it."""

    path: StorePath = Field(default=AUTO, description="a folder; auto: in the run's, filled while the student learns")
    views: ViewCount = Field(
        default="auto", description="of each sample; auto: 16, or the epochs if fewer; 1 where views change nothing"
    )
    top: int | None = Field(
        default=None, ge=0, le=10_000, description="so many of the largest logits; 0: all; null: 10 beyond 64 classes"
    )
    temperatures: Temperatures | None = Field(
        default=None, description="at which the other logits' weight is kept beside the largest; null: the objective's"
    )
    features: LayerNames = Field(default=[], description="layers of the teacher whose pooled features are kept")
    verify: bool = Field(default=True, description="compare every file of it with its sha256 when it is opened")


Store = Annotated[
    Annotated[
        Annotated[StorePath, Tag(WORD)] | Annotated[StoreSpec, Tag(MAPPING)],
        Discriminator(word_or_mapping),
    ]
    | None,
    BeforeValidator(_word_path_or_mapping),
]


class StoreHolder(Part):
    """A store's keys where they stand alone, as in a call from Python."""

    store: Store = None
