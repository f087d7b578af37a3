"""``limbeck bench``: exported files side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Quiet
from limbeck.cli.show import print_json
from limbeck.errors import RecipeError


def bench(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="ONNX files, or student.safetensors with its student.json.")
    ],
    batch: Annotated[str, typer.Option(metavar="N,N", help="Samples at a time.")] = "1,32",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Of every runtime.")] = 1,
    repeats: Annotated[int, typer.Option(min=3, max=100_000, help="Timed calls of each.")] = 30,
    shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Of one input, where a file leaves it open.")
    ] = None,
    memory: Annotated[bool, typer.Option(help="Measure the peak of each in a process of its own.")] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure files beside each other: bytes, multiply-accumulates, latency in turns, memory."""
    from limbeck.compress.bench.measure import side_by_side

    sizes = None if shape is None else tuple(_numbers(shape, "--shape"))
    say = None if quiet else lambda text: typer.echo(text, err=True)
    with stdout_kept(as_json):
        found = side_by_side(
            files, batches=_numbers(batch, "--batch"), threads=threads, repeats=repeats, shape=sizes, memory=memory,
            say=say,
        )  # fmt: skip
    if as_json:
        from limbeck.pipeline.folder import environment

        print_json({"environment": environment(), "threads": threads, "files": found})
        return
    from limbeck.pipeline.tables import print_table

    print_table(*_table(found))


def _numbers(text: str, option: str) -> list[int]:
    try:
        found = [int(one) for one in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= one <= 100_000 for one in found):
        raise RecipeError(f"{option} {text[:40]!r}: expected whole numbers from 1 on", cure=f"such as {option} 1,32")
    return found


def _table(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row a file; latency as median with the ratio to the first file."""
    from limbeck.report.numbers import DASH, count, milliseconds, size

    batches = list(found[0]["latency"])
    heads = ["file", "runtime", "bytes", "gzip", "zstd", "MACs"]
    for one in batches:
        heads += [f"batch {one}", "10 to 90 %", "to the first"]
    heads.append("memory")
    rows = []
    for one in found:
        row = [one["file"], one["runtime"], *(size(one[key]) for key in ("bytes", "gzip_bytes", "zstd_bytes"))]
        row.append(count(one["macs"]))
        for name in batches:
            timed, first = one["latency"][name], found[0]["latency"][name]["median_ms"]
            low, high = (milliseconds(timed[key]) for key in ("low_ms", "high_ms"))
            row += [milliseconds(timed["median_ms"]), f"{low} to {high}", f"{first / timed['median_ms']:.2f}x"]
        peaks = [size(value) for value in one["peak_bytes"].values() if value is not None]
        rows.append([*row, " / ".join(peaks) or DASH])
    return heads, rows


__all__ = ["bench"]
