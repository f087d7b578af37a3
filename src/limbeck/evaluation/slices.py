"""Slices: the same metrics for each value of a column, such as a hospital or a camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, tensor

from limbeck.evaluation.metrics import defined, measure
from limbeck.evaluation.operating import at_threshold, probability

FEW = 20  # samples, below which a slice's numbers say little


def slices(
    logits: Tensor,
    targets: Tensor,
    columns: Mapping[str, Sequence[str]],
    *,
    positive: int | None = None,
    threshold: float | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Metrics of the labeled samples of each value, values in order.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, -1 for no label.
        columns: for each column the value of every sample.
        positive: number of the declared positive class.
        threshold: of the operating point.

    Returns:
        For each column a row a value: ``value``, ``samples``, ``few`` (under 20), ``accuracy``, ``balanced_accuracy``,
        ``majority_baseline``, and with a positive class ``sensitivity`` and ``specificity``, with a threshold both at
        the ``operating_point``. None: not defined.

    Example:
        >>> z = tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
        >>> found = slices(z, tensor([0, 1, 1]), {"site": ("a", "a", "b")})["site"]
        >>> [(one["value"], one["samples"], one["accuracy"]) for one in found]
        [('a', 2, 1.0), ('b', 1, 0.0)]
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for column, values in columns.items():
        places: dict[str, list[int]] = {}
        for at, value in enumerate(values):
            if targets[at] >= 0:
                places.setdefault(value, []).append(at)
        rows = {value: tensor(places[value]) for value in sorted(places)}
        found[column] = [
            {"value": value, **_slice(logits[at], targets[at], positive, threshold)} for value, at in rows.items()
        ]
    return found


def _slice(logits: Tensor, targets: Tensor, positive: int | None, threshold: float | None) -> dict[str, Any]:
    names = ["accuracy", "balanced_accuracy", *(["sensitivity", "specificity"] if positive is not None else [])]
    row: dict[str, Any] = {
        "samples": len(targets),
        "few": len(targets) < FEW,
        **{name: defined(measure(name, logits, targets, positive=positive)) for name in names},
        "majority_baseline": float(targets.bincount().max()) / len(targets),
    }
    if positive is not None and threshold is not None:
        row["operating_point"] = at_threshold(probability(logits, positive), targets == positive, threshold)
    return row
