"""How much the draw of the samples alone moves a metric: 95 % intervals of one model on one split.

This is another uncertainty than that of seeds: the model stays, and another test split of the same size is thought of.
Shares of samples that were drawn one by one get Wilson's interval; everything else the percentiles of a bootstrap.
Where samples belong to groups (a patient, a tile), groups are drawn and not samples. The draws are addressed by
(resample, place) and the same for every model, so that models can be compared resample by resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.order import uniform
from limbeck.evaluation.metrics import measure

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 4_000_000  # weights held at a time
_SEED = 2026  # of the draws
_Z = 1.959963984540054  # a normal distribution's 0.975 quantile


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent samples.

    Source: Wilson, 1927, J. Am. Stat. Assoc. 22.

    Example:
        >>> [round(one, 3) for one in wilson(8, 10)], [round(one, 3) for one in wilson(10, 10)]
        ([0.49, 0.943], [0.722, 1.0])
    """
    share, spread = right / count, _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return (middle - half if right else 0.0), (middle + half if right < count else 1.0)


def intervals(
    logits: Tensor,
    targets: Tensor,
    metrics: Sequence[str],
    *,
    positive: int | None = None,
    groups: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """95 % intervals of metrics of one model from the draw of the labeled samples.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, -1 for no label.
        metrics: names that :func:`limbeck.evaluation.metrics.measure` knows.
        positive: number of the declared positive class.
        groups: of every sample; None: each is drawn by itself.

    Returns:
        By metric ``low``, ``high`` and ``method`` (``wilson``, ``bootstrap``, ``bootstrap of groups``). A metric has
        none where it is not defined, or where no resample differs: a bootstrap of a perfect score would show no
        uncertainty at all.

    Source: bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; of groups: Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8.

    Example:
        >>> z, y = torch.tensor([[1.0, 0.0]] * 10), torch.tensor([0] * 8 + [1] * 2)
        >>> intervals(z, y, ["accuracy"])["accuracy"]["method"]
        'wilson'
    """
    labeled = (targets >= 0).nonzero().flatten()
    logits, targets, groups = logits[labeled], targets[labeled], _chosen(groups, labeled)
    found: dict[str, dict[str, Any]] = {}
    drawn = []
    for metric in metrics:
        share = None if groups is not None else _share(metric, logits, targets, positive)
        if share is None:
            drawn.append(metric)
        elif share[1]:
            found[metric] = dict(zip(("low", "high"), wilson(*share), strict=True)) | {"method": "wilson"}
    method = "bootstrap" if groups is None else "bootstrap of groups"
    for metric, values in _bootstrap(targets, groups, drawn, _of(logits, targets, positive)).items():
        ends = percentiles(values)
        if ends is not None:
            found[metric] = {"low": ends[0], "high": ends[1], "method": method}
    return {metric: found[metric] for metric in metrics if metric in found}


def paired(
    first: Tensor,
    second: Tensor,
    targets: Tensor,
    metric: str,
    *,
    positive: int | None = None,
    groups: Sequence[str] | None = None,
) -> dict[str, Any] | None:
    """The difference of two models in a metric on the same samples, with its interval from the draw of the samples.

    Args:
        first: logits ``[N, C]``.
        second: logits of the other model on the same samples.
        targets: int64 ``[N]``, -1 for no label.
        metric: a name that :func:`limbeck.evaluation.metrics.measure` knows.
        positive: number of the declared positive class.
        groups: of every sample.

    Returns:
        ``mean`` (first minus second), ``low``, ``high``, ``samples``, ``groups``; None where it is not
        defined. No interval where no resample differs.

    Example:
        >>> z, y = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
        >>> paired(z, z, y, "accuracy")["mean"]
        0.0
    """
    labeled = (targets >= 0).nonzero().flatten()
    first, second, targets, groups = first[labeled], second[labeled], targets[labeled], _chosen(groups, labeled)

    def change(name: str, weights: Tensor | None = None) -> Tensor:
        one, other = (measure(name, z, targets, positive=positive, weights=weights) for z in (first, second))
        return one - other

    difference = float(change(metric))
    if math.isnan(difference):
        return None
    ends = percentiles(_bootstrap(targets, groups, [metric], change)[metric]) or (None, None)
    count = None if groups is None else len(set(groups))
    return {"mean": difference, "low": ends[0], "high": ends[1], "samples": len(targets), "groups": count}


def draws(size: int, *, resamples: int = RESAMPLES) -> Iterator[Tensor]:
    """How often each of ``size`` units is drawn in each resample, in blocks ``[resamples of the block, size]``.

    Example:
        >>> [block.sum(dim=1).tolist() for block in draws(5, resamples=3)]
        [[5.0, 5.0, 5.0]]
    """
    each = max(_BLOCK // max(size, 1), 1)
    for start in range(0, resamples, each):
        number = np.arange(start, min(start + each, resamples))[:, None]
        taken = (uniform(_SEED, number, np.arange(size)) * size).astype(np.int64)
        rows = torch.from_numpy(taken + size * (number - start)).flatten()
        yield torch.bincount(rows, minlength=size * len(number)).double().reshape(len(number), size)


def percentiles(values: Tensor) -> tuple[float, float] | None:
    """The middle 95 % of the resamples where a metric is defined; None if that is less than half, or all are equal."""
    known = values[~values.isnan()]
    if 2 * len(known) < len(values) or not bool((known != known[0]).any()):
        return None
    low, high = torch.quantile(known, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=known.dtype)).tolist()
    return low, high


def _bootstrap(
    targets: Tensor, groups: Sequence[str] | None, metrics: Sequence[str], of: Callable[..., Tensor]
) -> dict[str, Tensor]:
    """Each metric's value in every resample."""
    if not metrics or not len(targets):
        return {}
    names = {} if groups is None else {name: number for number, name in enumerate(dict.fromkeys(groups))}
    member = None if groups is None else torch.tensor([names[name] for name in groups])
    parts: dict[str, list[Tensor]] = {metric: [] for metric in metrics}
    for block in draws(len(names) if names else len(targets)):
        weights = block if member is None else block[:, member]
        for metric, found in parts.items():
            found.append(of(metric, weights))
    return {metric: torch.cat(found) for metric, found in parts.items()}


def _of(logits: Tensor, targets: Tensor, positive: int | None) -> Callable[[str, Tensor], Tensor]:
    return lambda metric, weights: measure(metric, logits, targets, positive=positive, weights=weights)


def _share(metric: str, logits: Tensor, targets: Tensor, positive: int | None) -> tuple[int, int] | None:
    """Right answers and their number, where a metric is a share of samples; else None."""
    guess = logits.argmax(dim=1)
    if metric == "accuracy":
        return int((guess == targets).sum()), len(targets)
    if positive is None or metric not in ("sensitivity", "specificity"):
        return None
    there = targets.eq(positive)
    asked = there if metric == "sensitivity" else ~there
    return int(guess.eq(positive).eq(there)[asked].sum()), int(asked.sum())


def _chosen(groups: Sequence[str] | None, index: Tensor) -> list[str] | None:
    return None if groups is None else [groups[at] for at in index.tolist()]
