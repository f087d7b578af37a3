"""Losses: plain functions on tensors, unreduced; the objective is the only place that reduces.

``TABLE`` is the closed lookup of the names that a recipe may use.
"""

from collections.abc import Callable

from torch import Tensor

from limbeck.losses.logits import kl
from limbeck.losses.supervised import cross_entropy, hard_labels

TABLE: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "hard_labels": hard_labels,
    "kl": kl,
}

__all__ = ["TABLE", "cross_entropy", "hard_labels", "kl"]
