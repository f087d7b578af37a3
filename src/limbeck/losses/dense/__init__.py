"""Losses between maps of logits or features, place by place."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.dense.channel import cwd
from limbeck.losses.dense.pairs import pairwise
from limbeck.losses.dense.pixel import pixel_kl

TABLE: dict[str, Callable[..., Any]] = {"cwd": cwd, "pairwise": pairwise, "pixel_kl": pixel_kl}

__all__ = ["cwd", "pairwise", "pixel_kl"]
