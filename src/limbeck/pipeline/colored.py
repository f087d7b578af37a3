"""The colors of classes, as a recipe's masks have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.data.sources.colors import ColorTable


def colors(recipe: Mapping[str, Any]) -> list[tuple[int, int, int]] | None:
    """The color of each class, where a recipe's masks have colors: the first of several.

    Example:
        >>> colors({"data": {"colors": {"land": "#0000FF", "void": "#000000", "sea": [9, 0, 0]}, "ignore": ["void"]}})
        [(0, 0, 255), (9, 0, 0)]
    """
    data = recipe.get("data") or {}
    if not data.get("colors"):
        return None
    table = ColorTable.of(data["colors"], data.get("ignore") or ())
    if table.numbers:
        return None
    first: dict[int, int] = {}
    for code, number in table.codes.items():
        first.setdefault(number, code)
    return [(first[at] >> 16, first[at] >> 8 & 255, first[at] & 255) for at in range(len(table.classes))]


__all__ = ["colors"]
