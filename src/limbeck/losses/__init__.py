"""Losses: plain functions on tensors, unreduced; the objective is the only place that reduces.

``TABLE`` is the closed lookup of the names that a recipe may use: functions, and modules where a loss has parameters or
a memory. Each says what it compares by :func:`limbeck.losses.declare.compares`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limbeck.losses import contrastive, dense, features, logits, relations, supervised
from limbeck.losses.contrastive import *  # noqa: F403
from limbeck.losses.declare import Compares, compares, declared
from limbeck.losses.dense import *  # noqa: F403
from limbeck.losses.features import *  # noqa: F403
from limbeck.losses.logits import *  # noqa: F403
from limbeck.losses.relations import *  # noqa: F403
from limbeck.losses.supervised import *  # noqa: F403

_ROOMS = (contrastive, dense, features, logits, relations, supervised)
TABLE: dict[str, Callable[..., Any]] = dict(
    sorted((name, loss) for room in _ROOMS for name, loss in room.TABLE.items())
)

__all__ = ["TABLE", "Compares", "compares", "declared", *TABLE]
