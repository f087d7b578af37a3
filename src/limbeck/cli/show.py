"""What a command prints on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
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
    if summary.get("operating_point"):
        typer.echo(summary["operating_point"]["sentence"])
    for finding in (one for one in summary.get("findings", []) if one["severity"] != "info"):
        typer.echo(f"{finding['severity']}: {finding['message']}")
        if finding.get("cure"):
            typer.echo(f"  cure: {finding['cure']}")
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


def show_findings(findings: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """What the doctor found: each with its evidence, its usual cause and the cure."""
    if as_json:
        print_json({"findings": findings})
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 110)
    colors = {"error": "bold red", "warning": "bold yellow", "info": "bold blue"}
    for one in findings:
        head = Text(f"{one['severity']}  ", colors[one["severity"]])
        console.print(head.append(one["code"], "bold"))
        console.print(Padding(Text(f"{one['message'][0].upper()}{one['message'][1:]}."), (0, 0, 0, 2), expand=False))
        for name in ("evidence", "cause", "cure"):
            text = _numbers(one[name]) if name == "evidence" else one[name]
            if text:
                console.print(Padding(Text(f"{name}: ", "dim").append(text, "default"), (0, 0, 0, 4), expand=False))
        console.print()
    counts = {kind: sum(one["severity"] == kind for one in findings) for kind in colors}
    told = [f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items() if count]
    console.print(f"The doctor found {', '.join(told)}." if told else "The doctor found nothing.")


def _numbers(evidence: Mapping[str, Any]) -> str:
    """Evidence in a line or a few; long lists are cut."""
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in evidence.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_numbers(value)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value[:8]))}{', …' if len(value) > 8 else ''}]"
    return f"{value:g}" if isinstance(value, float) else "–" if value is None else str(value)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))
