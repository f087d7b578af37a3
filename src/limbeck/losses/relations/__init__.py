"""Losses between the relations of samples to each other."""

from collections.abc import Callable
from typing import Any

TABLE: dict[str, Callable[..., Any]] = {}

__all__: list[str] = []
