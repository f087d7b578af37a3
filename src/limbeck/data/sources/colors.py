"""Masks as class numbers: the table of colors, and a mask file read by it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.scenes import IGNORED, MOST_CLASSES
from limbeck.errors import DataError, RecipeError

_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
Codes = NDArray[np.int64]


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
            raise RecipeError(f"data.ignore names '{unknown[0]}', which data.colors has not")
        classes = tuple(name for name in colors if name not in ignore)
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise RecipeError(f"data.colors has {len(classes)} classes, expected 2 to {MOST_CLASSES}")
        seen: dict[int, str] = {}
        kinds: dict[bool, str] = {}
        for name, value in colors.items():
            for one in _several(value):
                code = _code(name, one)
                kinds.setdefault(isinstance(one, int), name)
                if code in seen:
                    raise RecipeError(f"data.colors: '{seen[code]}' and '{name}' have one color, {shown(code)}")
                seen[code] = name
        if len(kinds) > 1:
            raise RecipeError(f"data.colors: '{kinds[True]}' is a number and '{kinds[False]}' a color: use one kind")
        codes = {code: classes.index(name) for code, name in seen.items() if name in classes}
        return cls(classes, codes, True in kinds, frozenset(seen) - set(codes))

    def read(self, path: Path) -> tuple[NDArray[np.uint8], dict[int, int]]:
        """A mask's class numbers ``[H, W]``, :data:`IGNORED` for none, and how many pixels unknown colors have.

        Raises:
            DataError: if it can not be read, or is of a kind that says no color or number for a pixel.
        """
        codes, palette = _codes(path, numbers=self.numbers)
        if palette is not None:
            found = self._classes(palette)[codes]
            used = np.bincount(codes.ravel(), minlength=len(palette))
            strange = {int(code): 0 for code in palette if not self._known(int(code))}
            for code, count in zip(palette.tolist(), used.tolist(), strict=True):
                if code in strange:
                    strange[code] += count
            return found, {code: count for code, count in strange.items() if count}
        found = np.full(codes.shape, IGNORED, dtype=np.uint8)
        seen = np.zeros(codes.shape, dtype=bool)
        for code, number in [*self.codes.items(), *((code, IGNORED) for code in self.ignored)]:
            here = codes == code
            found[here] = number
            seen |= here
        values, counts = np.unique(codes[~seen], return_counts=True)
        return found, dict(zip(values.tolist(), counts.tolist(), strict=True))

    def _known(self, code: int) -> bool:
        return code in self.codes or code in self.ignored

    def _classes(self, palette: Codes) -> NDArray[np.uint8]:
        return np.array([self.codes.get(int(code), IGNORED) for code in palette], dtype=np.uint8)

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
    raise RecipeError(
        f"data.colors: {name} is {value!r}", cure='write "#RRGGBB", [r, g, b], a number from 0 to 255, or a list of them'
    )


def _codes(path: Path, *, numbers: bool) -> tuple[Codes, Codes | None]:
    """Each pixel's color code or number; of a palette's colors its place in the palette, and the palette."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            mode, pixels = image.mode, image
            if mode in {"P", "L", "1"} and numbers:
                return np.asarray(pixels.convert("L") if mode == "1" else pixels).astype(np.int64), None
            if mode == "P":
                table = np.array(image.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
                table = np.concatenate([table, np.zeros((256 - len(table), 3), dtype=np.int64)])
                return np.asarray(pixels).astype(np.int64), table @ np.array([65536, 256, 1])
            if mode in {"RGB", "L"} and not numbers:
                colors = np.asarray(pixels.convert("RGB")).astype(np.int64)
                return colors @ np.array([65536, 256, 1]), None
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except Exception as error:  # of damaged files Pillow's readers raise nearly anything
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a readable mask ({line[:200]})", cure="restore it") from None
    wanted = "numbers, 8 bits gray or with a palette" if numbers else "colors, RGB or with a palette"
    raise DataError(
        f"the mask {path} is of mode {mode}, and data.colors gives {wanted}",
        cure="save it as a PNG of that kind, without alpha",
    )


__all__ = ["ColorTable", "shown"]
