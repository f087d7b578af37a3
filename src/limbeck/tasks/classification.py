"""Classification: one label a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.evaluation.gallery import write_gallery
from limbeck.evaluation.metrics import classification, quick


@dataclass(frozen=True)
class Task:
    """What a task measures and draws.

    Args:
        name: as a recipe says it.
        primary: the metric that models are compared by.
        quick: what each epoch is judged by: ``(logits, targets) -> {name: value}``.
        metrics: everything that is said: ``(logits, targets, classes, teacher_logits) -> {name: value}``.
        pictures: writes the gallery of mistakes.

    Example:
        >>> CLASSIFICATION.primary
        'accuracy'
    """

    name: str
    primary: str
    quick: Callable[[Tensor, Tensor], dict[str, float]]
    metrics: Callable[..., dict[str, Any]]
    pictures: Callable[..., list[dict[str, Any]]]


CLASSIFICATION = Task("classification", "accuracy", quick, classification, write_gallery)
