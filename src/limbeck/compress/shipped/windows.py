"""How a segmenter's file is run over pictures of any size, as it says itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST = 2**24  # pixels of a window: more is nothing that a model was trained on
_MOST_OVERLAP = 0.95
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Windows:
    """What a segmenter's metadata say besides its classes and the shape of one window.

    Args:
        overlap: share of a window's side that it has in common with the next.
        multiple: heights and widths that the graph takes are multiples of it; None: only those of the window.
        colors: red, green and blue of each class; None: it has none of its own.

    Example:
        >>> Windows(0.25, colors=((0, 0, 255), (255, 0, 0))).metadata()["colors"]
        '[[0, 0, 255], [255, 0, 0]]'
    """

    overlap: float
    multiple: int | None = 1
    colors: tuple[Color, ...] | None = None

    def metadata(self) -> dict[str, str]:
        """As an exported file holds it."""
        found = {"overlap": self.overlap, "multiple": self.multiple, "colors": self.colors}
        return {key: json.dumps(value) for key, value in found.items()}

    @property
    def sizes(self) -> str:
        """Which heights and widths the graph takes, in words.

        Example:
            >>> Windows(0.25, 32).sizes
            "multiples of 32, from the window's up"
        """
        if self.multiple is None:
            return "those of the window"
        return f"{'any' if self.multiple == 1 else f'multiples of {self.multiple}'}, from the window's up"

    @classmethod
    def read(cls, metadata: Mapping[str, str], classes: Sequence[str], shape: Sequence[Any]) -> Windows | None:
        """What a file says, which anyone may have written; None if it can not be.

        Args:
            metadata: of the file.
            classes: that it names.
            shape: of one window, as it says.

        Example:
            >>> told = Windows(0.25).metadata()
            >>> Windows.read(told, ["a", "b"], [3, 64, 64])
            Windows(overlap=0.25, multiple=1, colors=None)
            >>> Windows.read({**told, "overlap": "1"}, ["a", "b"], [3, 64, 64]) is None
            True
        """
        try:
            overlap, multiple, colors = (json.loads(metadata[key]) for key in ("overlap", "multiple", "colors"))
        except (KeyError, ValueError, RecursionError):
            return None
        if len(shape) != 3 or not all(_whole(one) for one in shape) or shape[1] * shape[2] > _MOST:
            return None
        if not isinstance(overlap, int | float) or isinstance(overlap, bool) or not 0 <= overlap <= _MOST_OVERLAP:
            return None
        if multiple is not None and (not _whole(multiple) or shape[1] % multiple or shape[2] % multiple):
            return None
        if colors is not None and not (
            isinstance(colors, list) and len(colors) == len(classes) and all(map(_color, colors))
        ):
            return None
        return cls(float(overlap), multiple, None if colors is None else tuple((r, g, b) for r, g, b in colors))

    def fits(self, shape: Sequence[int], takes: Sequence[Any], gives: Sequence[Any], classes: int) -> bool:
        """Whether a graph takes and gives what the metadata say.

        Args:
            shape: of one window, ``(C, H, W)``.
            takes, gives: sizes of input and output after the batch; words stand for free ones.
            classes: how many are named.

        Example:
            >>> Windows(0.25).fits((3, 64, 64), [3, "height", "width"], [2, "height", "width"], 2)
            True
        """
        if len(takes) != 3 or len(gives) != 3 or takes[0] != shape[0] or gives[0] != classes:
            return False
        if self.multiple is None:
            return list(takes[1:]) == list(gives[1:]) == list(shape[1:])
        return all(isinstance(one, str) for one in (*takes[1:], *gives[1:]))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_byte(one) for one in value)


def _byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


__all__ = ["Windows"]
