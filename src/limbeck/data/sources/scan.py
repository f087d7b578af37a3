"""One look at every picture before anything is learned from it."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.pictures import Frame, see
from limbeck.errors import DataError

_LISTED = 100  # file names in a message
_AHEAD = 1024  # pictures that are handed to the threads at once


@dataclass(frozen=True)
class Scan:
    """What was seen.

    Args:
        contents: of each file, a hash of its size and pixels; None where it can not be decoded.
        pixels: uint8 ``[N, C, H, W]``, if they are kept.
        unreadable: by file, why.
        changes: by what was done, the files that it was done to.
    """

    contents: list[bytes | None]
    pixels: Tensor | None
    unreadable: dict[str, str]
    changes: dict[str, list[str]]

    def notes(self) -> list[str]:
        """For the reader: what was left out and what was changed, with counts and names."""
        lost = [f"{file} ({why})" for file, why in self.unreadable.items()]
        skipped = [f"{len(lost)} of {len(self.contents)} pictures can not be read and were left out: {', '.join(lost)}"]
        changed = [f"{what}; {len(files)} in all, the first: {files[0]}" for what, files in self.changes.items()]
        return (skipped if lost else []) + changed


def scan(root: Path, files: Sequence[str], frame: Frame, *, skip: float, keep: bool, workers: int) -> Scan:
    """Decode every picture once, in threads (Pillow decodes and resizes outside Python's lock).

    Args:
        root: folder of the files.
        files: relative to it.
        frame: what they become.
        skip: largest share of pictures that may be undecodable.
        keep: hold the fitted pixels in memory.
        workers: threads; 0: one a core, at most 8.

    Raises:
        DataError: if more pictures can not be decoded, each named.
    """
    pixels = torch.empty(len(files), *frame.shape, dtype=torch.uint8) if keep else None

    def look(at: int) -> tuple[bytes | None, tuple[str, ...]]:
        try:
            seen = see(root / files[at], frame.channels)
        except DataError as error:
            return None, (error.what.removeprefix(f"{root / files[at]} ").removeprefix("is "),)
        if pixels is not None:
            pixels[at] = torch.from_numpy(frame(seen.picture))
        return seen.digest, seen.changes

    contents: list[bytes | None] = []
    unreadable: dict[str, str] = {}
    changes: dict[str, list[str]] = {}
    tell = telling(len(files))
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        warnings.simplefilter("ignore")  # on tags and palettes; set once, since the filters are not made for threads
        for start in range(0, len(files), _AHEAD):
            part = range(start, min(start + _AHEAD, len(files)))
            for at, (digest, said) in zip(part, pool.map(look, part), strict=True):
                contents.append(digest)
                tell(len(contents))
                if digest is None:
                    unreadable[files[at]] = said[0]
                for change in said if digest is not None else ():
                    changes.setdefault(change, []).append(files[at])
    if len(unreadable) > skip * len(files):
        raise _too_many(unreadable, len(files), skip)
    return Scan(contents, pixels, unreadable, changes)


def _too_many(unreadable: dict[str, str], total: int, skip: float) -> DataError:
    lost = [f"{file} ({why})" for file, why in unreadable.items()]
    more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
    return DataError(
        f"{len(lost)} of {total} pictures can not be read, {len(lost) / total:.2%}, and data.skip allows {skip:.2%}: "
        f"{', '.join(lost[:_LISTED])}{more}",
        cure="restore or remove them, or raise data.skip",
    )


def telling(total: int, what: str = "reading pictures") -> Callable[[int], None]:
    """Says how far it is on standard error: after two seconds, then in place on a terminal, else every half minute."""
    every = 0.2 if sys.stderr.isatty() else 30.0
    state = {"next": time.monotonic() + 2.0, "shown": 0.0}

    def tell(done: int) -> None:
        terminal = sys.stderr.isatty()
        if time.monotonic() >= state["next"] or (done == total and state["shown"]):
            state["next"], state["shown"] = time.monotonic() + every, 1.0
            end = "\r" if terminal and done < total else "\n"
            print(f"{what}  {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

    return tell
