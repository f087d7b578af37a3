"""Why maps of logits are not stored, in numbers: a record holds one row of logits."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.store.plan import storage

NUMBER = 2  # bytes of a logit in half precision
STRIDE, TOP = 4, 2  # of a coarse record: every 4th row and column, the 2 largest classes
IDS = 1  # bytes of a class's number: masks have at most 255 classes


def map_bytes(classes: int, size: Sequence[int], *, coarse: bool = False) -> int:
    """Bytes of a patch's map of logits in half precision.

    Args:
        classes: how many.
        size: height and width of the patch.
        coarse: of every 4th row and column the 2 largest logits with their classes' numbers, and no more.

    Example:
        >>> map_bytes(6, (256, 256)), map_bytes(6, (256, 256), coarse=True)  # 6 · 256² · 2; 64² · 2 · (2 + 1)
        (786432, 24576)
    """
    if not coarse:
        return classes * size[0] * size[1] * NUMBER
    places = -(-size[0] // STRIDE) * -(-size[1] // STRIDE)
    return places * min(TOP, classes) * (NUMBER + IDS)


def cost_of_maps(classes: int, size: Sequence[int], patches: int, views: int) -> str:
    """That a store keeps no maps, and what they would cost.

    Args:
        classes, size: as of :func:`map_bytes`.
        patches: of the training split.
        views: of each.

    Example:
        >>> cost_of_maps(6, (256, 256), 100, 16)[:73]
        'a store keeps one row of logits for a view, and a segmenter gives a map: '
    """
    full, coarse = (map_bytes(classes, size, coarse=one) for one in (False, True))
    several = f"{patches:,} patches in {views:,} view{'s' * (views > 1)}"
    return (
        f"a store keeps one row of logits for a view, and a segmenter gives a map: {full:,} bytes for {classes} "
        f"classes at {size[0]}×{size[1]} in half precision, {storage(full * patches * views)} for {several}; every "
        f"{STRIDE}th row and column with its {min(TOP, classes)} largest classes {coarse:,} bytes, "
        f"{storage(coarse * patches * views)} in all, and the student would learn from a sixteenth of the pixels"
    )


__all__ = ["cost_of_maps", "map_bytes"]
