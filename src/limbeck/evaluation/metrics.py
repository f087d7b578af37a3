"""Metrics of classification, in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BINS = 15


def quick(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Loss and accuracy over the labeled samples: what each epoch is judged by.

    Example:
        >>> quick(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]))["accuracy"]
        0.5
    """
    labeled = targets >= 0
    logits, targets = logits[labeled].double(), targets[labeled]
    loss = functional.cross_entropy(logits, targets)
    return {"loss": float(loss), "accuracy": float((logits.argmax(1) == targets).double().mean())}


def classification(
    logits: Tensor, targets: Tensor, classes: Sequence[str], teacher_logits: Tensor | None = None
) -> dict[str, Any]:
    """Everything that is said of a classifier on one split; only labeled samples count.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, -1 for no label.
        classes: C names.
        teacher_logits: ``[N, C]``, to compare with.

    Returns:
        ``loss`` (mean cross-entropy), ``accuracy``, ``macro_f1``, ``ece`` (expected calibration error, 15 equal bins of
        confidence), ``majority_baseline`` (share of the most frequent class), ``samples``, ``confusion`` (rows: truth,
        columns: prediction), ``per_class``, and with a teacher ``agreement`` (same top class) and ``kl_to_teacher``.

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
    confusion = _confusion(targets, guess, len(classes))
    per_class = _per_class(confusion, classes)
    found: dict[str, Any] = {
        **quick(logits, targets),
        "macro_f1": sum(one["f1"] for one in per_class) / len(per_class),
        "ece": _calibration_error(logits, targets),
        "majority_baseline": float(confusion.sum(dim=1).max() / confusion.sum()),
        "samples": len(targets),
        "confusion": confusion.tolist(),
        "per_class": per_class,
    }
    if teacher_logits is not None:
        other = teacher_logits[labeled].double()
        log_t, log_s = torch.log_softmax(other, dim=1), torch.log_softmax(logits, dim=1)
        found["agreement"] = float((other.argmax(dim=1) == guess).double().mean())
        found["kl_to_teacher"] = float((log_t.exp() * (log_t - log_s)).sum(dim=1).mean())
    return found


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that are single numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _confusion(targets: Tensor, guess: Tensor, classes: int) -> Tensor:
    return torch.bincount(targets * classes + guess, minlength=classes * classes).reshape(classes, classes)


def _per_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    right = confusion.diag().double()
    support, guessed = confusion.sum(dim=1), confusion.sum(dim=0)
    recall, precision = right / support.clamp(min=1), right / guessed.clamp(min=1)
    f1 = 2 * right / (support + guessed).clamp(min=1)
    rows = zip(classes, recall.tolist(), precision.tolist(), f1.tolist(), support.tolist(), strict=True)
    return [dict(zip(("class", "recall", "precision", "f1", "support"), row, strict=True)) for row in rows]


def _calibration_error(logits: Tensor, targets: Tensor) -> float:
    confidence, guess = torch.softmax(logits, dim=1).max(dim=1)
    right = (guess == targets).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, right - confidence)
    return float(gap.abs().sum() / len(targets))
