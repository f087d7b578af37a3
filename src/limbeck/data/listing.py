"""What a folder or a table says before a picture is opened: files, labels, splits, and what was odd."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from limbeck.data.pictures import KINDS
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


def pictures_under(folder: Path) -> tuple[list[Path], list[Path]]:
    """All pictures under a folder, sorted, and what else lies there. Hidden files and folders are left aside.

    Links to files are followed, links to folders within it are not: they could lead in circles.

    Raises:
        DataError: if a folder can not be read, or a name is not UTF-8.
    """
    found: list[Path] = []
    other: list[Path] = []
    for where, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(where)
        other += [here / name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (here / name for name in files if not name.startswith(".")):
            check_name(path)
            (found if path.suffix.lower() in KINDS and path.is_file() else other).append(path)
    return sorted(found), sorted(other)


def folders_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files directly in a folder, sorted; hidden ones are left aside."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        _unreadable(error)
    for path in inside:
        check_name(path)
    return [path for path in inside if path.is_dir()], [path for path in inside if not path.is_dir()]


def check_name(path: Path) -> None:
    """See that a name can be written into reports."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {str(path)!r} is not UTF-8", cure="rename the file") from None


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} can not be read ({error.strerror})", cure="check its permissions") from None


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
