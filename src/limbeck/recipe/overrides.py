"""Settings from the command line: ``key.path=value`` onto a recipe's data."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from limbeck.errors import RecipeError
from limbeck.recipe.reading import Key, describe, dotted, read_text
from limbeck.recipe.schema import RecipeSpec

_OBJECTIVE = RecipeSpec.model_fields["objective"].get_default()


def parse_setting(text: str) -> tuple[Key, Any]:
    """Split ``key.path=value``; the value is YAML, so ``3`` is a number and ``[1, 2]`` a list.

    Raises:
        RecipeError: there is no ``=``, no key, or the value is not YAML.

    Example:
        >>> parse_setting("objective.kl.temperature=2.5")
        (('objective', 'kl', 'temperature'), 2.5)
    """
    name, equals, value = text.partition("=")
    where = f"--set {text[:80]}"
    if not equals:
        raise RecipeError(f"{where}: expected key.path=value", cure="for example student.epochs=30")
    return parse_key(name, where=where), read_text(value, where=where).data


def parse_key(text: str, *, where: str = "--set") -> Key:
    """Split a dotted key; whole numbers are places in a list.

    Example:
        >>> parse_key("teacher.0.epochs")
        ('teacher', 0, 'epochs')
        >>> parse_key("objective.user/mine.weight")
        ('objective', 'user/mine', 'weight')
    """
    parts = text.strip().split(".")
    if len(parts) > 16 or not all(re.fullmatch(r"(user/)?[A-Za-z0-9_]{1,60}", part) for part in parts):
        raise RecipeError(f"{where}: expected a key such as student.optimizer.lr, found '{text[:80]}'")
    return tuple(int(part) if re.fullmatch(r"[0-9]{1,4}", part) else part for part in parts)


def parse_grid(items: Sequence[str]) -> dict[str, list[Any]]:
    """Values of keys for a sweep: ``key.path=v1,v2``; each value is YAML.

    Raises:
        RecipeError: there is no ``=`` or no value, or a key or value is there twice.

    Example:
        >>> parse_grid(["objective.kl.temperature=1,2,4", "student.optimizer.name=sgd,adam"])
        {'objective.kl.temperature': [1, 2, 4], 'student.optimizer.name': ['sgd', 'adam']}
    """
    grid: dict[str, list[Any]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        where = f"sweep {item[:80]}"
        if not equals or not text.strip():
            raise RecipeError(
                f"{where}: expected key.path=v1,v2,...", cure="for example objective.kl.temperature=1,2,4"
            )
        key = dotted(parse_key(name, where=where))
        values = read_text(f"[{text}]", where=where).data
        if key in grid:
            raise RecipeError(f"{where}: the key '{key}' is there twice")
        if any(value in values[:number] for number, value in enumerate(values)):
            raise RecipeError(f"{where}: a value is there twice")
        grid[key] = values
    return grid


def apply(data: dict[str, Any], key: Key, value: Any) -> None:
    """Put ``value`` at ``key`` in place. Mappings on the way are made where there is nothing, and short forms such as
    ``optimizer: adam`` or ``kl: 0.9`` grow into mappings.

    Raises:
        RecipeError: the way leads through a value that is no mapping, or to a place that a list does not have.

    Example:
        >>> data = {"student": {"optimizer": "adam"}}
        >>> apply(data, ("student", "optimizer", "lr"), 0.1)
        >>> apply(data, ("objective", "kl", "temperature"), 2)
        >>> data["student"], data["objective"]["kl"]
        ({'optimizer': {'name': 'adam', 'lr': 0.1}}, {'weight': 0.9, 'temperature': 2})
    """
    at: Any = data
    for depth, part in enumerate(key):
        here = _place(at, part, key[:depth], key)
        if depth == len(key) - 1:
            at[here] = value
            return
        at[here] = _grown(at[here] if isinstance(at, list) else at.get(here), key[: depth + 1])
        at = at[here]


def _place(at: Any, part: str | int, above: Key, key: Key) -> Any:
    if isinstance(at, dict):
        return str(part)
    if isinstance(at, list) and isinstance(part, int) and part < len(at):
        return part
    has = f"is a list of {len(at)}" if isinstance(at, list) else f"is {describe(at)}"
    raise RecipeError(f"--set {dotted(key)}: '{dotted(above)}' {has} and has no '{part}'")


def _grown(child: Any, place: Key) -> Any:
    if child is None:
        return copy.deepcopy(_OBJECTIVE) if place == ("objective",) else {}
    if isinstance(child, str) and place[-1] in ("optimizer", "schedule"):
        return {"name": child}
    if isinstance(child, str) and place[0] == "teacher" and place[-1] == "store":
        return {"path": child}
    if isinstance(child, int | float) and place[0] == "objective" and len(place) == 2:
        return {"weight": child}
    return child
