"""What is known of each sample besides its label: the file it came from, its group, its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class About:
    """One text a sample in each; None or nothing where it is not known.

    Args:
        names: the sample's file, for messages and galleries.
        groups: samples of one group (a patient, a tile) belong into one split.
        slices: by column, values by which metrics are also told apart.

    Example:
        >>> import torch
        >>> About(names=("a.png", "b.png")).at(torch.tensor([1])).names
        ('b.png',)
    """

    names: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def at(self, index: Tensor) -> About:
        """Of the samples at ``index``."""
        rows = index.tolist()
        return About(
            None if self.names is None else tuple(self.names[at] for at in rows),
            None if self.groups is None else tuple(self.groups[at] for at in rows),
            {column: tuple(values[at] for at in rows) for column, values in self.slices.items()},
        )


def one_after_another(parts: Sequence[tuple[int, About]]) -> About:
    """Of several (size, About) in a row; the empty text where only some of them know.

    Example:
        >>> one_after_another([(1, About(groups=("tile 3",))), (2, About())]).groups
        ('tile 3', '', '')
    """

    def row(found: list[tuple[str, ...] | None]) -> tuple[str, ...]:
        return tuple(
            text
            for (size, _), values in zip(parts, found, strict=True)
            for text in (("",) * size if values is None else values)
        )

    names, groups = [about.names for _, about in parts], [about.groups for _, about in parts]
    columns = sorted({column for _, about in parts for column in about.slices})
    return About(
        row(names) if any(names) else None,
        row(groups) if any(groups) else None,
        {column: row([about.slices.get(column) for _, about in parts]) for column in columns},
    )
