"""The operating point: the threshold on the positive class's probability, chosen on validation for a specificity."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def probability(logits: Tensor, positive: int) -> Tensor:
    """Probability of the positive class, float64 ``[N]``, of float32 logits: what a threshold is held against.

    Example:
        >>> probability(torch.tensor([[0.0, 0.0]]), 1).tolist()
        [0.5]
    """
    return torch.softmax(logits.float().double(), dim=1)[:, positive]


def choose_threshold(probabilities: Tensor, positive: Tensor, specificity: float) -> float | None:
    """The smallest threshold that leaves at least ``specificity`` of the negative samples below it.

    A sample is called positive where its probability is at or above the threshold. Let v be the smallest negative
    sample's probability such that enough negatives are at or below v; the threshold is the middle between v and the
    next larger probability of any sample (or 1). All thresholds in between decide these samples alike; the middle one
    is farthest from what another runtime's rounding could change. Where negatives tie at v, all of them are below.

    Args:
        probabilities: of the positive class, ``[N]``, on validation.
        positive: bool ``[N]``.
        specificity: wanted, above 0 and below 1.

    Returns:
        The threshold (above 1 where nothing may be called positive), or None without negative samples.

    Example:
        >>> p = torch.tensor([0.1, 0.2, 0.6, 0.4, 0.8], dtype=torch.float64)
        >>> choose_threshold(p, torch.tensor([False, False, False, True, True]), 0.6)  # two of three below
        0.30000000000000004
    """
    negatives = probabilities[~positive].sort().values
    if not len(negatives):
        return None
    needed = max(math.ceil(specificity * len(negatives) - 1e-9), 1)
    last = float(negatives[needed - 1])
    above = probabilities[probabilities > last]
    following = float(above.min()) if len(above) else 1.0
    middle = (last + following) / 2
    return middle if middle > last else math.nextafter(last, math.inf)


def at_threshold(probabilities: Tensor, positive: Tensor, threshold: float) -> dict[str, float | None]:
    """Sensitivity and specificity where samples at or above a threshold are called positive; None: not defined.

    Example:
        >>> at_threshold(torch.tensor([0.2, 0.7, 0.7]), torch.tensor([False, False, True]), 0.5)
        {'sensitivity': 1.0, 'specificity': 0.5}
    """
    called = probabilities >= threshold
    return {"sensitivity": _share(called[positive]), "specificity": _share(~called[~positive])}


def _share(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
