"""What a command prints on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from limbeck.pipeline.result import Result


def show(result: Result, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(result.folder), **result.summary})
        return
    from limbeck.pipeline.tables import print_table
    from limbeck.report import results_rows

    summary = result.summary
    print_table(*results_rows(summary))
    typer.echo(f"\n{summary.get('verdict', '')}")
    for finding in (one for one in summary.get("findings", []) if one["severity"] != "info"):
        typer.echo(f"{finding['severity']}: {finding['message']}")
    typer.echo(f"\nReport: {result.folder / 'report.html'}")


def show_sweep(found: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), **found})
        return
    from limbeck.pipeline.tables import points, print_table

    print_table(*points(found))
    best = found["best"]["values"]
    typer.echo(f"\nChosen on validation: {', '.join(f'{key}={value}' for key, value in best.items())}")
    typer.echo(f"{found['best']['summary']}\n\nPlot: {folder / 'sweep.svg'}")
    typer.echo(f"Report: {folder / 'best' / 'report.html'}")


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))
