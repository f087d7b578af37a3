"""Masks as class numbers: the table of colors, and a mask file read by it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.pictures import deep, raw_mode
from limbeck.data.scenes import IGNORED, MOST_CLASSES
from limbeck.errors import DataError, RecipeError, nearest

_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
Codes = NDArray[Any]  # unsigned numbers, one a pixel


@dataclass(frozen=True)
class ColorTable:
    """Which colors, or which numbers, stand for which class.

    Args:
        classes: names, in the order of their numbers.
        codes: by color ``r·65536 + g·256 + b``, or by the mask's own number, the class.
        numbers: whether masks hold class numbers (gray values, palette numbers) and no colors.
        ignored: colors or numbers whose pixels have no label, and are not counted as unknown.

    Example:
        >>> table = ColorTable.of({"land": "#0000FF", "water": [255, 0, 0]})
        >>> table.classes, table.codes
        (('land', 'water'), {255: 0, 16711680: 1})
    """

    classes: tuple[str, ...]
    codes: Mapping[int, int]
    numbers: bool
    ignored: frozenset[int] = frozenset()

    @classmethod
    def of(cls, colors: Mapping[str, Any], ignore: Sequence[str] = ()) -> ColorTable:
        """From what a recipe says.

        Args:
            colors: by class name its color, ``"#RRGGBB"`` or ``[r, g, b]``, or its number in the masks; or several of
                them in a list.
            ignore: names whose pixels have no label; they are no classes.

        Raises:
            RecipeError: if a color is none, stands twice, or colors and numbers are mixed.
        """
        unknown = [name for name in ignore if name not in colors]
        if unknown:
            near = nearest(unknown[0], colors)
            raise RecipeError(f"data.ignore names '{unknown[0]}', which data.colors has not{near}")
        classes = tuple(name for name in colors if name not in ignore)
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise RecipeError(f"data.colors has {len(classes)} classes, expected 2 to {MOST_CLASSES}")
        seen: dict[int, str] = {}
        kinds: dict[bool, str] = {}
        for name, value in colors.items():
            for one in _several(value):
                code = _code(name, one)
                kinds.setdefault(isinstance(one, int), name)
                if len(kinds) > 1:
                    both = f"'{kinds[True]}' is a number and '{kinds[False]}' a color"
                    raise RecipeError(f"data.colors: {both}: use one kind")
                if code in seen:
                    what = f"one number, {code}" if True in kinds else f"one color, {shown(code)}"
                    raise RecipeError(f"data.colors: '{seen[code]}' and '{name}' have {what}")
                seen[code] = name
        codes = {code: classes.index(name) for code, name in seen.items() if name in classes}
        return cls(classes, codes, True in kinds, frozenset(seen) - set(codes))

    def read(self, path: Path) -> tuple[NDArray[np.uint8], dict[int, int], tuple[str, ...]]:
        """A mask's class numbers ``[H, W]``, :data:`IGNORED` for none, how many pixels unknown colors have, by color,
        and what was left out of the file.

        Raises:
            DataError: if it can not be read, or is of a kind that says no color or number for a pixel.
        """
        codes, changes = _codes(path, numbers=self.numbers)
        found: NDArray[np.uint8] = self._lookup[codes]
        values, counts = np.unique(codes[found == IGNORED], return_counts=True)
        each = zip(values.tolist(), counts.tolist(), strict=True)
        return found, {code: count for code, count in each if code not in self.ignored}, changes

    @cached_property
    def _lookup(self) -> NDArray[np.uint8]:
        """By color or number its class: 16 MiB of colors, of which the few that occur stay in a core's cache."""
        found = np.full(256 if self.numbers else 1 << 24, IGNORED, dtype=np.uint8)
        for code, number in self.codes.items():
            found[code] = number
        return found

    def name(self, code: int) -> str:
        """A color or number for a message."""
        return str(code) if self.numbers else shown(code)


def shown(code: int) -> str:
    """A color as it is written.

    Example:
        >>> shown(255)
        '#0000FF'
    """
    return f"#{code:06X}"


def _several(value: Any) -> list[Any]:
    whole = isinstance(value, list | tuple) and len(value) == 3 and all(_is_byte(one) for one in value)
    return list(value) if isinstance(value, list | tuple) and not whole else [value]


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _code(name: str, value: Any) -> int:
    if isinstance(value, str) and (match := _HEX.fullmatch(value)):
        return int(match[1], 16)
    if isinstance(value, list | tuple) and len(value) == 3 and all(_is_byte(one) for one in value):
        return value[0] * 65536 + value[1] * 256 + value[2]
    if _is_byte(value):
        return int(value)
    cure = 'write "#RRGGBB", [r, g, b], a number from 0 to 255, or a list of them'
    raise RecipeError(f"data.colors: {name} is {value!r}", cure=cure)


def _codes(path: Path, *, numbers: bool) -> tuple[Codes, tuple[str, ...]]:
    """Each pixel's color or number, and what was left out."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            raw = raw_mode(image)
            image.load()
            found = None if deep(raw) else _numbers(image, raw) if numbers else _colors(image)
            mode = f"{image.mode}, 16 bits" if deep(raw) else image.mode
            opaque = "A" not in image.getbands() or int(np.asarray(image.getchannel("A")).min()) == 255
            alpha = "A" in image.getbands() or "transparency" in image.info
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except Exception as error:  # of damaged files Pillow's readers raise nearly anything
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a readable mask ({line[:200]})", cure="restore it") from None
    if found is None or not opaque:
        wanted = "numbers, 8 bits gray or with a palette" if numbers else "colors, 8 bits each, or a palette of them"
        raise DataError(
            f"the mask {path} is of mode {mode}{'' if opaque else ' and partly transparent'}, and data.colors gives "
            f"{wanted}",
            cure="save it as a PNG of that kind, without alpha",
        )
    if isinstance(found, int):
        raise DataError(
            f"the mask {path} has pixels of palette number {found}, and its palette has no such color",
            cure="save it anew, with a palette of all its colors",
        )
    return found, ("alpha of masks, opaque everywhere: left out",) if alpha else ()


def _numbers(image: Any, raw: str) -> Codes | None:
    if image.mode not in {"P", "L", "1"}:
        return None
    # Of 2 and 4 bits of gray Pillow makes 8, by multiplication.
    return np.asarray(image).astype(np.uint8) // {"L;2": 85, "L;4": 17}.get(raw, 1)


def _colors(image: Any) -> Codes | int | None:
    """Colors of pixels; the palette number that has none."""
    if image.mode == "P":
        table = np.array(image.getpalette("RGB"), dtype=np.uint32).reshape(-1, 3)
        pixels = np.asarray(image)
        most = int(pixels.max())
        return most if most >= len(table) else _joined(table)[pixels]
    if image.mode in {"RGB", "L", "1", "RGBA", "LA"}:
        return _joined(np.asarray(image.convert("RGB") if image.mode != "RGBA" else image))
    return None


def _joined(colors: NDArray[Any]) -> Codes:
    """Colors ``[…, 3]`` as numbers."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


__all__ = ["ColorTable", "shown"]
