"""Metrics of classification, in plain numbers. None stands for what is not defined: no number is made up for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.evaluation import counts, scores
from limbeck.evaluation.calibration import calibration_error, reliability

MOST_CURVES = 20  # a curve for each class up to so many


def measure(
    metric: str, logits: Tensor, targets: Tensor, *, positive: int | None = None, weights: Tensor | None = None
) -> Tensor:
    """One metric by its name; with weights for many weightings of the samples at once.

    Args:
        metric: of ``limbeck.evaluation.names``, or ``sensitivity``, ``specificity``.
        logits: ``[N, C]``.
        targets: int64 ``[N]``, all with a label.
        positive: number of the declared positive class. ``auc`` and ``average_precision`` are this class's against
            all others; without it the mean over classes, each against all others.
        weights: ``[B, N]``, how often each sample counts.

    Returns:
        float64 ``[]``, or ``[B]``; NaN where it is not defined.

    Example:
        >>> float(measure("auc", torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])))
        1.0
    """
    if not len(targets):
        return torch.full([] if weights is None else [len(weights)], torch.nan, dtype=torch.float64)
    if metric == "loss":
        each = functional.cross_entropy(logits.double(), targets, reduction="none")
        return each.mean() if weights is None else (weights.double() * each).sum(dim=-1) / weights.sum(dim=-1)
    if metric in ("auc", "average_precision"):
        odds, of = scores.log_odds(logits), getattr(scores, metric)
        chosen = range(logits.shape[1]) if positive is None else [positive]
        return torch.stack([of(odds[:, one], targets == one, weights) for one in chosen]).mean(dim=0)
    table = counts.confusion(targets, logits.argmax(dim=1), logits.shape[1], weights)
    if metric in ("f1", "sensitivity", "specificity"):
        if positive is None:
            raise ValueError(f"{metric} is of one class, and none is given")
        return getattr(counts, metric)(table, positive)
    return getattr(counts, metric)(table)


def quick(
    logits: Tensor, targets: Tensor, wanted: Sequence[str] = (), *, positive: int | None = None
) -> dict[str, float | None]:
    """Loss and accuracy over the labeled samples, and the other wanted metrics: what each epoch is judged by.

    Example:
        >>> quick(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]), ["balanced_accuracy"])["accuracy"]
        0.5
    """
    labeled = targets >= 0
    logits, targets = logits[labeled].double(), targets[labeled]
    names = dict.fromkeys(["loss", "accuracy", *wanted])
    return {name: defined(measure(name, logits, targets, positive=positive)) for name in names}


def classification(
    logits: Tensor,
    targets: Tensor,
    classes: Sequence[str],
    teacher_logits: Tensor | None = None,
    *,
    positive: int | None = None,
) -> dict[str, Any]:
    """Everything that is said of a classifier on one split; only labeled samples count.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, -1 for no label.
        classes: C names.
        teacher_logits: ``[N, C]``, to compare with.
        positive: number of the declared positive class.

    Returns:
        ``loss`` (mean cross-entropy), ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auc`` and
        ``average_precision`` (of the positive class, else the mean over classes, each against the others; of two
        classes without a positive one average precision is told for each class only), ``ece`` (expected calibration
        error), ``reliability``, ``majority_baseline`` (share of the most frequent class), ``samples``, ``confusion``
        (rows: truth, columns: prediction), ``per_class``; with a positive class its ``f1``, ``sensitivity`` and
        ``specificity`` where the most probable class is predicted; with a teacher ``agreement`` (same top class) and
        ``kl_to_teacher``. None: not defined, as AUC where a class has no sample.

    Source: calibration error: Guo et al., 2017, arXiv:1706.04599.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
        >>> found = classification(z, torch.tensor([0, 0, 1, 1]), ["a", "b"])
        >>> found["accuracy"], found["confusion"], found["majority_baseline"]
        (0.75, [[2, 0], [1, 1]], 0.5)
    """
    labeled = targets >= 0
    logits, targets = logits[labeled].double(), targets[labeled]
    guess = logits.argmax(dim=1)
    table = counts.confusion(targets, guess, len(classes))
    bins, per_class = reliability(logits, targets), _per_class(table, logits, targets, classes)
    told = per_class if positive is None else [per_class[positive]]
    of_one = [] if positive is None else ["f1", "sensitivity", "specificity"]
    found: dict[str, Any] = {
        **quick(logits, targets, ["balanced_accuracy", "macro_f1", *of_one], positive=positive),
        "auc": _mean([one["auc"] for one in told]),
        "average_precision": _mean([one["average_precision"] for one in told]),
        "ece": calibration_error(bins),
        "majority_baseline": defined(table.sum(dim=1).max() / table.sum()),
        "samples": len(targets),
        "confusion": table.long().tolist(),
        "per_class": per_class,
        "reliability": {"bins": bins},
    }
    if positive is None and len(classes) == 2:
        del found["average_precision"]  # it differs between the two, and which one is looked for is not known
    if teacher_logits is not None:
        other = teacher_logits[labeled].double()
        log_t, log_s = torch.log_softmax(other, dim=1), torch.log_softmax(logits, dim=1)
        found["agreement"] = defined((other.argmax(dim=1) == guess).double().mean())
        found["kl_to_teacher"] = defined((log_t.exp() * (log_t - log_s)).sum(dim=1).mean())
    return found


def curves(logits: Tensor, targets: Tensor, classes: Sequence[str], positive: int | None = None) -> dict[str, Any]:
    """Precision-recall curves of each class against the others, of scores; ROC of two classes or the positive one.

    Returns:
        ``pr``: by class name ``precision``, ``recall`` and ``average_precision``; ``roc``: ``fpr``, ``tpr`` and
        ``auc``. At most 200 points a curve; both areas are of all points. Of more than 20 classes only the positive
        one has curves.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> curves(z, torch.tensor([0, 1]), ["a", "b"])["pr"]["a"]
        {'precision': [1.0, 0.5], 'recall': [1.0, 1.0], 'average_precision': 1.0}
    """
    labeled = targets >= 0
    odds, targets = scores.log_odds(logits[labeled]), targets[labeled]
    found: dict[str, dict[str, Any]] = {"pr": {}, "roc": {}}
    for number, name in enumerate(classes):
        inside, ordered = targets == number, odds[:, number]
        if not bool(inside.any()) or bool(inside.all()) or (len(classes) > MOST_CURVES and number != positive):
            continue
        precision, recall = scores.pr_curve(ordered, inside)
        area = float(scores.average_precision(ordered, inside))
        found["pr"][name] = {"precision": precision, "recall": recall, "average_precision": area}
        if number == positive or (positive is None and len(classes) == 2):
            fpr, tpr = scores.roc_curve(ordered, inside)
            found["roc"][name] = {"fpr": fpr, "tpr": tpr, "auc": float(scores.auc(ordered, inside))}
    return found if found["roc"] else {"pr": found["pr"]}


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that are single numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def defined(value: Tensor | float) -> float | None:
    """A number, or None where it is not one.

    Example:
        >>> defined(torch.tensor(0.5)), defined(math.nan)
        (0.5, None)
    """
    return None if math.isnan(value) else float(value)


def _per_class(table: Tensor, logits: Tensor, targets: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    right = table.diagonal()
    support, guessed = table.sum(dim=1), table.sum(dim=0)
    recall, precision = right / support.clamp(min=1), right / guessed.clamp(min=1)
    f1 = 2 * right / (support + guessed).clamp(min=1)
    odds, rows = scores.log_odds(logits), []
    for at, name in enumerate(classes):
        inside = targets == at
        rows.append(
            {
                "class": name,
                "recall": float(recall[at]),
                "precision": float(precision[at]),
                "f1": float(f1[at]),
                "support": int(support[at]),
                "auc": _area(scores.auc, odds[:, at], inside),
                "average_precision": _area(scores.average_precision, odds[:, at], inside),
            }
        )
    return rows


def _area(of: Callable[[Tensor, Tensor], Tensor], odds: Tensor, inside: Tensor) -> float | None:
    return defined(of(odds, inside)) if bool(inside.any()) else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


__all__ = ["classification", "curves", "defined", "measure", "quick", "scalars"]
