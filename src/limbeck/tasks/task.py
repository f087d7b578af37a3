"""What a task is to a run: how a model is asked, what its answers are worth, and what is drawn of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """What a task measures and draws.

    What a model *said* of a split is the task's own: of classification logits and targets ``([N, C], [N])``, of
    segmentation a :class:`limbeck.evaluation.dense.reading.Reading`. The run hands it on and does not look inside.

    Args:
        name: as a recipe says it.
        primary: the metric that models are compared by.
        hear: asks a module about a whole split: ``(module, preparation, split, shared=False) -> said``.
        quick: what each epoch is judged by: ``(said, wanted names) -> {name: value}``.
        metrics: what is said of one split: ``(said, split, classes) -> {name: value}``.
        score: what is said of all splits, the test split at what was chosen on validation:
            ``(said by split, splits, classes, teacher, detailed=…) -> {split: metrics}``; ``teacher`` is what
            :attr:`reference` gave for each split.
        paired: the difference of two models on the same samples: ``(first, second, split)``, each as of ``reference``.
        reference: the part of what was said that other models are compared with: ``(said) -> Any``.
        pictures: writes what a reader looks at: ``(folder, splits, classes, reference by role and split, modules by
            role, seed=…, colors=…)``.
        shown: the splits that the pictures are of.
        dense: whether pixels have labels, and not samples.
        positive: the declared positive class.
        specificity: that the operating point is chosen for.
    """

    name: str
    primary: str
    hear: Callable[..., Any]
    quick: Callable[..., dict[str, float | None]]
    metrics: Callable[..., dict[str, Any]]
    score: Callable[..., dict[str, dict[str, Any]]]
    paired: Callable[..., dict[str, Any] | None]
    reference: Callable[[Any], Any]
    pictures: Callable[..., None]
    shown: tuple[str, ...] = ("test",)
    dense: bool = False
    positive: str | None = None
    specificity: float | None = None

    def describe(self) -> dict[str, Any]:
        """What its numbers depend on, beside the models and the data."""
        return {"task": self.name, "metric": self.primary, "positive": self.positive, "specificity": self.specificity}


__all__ = ["Task"]
