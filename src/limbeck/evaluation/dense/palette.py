"""Colors of classes in pictures of labels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

Color = tuple[int, int, int]

# Seven of Okabe and Ito's eight (jfly.uni-koeln.de/color, 2008), then thirteen more, each the farthest in CIELAB from
# those before it and from gray, for usual, protan and deutan vision (Machado et al., 2009): no two are nearer than 17.
SAFE: tuple[Color, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66),
    (0, 0, 238), (102, 0, 0), (34, 0, 136), (238, 238, 170), (68, 102, 238), (68, 34, 68), (170, 68, 34),
    (0, 34, 102), (68, 204, 102), (102, 136, 238), (68, 34, 204), (204, 238, 204), (204, 204, 238),
)  # fmt: skip
STRIPES: tuple[Color, Color] = ((118, 118, 118), (176, 176, 176))  # pixels without a label are hatched in them
_GOLDEN = 0.6180339887498949


def class_colors(count: int, given: Sequence[Color] | None = None) -> list[Color]:
    """A color for each class.

    Args:
        count: how many classes there are.
        given: their own colors, as masks have them. Without them the first twenty are safe for the color-blind; more
            can only be told apart by hue.

    Raises:
        ValueError: if the given ones are not as many as the classes.

    Example:
        >>> class_colors(2), class_colors(1, [(9, 0, 0)])
        ([(0, 114, 178), (230, 159, 0)], [(9, 0, 0)])
    """
    if given is not None:
        if len(given) != count:
            raise ValueError(f"{len(given)} colors for {count} classes")
        return [(one[0], one[1], one[2]) for one in given]
    return [*SAFE[:count], *(_generated(at) for at in range(count - len(SAFE)))]


def written(color: Color) -> str:
    """A color as a page writes it.

    Example:
        >>> written((0, 114, 178))
        '#0072b2'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)


def _generated(at: int) -> Color:
    """One of many: hues that no two neighbors share, in turn light, dark and pale."""
    value, saturation = ((0.95, 0.85), (0.6, 0.9), (0.9, 0.45))[at % 3]
    red, green, blue = colorsys.hsv_to_rgb(at * _GOLDEN % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


__all__ = ["SAFE", "STRIPES", "Color", "class_colors", "written"]
