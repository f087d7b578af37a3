"""Fields of a JSON object that anybody may have written: each of its type and within its range, or refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.errors import FileError, nearest

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a file's name that leads nowhere else, on any system
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST = 2**63 - 1  # the largest number of records or bytes

Check = Callable[[Any], bool]


def whole(least: int = 0, most: int = MOST) -> Check:
    """Whether a value is a whole number within bounds.

    Example:
        >>> [whole(1)(value) for value in (1, 0, 1.0, True)]
        [True, False, False, False]
    """
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def number(above: float = -math.inf) -> Check:
    """Whether a value is a finite number above a bound."""
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > above
    )


def text(pattern: re.Pattern[str]) -> Check:
    """Whether a value is text of this form."""
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


@dataclass(frozen=True)
class Fields:
    """The fields of one object of a file.

    Args:
        value: the object.
        file: where it stands, for messages.
        name: of the object in the file, such as ``shards[3]``.

    Example:
        >>> Fields({"views": 0}, "manifest.json").take("views", whole(1), "a whole number of at least 1")
        Traceback (most recent call last):
        limbeck.errors.FileError: manifest.json: views is 0, expected a whole number of at least 1
          cure: build the store again, or get the file again from where it was written
    """

    value: Mapping[str, Any]
    file: str
    name: str = ""

    @classmethod
    def of(cls, value: Any, file: str, name: str = "") -> Fields:
        """Those of ``value``, which has to be an object."""
        if not isinstance(value, dict):
            raise _refused(file, f"{name or 'it'} is {_shown(value)}, expected an object")
        return cls(value, file, name)

    def take(self, key: str, fits: Check, expected: str) -> Any:
        """The value of a key.

        Raises:
            FileError: naming the field that is missing, or is not what is expected.
        """
        if key not in self.value:
            raise _refused(self.file, f"{self._path(key)} is missing, expected {expected}{nearest(key, self.value)}")
        if not fits(self.value[key]):
            raise self.wrong(key, expected)
        return self.value[key]

    def list(self, key: str, fits: Check = lambda value: True, expected: str = "a list") -> list[Any]:
        """The values of a list, each of which has to fit."""
        values: list[Any] = self.take(key, lambda value: isinstance(value, list), expected)
        for place, value in enumerate(values):
            if not fits(value):
                raise _refused(self.file, f"{self._path(key)}[{place}] is {_shown(value)}, expected {expected}")
        return values

    def each(self, key: str) -> Iterator[Fields]:
        """The objects of a list."""
        for place, value in enumerate(self.list(key)):
            yield Fields.of(value, self.file, f"{self._path(key)}[{place}]")

    def object(self, key: str) -> Fields:
        """The object under a key."""
        return Fields.of(self.take(key, lambda value: True, "an object"), self.file, self._path(key))

    def only(self, *keys: str) -> None:
        """See that there are no other keys.

        Raises:
            FileError: naming the first one that is unknown.
        """
        for key in self.value:
            if key not in keys:
                raise _refused(self.file, f"{self._path(key)} is not known to this limbeck{nearest(key, keys)}")

    def wrong(self, key: str, expected: str) -> FileError:
        """The error for a field that is not what is expected."""
        return _refused(self.file, f"{self._path(key)} is {_shown(self.value[key])}, expected {expected}")

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def strict_json(data: bytes) -> Any:
    """Read JSON without what JSON does not have: NaN, infinite numbers, a key that stands twice.

    Raises:
        ValueError: saying what is wrong with it.

    Example:
        >>> strict_json(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ValueError: key 'a' stands twice
    """
    return json.loads(
        data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite_number
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' stands twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite_number(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits} is too large for a number")
    return value


def _shown(value: Any) -> str:
    """A value for a message; one that is long is cut."""
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _refused(file: str, what: str) -> FileError:
    return FileError(f"{file}: {what}", cure="build the store again, or get the file again from where it was written")
