"""What a folder or a table says before a picture is opened: files, labels, splits, and what was odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.errors import DataError

SPLITS = ("train", "validation", "test")
WORDS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Row:
    """One picture: its file relative to the root, written with ``/``, its label, and what else is known."""

    file: str
    label: int
    group: str | None = None
    slices: tuple[str, ...] = ()


@dataclass
class Listing:
    """Pictures by split.

    Args:
        classes: names, sorted.
        rows: by split; splits that were not given are absent.
        columns: names of the slices.
        notes: what the reader should know.
    """

    classes: tuple[str, ...]
    rows: dict[str, list[Row]]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def split_words(splits: Mapping[str, str] | None) -> dict[str, str]:
    """By word of a folder or table, the split that it means; ``splits`` names words of its own.

    Example:
        >>> split_words({"test": "val"})["val"]
        'test'
    """
    given = dict(splits or {})
    known = {word: split for word, split in WORDS.items() if split not in given}
    return {**known, **{word: split for split, word in given.items()}}


def unused(paths: Sequence[Path], root: Path, what: str) -> list[str]:
    """A note on files that nothing is done with, if there are any."""
    if not paths:
        return []
    first = sorted(path.relative_to(root).as_posix() for path in paths)[0]
    return [f"used for nothing: {what}; {len(paths)} in all, the first: {first}"]


def check_classes(classes: Sequence[str], where: Path) -> None:
    """See that there are two classes at least, and that their names differ by more than case."""
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise DataError(f"{where} has fewer than two classes: {found}", cure="give one folder or label for each class")
    seen: dict[str, str] = {}
    for name in classes:
        if name.casefold() in seen:
            raise DataError(
                f"{where} has classes '{seen[name.casefold()]}' and '{name}', which differ only in case",
                cure="write one of them throughout",
            )
        seen[name.casefold()] = name
