"""Losses between maps of logits or features, place by place."""

from collections.abc import Callable
from typing import Any

TABLE: dict[str, Callable[..., Any]] = {}

__all__: list[str] = []
