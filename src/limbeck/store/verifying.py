"""Whether the files of a store are as they were written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from limbeck.errors import FileError
from limbeck.files import sha256
from limbeck.training.progress import Reporter, Silent

_THREADS, _WORTH = 8, 2**23  # hashing leaves the interpreter to others; so many bytes are worth a thread


def faults(
    folder: Path, files: Sequence[Mapping[str, Any]], *, read: bool = True, told: Reporter | None = None
) -> Iterator[FileError]:
    """What is wrong with files, one error for each that is not as it was written; nothing, if all are.

    Sizes are compared first, so that a file that is missing or cut off is told before gigabytes were read.

    Args:
        folder: where they are.
        files: ``file``, ``bytes`` and ``sha256`` of each.
        read: compare the sha256 too, which reads them all; several at a time.
        told: shows progress.

    Example:
        >>> import tempfile
        >>> facts = [{"file": "a.bin", "bytes": 3, "sha256": "0" * 64}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.bin").write_bytes(b"ab")
        ...     print(next(faults(Path(folder), facts)).what.rpartition("/")[2])
        a.bin has 2 bytes, expected 3
    """
    whole = []
    for facts in files:
        fault = _by_size(folder / facts["file"], facts["bytes"])
        if fault is None:
            whole.append(facts)
        else:
            yield fault
    if read:
        yield from _by_content(folder, whole, told or Silent())


def _by_content(folder: Path, files: Sequence[Mapping[str, Any]], told: Reporter) -> Iterator[FileError]:
    told.begin("verify", 1, len(files), sum(facts.get("records", 0) for facts in files))
    threads = min(_THREADS, os.cpu_count() or 1, sum(facts["bytes"] for facts in files) // _WORTH)
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    try:
        digests = (pool.map if pool else map)(_digest, [folder / facts["file"] for facts in files])
        for done, (facts, digest) in enumerate(zip(files, digests, strict=True), start=1):
            if isinstance(digest, FileError):
                yield digest
            elif digest != facts["sha256"]:
                yield FileError(
                    f"{folder / facts['file']} is damaged: it is not as it was written, its sha256 is another",
                    cure="put back what was written, or build the store again",
                )
            told.batch(1, done, facts.get("records", 0), None)
    finally:  # also where the reader stops at the first fault: the other files are not read
        if pool:
            pool.shutdown(cancel_futures=True)
        told.end()


def _digest(path: Path) -> str | FileError:
    try:
        return sha256(path)
    except FileError as error:
        return error


def _by_size(path: Path, size: int) -> FileError | None:
    """What is wrong with a file, as far as its size tells."""
    try:
        found = path.stat().st_size if path.is_file() else None
    except OSError as error:
        return FileError(f"{path} can not be read: {error.strerror}")
    if found is None:
        what = "is no file" if path.exists() else "is missing"
        return FileError(f"{path} {what}", cure="put it back, or build the store again")
    if found != size:
        return FileError(f"{path} has {found} bytes, expected {size}", cure="put it back, or build the store again")
    return None
