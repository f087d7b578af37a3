"""The metrics that models may be compared by: what they are called, which way is better, what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.errors import RecipeError, nearest


@dataclass(frozen=True)
class Metric:
    """A metric's name for people; whether larger is better; whether it is a share, shown in percent and points."""

    title: str
    larger: bool = True
    share: bool = True


METRICS = {
    "accuracy": Metric("accuracy"),
    "balanced_accuracy": Metric("balanced accuracy"),
    "macro_f1": Metric("macro F1"),
    "f1": Metric("F1"),
    "auc": Metric("AUC"),
    "average_precision": Metric("average precision"),
    "loss": Metric("loss", larger=False, share=False),
}
DENSE = {
    "mean_iou": Metric("mean IoU"),
    "mean_dice": Metric("mean Dice"),
    "pixel_accuracy": Metric("pixel accuracy"),
    "macro_precision": Metric("macro precision"),
    "macro_recall": Metric("macro recall"),
    "loss": METRICS["loss"],
}
_ALL = METRICS | DENSE


def title(metric: str) -> str:
    """What a metric is called in text; a name that is not in the table is told as it is.

    Example:
        >>> title("auc"), title("balanced_accuracy"), title("sensitivity")
        ('AUC', 'balanced accuracy', 'sensitivity')
    """
    return _ALL[metric].title if metric in _ALL else metric.replace("_", " ")


def shown(metric: str, value: float | None) -> str:
    """A metric's value: a share in percent, a loss as it is.

    Example:
        >>> shown("auc", 0.9876), shown("loss", 0.1234), shown("f1", None)
        ('98.76 %', '0.1234', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if is_share(metric) else f"{value:.4f}"


def is_share(metric: str) -> bool:
    """Whether a metric is a share of 1."""
    return metric not in _ALL or _ALL[metric].share


def sign(metric: str) -> int:
    """1 where larger is better, -1 where smaller is.

    Example:
        >>> sign("accuracy"), sign("loss")
        (1, -1)
    """
    return 1 if metric not in _ALL or _ALL[metric].larger else -1


def check_metric(
    metric: str, classes: Sequence[str], positive: str | None, *, key: str = "metric", dense: bool = False
) -> None:
    """See that a metric has a name of the table, and the positive class that it needs.

    F1 is of one class; so is average precision where there are two classes, and it differs between them. Which of the
    classes is looked for is never guessed.

    Raises:
        RecipeError: naming the key, and the classes to choose from.

    Example:
        >>> check_metric("f1", ["benign", "malignant"], None)
        Traceback (most recent call last):
        limbeck.errors.RecipeError: metric is f1, which is of one class: the key 'positive' does not say which
          cure: set positive to one of benign, malignant
    """
    known = DENSE if dense else METRICS
    if metric not in known:
        kind = "segmentation" if dense else "classification"
        raise RecipeError(
            f"{key} is {metric!r}, which is no metric of {kind}{nearest(str(metric), known)}",
            cure=f"one of {', '.join(known)}",
        )
    if positive is None and (metric == "f1" or (metric == "average_precision" and len(classes) == 2)):
        raise RecipeError(
            f"{key} is {metric}, which is of one class: the key 'positive' does not say which",
            cure=f"set positive to one of {', '.join(list(classes)[:20])}",
        )


def check_positive(positive: str, classes: Sequence[str]) -> int:
    """The number of the declared positive class.

    Raises:
        RecipeError: if there is no such class.

    Example:
        >>> check_positive("malignant", ["benign", "malignant"])
        1
    """
    if positive not in classes:
        raise RecipeError(
            f"positive is {positive!r}, which is no class{nearest(str(positive), classes)}",
            cure=f"the classes are {', '.join(list(classes)[:20])}",
        )
    return list(classes).index(positive)
