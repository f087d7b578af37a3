"""Losses against other samples that are kept in a memory."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.contrastive.crd import CRD

crd = CRD  # a recipe's name, beside the class's

TABLE: dict[str, Callable[..., Any]] = {"crd": CRD}

__all__ = ["CRD", "crd"]
