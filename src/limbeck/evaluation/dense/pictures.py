"""Pictures of a segmentation: input, truth, and what each model sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.data.scenes import SceneSplit
from limbeck.evaluation.dense.reading import Reading


def write_pictures(
    folder: str | Path,
    splits: Mapping[str, SceneSplit],
    classes: Sequence[str],
    said: Mapping[str, Mapping[str, Reading]],
    *,
    seed: int = 0,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write nothing yet."""


__all__ = ["write_pictures"]
