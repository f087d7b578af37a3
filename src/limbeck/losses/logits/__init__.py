"""Losses between logits."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.logits.divergences import kl

TABLE: dict[str, Callable[..., Any]] = {"kl": kl}

__all__ = ["kl"]
