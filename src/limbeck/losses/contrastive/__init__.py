"""Losses against other samples that are kept in a memory."""

from collections.abc import Callable
from typing import Any

TABLE: dict[str, Callable[..., Any]] = {}

__all__: list[str] = []
