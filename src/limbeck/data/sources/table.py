"""A folder of pictures and a table that says what each one is; paired by name, never by order."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.data.pictures import pictures_under
from limbeck.data.sources.listing import SPLITS, Listing, Row, check_classes, split_words, unused
from limbeck.errors import DataError, nearest

_SHOWN = 10  # lines named in a message
_COLUMNS = {"file": "file", "label": "label", "split": "split"}


def read_table(
    root: str | Path,
    table: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    group: str | None = None,
    slices: Sequence[str] = (),
    splits: Mapping[str, str] | None = None,
) -> Listing:
    """List the pictures under ``root`` that a CSV file names.

    Labels are class names, or, if all of them are whole numbers, class numbers from 0.

    Args:
        root: the folder of the files.
        table: the CSV file: UTF-8, commas, a first line with the names of its columns.
        columns: names of the columns ``file`` (relative to ``root``), ``label`` and ``split`` (may be missing).
        group: a column; samples of one group stay in one split.
        slices: columns by which metrics are also told apart.
        splits: by split, the word for it, where that is not ``train``, ``validation`` (``valid``, ``val``), ``test``.

    Raises:
        DataError: naming table and line: a column, cell, or file is missing, a file is named twice or lies outside,
            a word is no split, a label no class number, a group is in two splits.
    """
    root, table = Path(root), Path(table)
    if not root.is_dir():
        raise DataError(f"{root} is no folder", cure="check data.root")
    named = {**_COLUMNS, **(columns or {})}
    lines = _read(table)
    has_splits = named["split"] in lines[0][1] or "split" in (columns or {})
    wanted = [named["file"], named["label"], *([named["split"]] if has_splits else []), *([group] if group else [])]
    _check_columns(table, list(lines[0][1]), [*wanted, *slices])
    for column in wanted:
        _refuse(table, [(line, "") for line, row in lines if not row[column]], f"no {column}", "fill in every cell")
    files = [(line, posixpath.normpath(row[named["file"]])) for line, row in lines]
    _check_files(root, table, files)
    classes, labels = _labels(table, [(line, row[named["label"]]) for line, row in lines])
    words = {word.lower(): split for word, split in split_words(splits).items()}
    given = [(line, row[named["split"]].lower() if has_splits else "train") for line, row in lines]
    unknown = [(line, f"'{word}'{nearest(word, words)}") for line, word in given if word not in words]
    _refuse(table, unknown, "a word that is no split", f"known: {', '.join(sorted(words))}; others go into data.splits")
    rows: dict[str, list[Row]] = {}
    for (_, row), (_, file), label, (_, word) in zip(lines, files, labels, given, strict=True):
        about = (row[group] if group else None, tuple(row[column] for column in slices))
        rows.setdefault(words[word], []).append(Row(file, label, *about))
    if "train" not in rows:
        raise DataError(f"{table} has no row of the split train", cure="check the split column, or leave it out")
    _check_groups(table, rows)
    there, _ = pictures_under(root)
    have = {root / file for _, file in files}
    notes = unused([path for path in there if path not in have], root, f"pictures without a row in {table.name}")
    return Listing(classes, {name: rows[name] for name in SPLITS if name in rows}, tuple(slices), notes)


def _read(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Lines by number; a mark of byte order at the start is left out, as are spaces around cells."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except FileNotFoundError:
        raise DataError(f"{table} is missing", cure="check data.table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} can not be read as CSV ({error})", cure="save it as UTF-8 with commas") from None
    if not found:
        raise DataError(f"{table} has no rows", cure="give a first line with names of columns, then a line a picture")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{table} has two columns '{twice[0]}'", cure="name each column once")
    odd = [(line, f"{len(row)} cells") for line, row in found if len(row) != len(header)]
    _refuse(table, odd, f"not the {len(header)} cells of the first line", "put quotes around a cell with a comma")
    return [(line, dict(zip(header, row, strict=True))) for line, row in found]


def _check_columns(table: Path, header: list[str], wanted: Sequence[str]) -> None:
    for column in wanted:
        if column not in header:
            raise DataError(
                f"{table} has no column '{column}'{nearest(column, header)}",
                cure=f"its columns are {', '.join(header)}; name them in data.columns",
            )


def _check_files(root: Path, table: Path, files: list[tuple[int, str]]) -> None:
    outside = [(line, file) for line, file in files if file.startswith(("/", "../")) or file == ".." or ":" in file[:2]]
    _refuse(table, outside, f"a file outside of {root}", "write files relative to data.root")
    first: dict[str, int] = {}
    twice = [(line, f"{file}, as line {first[file]}") for line, file in files if first.setdefault(file, line) != line]
    _refuse(table, twice, "a file that has a row already", "keep one row for each file")
    gone = [(line, file) for line, file in files if not (root / file).is_file()]
    _refuse(table, gone, f"a file that is not under {root}", "write its name as it is there, with its ending")


def _labels(table: Path, cells: list[tuple[int, str]]) -> tuple[tuple[str, ...], list[int]]:
    numbers = [_whole(text) for _, text in cells]
    if None in numbers:
        names = sorted({text for _, text in cells})
        check_classes(names, table)
        place = {name: number for number, name in enumerate(names)}
        return tuple(names), [place[text] for _, text in cells]
    labels = [number for number in numbers if number is not None]
    below = [(line, text) for (line, text), label in zip(cells, labels, strict=True) if label < 0]
    _refuse(table, below, "a label below 0", "number the classes from 0, or write their names")
    present = set(labels)
    absent = next((number for number in range(max(present)) if number not in present), None)
    if absent is not None:
        at = next(line for (line, _), label in zip(cells, labels, strict=True) if label > absent)
        raise DataError(
            f"{table} has labels up to {max(present)} (line {at}), but none is {absent}",
            cure="number the classes from 0 without gaps, or write their names",
        )
    classes = tuple(str(number) for number in range(max(present) + 1))
    check_classes(classes, table)
    return classes, labels


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else None


def _check_groups(table: Path, rows: Mapping[str, list[Row]]) -> None:
    home: dict[str, str] = {}
    shared: dict[str, str] = {}
    for split, found in rows.items():
        for row in found:
            if row.group is not None and home.setdefault(row.group, split) != split:
                shared.setdefault(row.group, f"'{row.group}' in {home[row.group]} and {split}")
    if shared:
        raise DataError(
            f"{table}: {len(shared)} groups lie in two splits: {', '.join(list(shared.values())[:_SHOWN])}",
            cure="divide them by group, or leave the split column out and limbeck divides",
        )


def _refuse(table: Path, found: list[tuple[int, str]], what: str, cure: str) -> None:
    if found:
        shown = ", ".join(f"line {line}" + (f" ({text})" if text else "") for line, text in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(f"{table} has {what} in {len(found)} rows: {shown}{more}", cure=cure)
