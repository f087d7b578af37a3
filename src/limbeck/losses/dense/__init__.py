"""Losses of maps of logits or features: place by place, or over all places of an image."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.dense.channel import cwd
from limbeck.losses.dense.dice import dice, dice_batch
from limbeck.losses.dense.pairs import pairwise
from limbeck.losses.dense.pixel import pixel_kl

TABLE: dict[str, Callable[..., Any]] = {
    "cwd": cwd,
    "dice": dice,
    "dice_batch": dice_batch,
    "pairwise": pairwise,
    "pixel_kl": pixel_kl,
}

__all__ = ["cwd", "dice", "dice_batch", "pairwise", "pixel_kl"]
