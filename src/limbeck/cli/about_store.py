"""``limbeck store info`` and ``limbeck store verify``: what a store is, and whether it is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Quiet
from limbeck.cli.show import print_json

StoreArg = Annotated[Path, typer.Argument(metavar="PATH", help="A store's folder, such as runs/demo/store.")]


def info(path: StoreArg, as_json: AsJson = False) -> None:
    """Say what a store is: samples, views, record, teacher, how well it is kept; or how far its building is."""
    with stdout_kept(as_json):
        from limbeck.store.inform import cells, inform

        found = inform(path)
    if as_json:
        print_json(found)
        return
    listed = cells(found)
    width = max(len(name) for name, _ in listed)
    for name, value in listed:
        typer.echo(f"{name:<{width}}  {value}")


def verify(path: StoreArg, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Read all files of a store and compare them with what was written; exit code 6 if one is not the same."""
    with stdout_kept(as_json):
        from limbeck.store.inform import in_units
        from limbeck.store.inform import verify as check
        from limbeck.training.progress import reporter

        found = check(path, reporter(quiet=quiet))
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{path}: {found['files']} files of {in_units(found['bytes'])} are as they were written "
        f"({found['seconds']:.1f} s)"
    )


__all__ = ["info", "verify"]
