"""What files weigh, take and hold, in one run: in turns, so that a machine's mood hits all alike."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbeck.compress.bench.opened import Opened, check_alike, open_file, random_inputs
from limbeck.errors import ExportError, FileError
from limbeck.evaluation.latency import latency

BATCHES = (1, 32)
_STATUS = Path("/proc/self/status")


def side_by_side(
    files: Sequence[str | Path],
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    shape: tuple[int, ...] | None = None,
    memory: bool = True,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure files beside each other.

    Args:
        files: that take the same inputs, see :func:`limbeck.compress.bench.opened.open_file`.
        batches: samples at a time.
        threads: of every runtime.
        repeats: timed calls of each file and batch, in turns.
        warmup: calls of each that are not timed.
        shape: of one input, where files leave it open.
        memory: measure the peak of each file in a process of its own, where the kernel tells it.
        say: told what is measured now.

    Returns:
        One entry a file, in their order: ``file``, ``runtime``, ``bytes``, ``gzip_bytes``, ``zstd_bytes`` (None without
        the package zstandard), ``macs``, ``parameters``, ``latency`` (by batch: median, 10th and 90th percentile in ms)
        and ``peak_bytes`` (by batch).

    Raises:
        FileError, ExportError: naming the file; nothing is measured then.
    """
    tell = say or (lambda text: None)
    opened = [open_file(one, threads=threads, shape=shape) for one in files]
    if not opened:
        raise FileError("no files to measure", cure="give at least one")
    check_alike(opened)
    found = [_weighed(one) for one in opened]
    for batch in batches:
        tell(f"batch {batch}: {warmup + repeats} turns")
        calls = {str(number): _call(one, batch) for number, one in enumerate(opened)}
        timed = latency(calls, threads=threads, warmup=warmup, repeats=repeats)
        for number, entry in enumerate(found):
            entry["latency"][str(batch)] = {"runs": repeats, **timed[str(number)]}
    if memory:
        for one, told in zip(opened, found, strict=True):
            tell(f"memory: {one.path}")
            for batch in batches:
                told["peak_bytes"][str(batch)] = _peak(one, batch, threads)
    return found


def _weighed(one: Opened) -> dict[str, Any]:
    data = one.path.read_bytes()
    return {
        "file": str(one.path),
        "runtime": one.runtime,
        "shape": list(one.shape),
        "bytes": len(data),
        "gzip_bytes": len(gzip.compress(data, compresslevel=6, mtime=0)),
        "zstd_bytes": _zstd(data),
        "macs": one.macs,
        "parameters": one.parameters,
        "latency": {},
        "peak_bytes": {},
    }


def _zstd(data: bytes) -> int | None:
    try:
        import zstandard
    except ImportError:
        return None
    return len(zstandard.ZstdCompressor(level=19).compress(data))


def _call(one: Opened, batch: int) -> Callable[[], Any]:
    inputs = random_inputs(one, batch)
    try:
        one.run(inputs)
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"{one.path} does not take {batch} inputs of {list(one.shape)}: {line[:200]}") from None
    return lambda: one.run(inputs)


def _peak(one: Opened, batch: int, threads: int) -> int | None:
    """Bytes that a process holds at most above what it held before it opened the file; None where it is not told."""
    if not _STATUS.exists():
        return None
    asked = [str(one.path), str(batch), str(threads), json.dumps(list(one.shape))]
    done = subprocess.run(
        [sys.executable, "-m", "limbeck.compress.bench.peak", *asked], capture_output=True, text=True, check=False
    )
    return int(done.stdout) if done.returncode == 0 else None


__all__ = ["BATCHES", "side_by_side"]
