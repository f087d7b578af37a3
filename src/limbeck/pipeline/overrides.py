"""Settings from the command line: ``key.path=value`` onto a recipe's data."""

from __future__ import annotations

import re
from typing import Any

from limbeck.errors import RecipeError
from limbeck.pipeline.reading import Key, describe, dotted, read_text


def parse_setting(text: str) -> tuple[Key, Any]:
    """Split ``key.path=value``; the value is YAML, so ``3`` is a number and ``[1, 2]`` a list.

    Raises:
        RecipeError: there is no ``=``, no key, or the value is not YAML.

    Example:
        >>> parse_setting("objective.kl.temperature=2.5")
        (('objective', 'kl', 'temperature'), 2.5)
    """
    name, equals, value = text.partition("=")
    where = f"setting '{text[:80]}'"
    if not equals:
        raise RecipeError(f"{where}: expected key.path=value", cure="for example student.epochs=30")
    return parse_key(name, where=where), read_text(value, where=where).data


def parse_key(text: str, *, where: str = "setting") -> Key:
    """Split a dotted key; whole numbers are places in a list.

    Example:
        >>> parse_key("teacher.0.epochs")
        ('teacher', 0, 'epochs')
    """
    parts = text.strip().split(".")
    if len(parts) > 16 or not all(re.fullmatch(r"[A-Za-z0-9_]{1,60}", part) for part in parts):
        raise RecipeError(f"{where}: expected a key such as student.optimizer.lr, found '{text[:80]}'")
    return tuple(int(part) if re.fullmatch(r"[0-9]{1,4}", part) else part for part in parts)


def apply(data: dict[str, Any], key: Key, value: Any) -> None:
    """Put ``value`` at ``key`` in place; mappings on the way are made where there is nothing.

    Raises:
        RecipeError: the way leads through a value that is no mapping, or to a place that a list does not have.

    Example:
        >>> data = {"student": {"epochs": 3}}
        >>> apply(data, ("student", "views", "shift"), 2)
        >>> data
        {'student': {'epochs': 3, 'views': {'shift': 2}}}
    """
    at: Any = data
    for depth, part in enumerate(key):
        last = depth == len(key) - 1
        if isinstance(at, list):
            if not isinstance(part, int) or part >= len(at):
                raise RecipeError(
                    f"--set {dotted(key)}: '{dotted(key[:depth])}' is a list of {len(at)}, found the place '{part}'"
                )
        elif isinstance(at, dict):
            part = str(part)
        else:
            raise RecipeError(f"--set {dotted(key)}: '{dotted(key[:depth])}' is {describe(at)} and has no key '{part}'")
        if last:
            at[part] = value
        else:
            if isinstance(at, dict) and at.get(part) is None:
                at[part] = {}
            at = at[part]
