"""Make a table of images imbalanced on purpose: keep only some groups of one class.

    python examples/thin_table.py TABLE.csv OUT.csv --where split=train --where class=ill --group patient --keep 60

Of the rows that match every ``--where``, those of ``--keep`` groups stay; all other rows stay as they are. Groups are
chosen by the SHA-256 of their names, so the choice is the same everywhere.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections import Counter
from pathlib import Path


def thin(rows: list[dict[str, str]], where: dict[str, str], group: str, keep: int) -> list[dict[str, str]]:
    """The rows that stay, in their order."""
    matching = [row for row in rows if all(row[column] == value for column, value in where.items())]
    groups = sorted({row[group] for row in matching}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if not 0 < keep < len(groups):
        sys.exit(f"--keep {keep}: {len(groups)} groups match")
    gone = set(groups[keep:])
    return [row for row in rows if row not in matching or row[group] not in gone]


def main() -> None:
    """Read a table, write the thinner one, and say what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--where", action="append", required=True, metavar="COLUMN=VALUE")
    parser.add_argument("--group", required=True, metavar="COLUMN")
    parser.add_argument("--keep", type=int, required=True, metavar="N")
    given = parser.parse_args()
    with given.table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    where = dict(item.split("=", 1) for item in given.where)
    for column in [*where, given.group]:
        if not rows or column not in rows[0]:
            sys.exit(f"{given.table} has no column '{column}'")
    kept = thin(rows, where, given.group, given.keep)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    counts = Counter(", ".join(row[column] for column in where) for row in kept)
    print(
        f"{len(kept)} of {len(rows)} rows: " + "; ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    )


if __name__ == "__main__":
    main()
