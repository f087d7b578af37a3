"""Losses between features, sample by sample."""

from collections.abc import Callable
from typing import Any

TABLE: dict[str, Callable[..., Any]] = {}

__all__: list[str] = []
