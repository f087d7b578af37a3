"""Losses between the relations of samples to each other."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.relations.rkd import rkd_angle, rkd_distance
from limbeck.losses.relations.similarity import cc, pkt, sp

TABLE: dict[str, Callable[..., Any]] = {
    "cc": cc,
    "pkt": pkt,
    "rkd_angle": rkd_angle,
    "rkd_distance": rkd_distance,
    "sp": sp,
}

__all__ = ["cc", "pkt", "rkd_angle", "rkd_distance", "sp"]
