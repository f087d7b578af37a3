"""``limbeck store info`` and ``limbeck store verify``: what a store is, and whether it is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Quiet
from limbeck.cli.show import print_json

BUILD = "build"  # the command that a recipe is given to


class RecipeFirst(TyperGroup):
    """Commands of which one need not be named: what is none of their names is a recipe, to be built."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = [BUILD, *args]
        found: list[str] = super().parse_args(ctx, args)
        return found


store = typer.Typer(
    cls=RecipeFirst,
    help="Build the store of a recipe's teacher; say what a store is; see that it is as it was written.",
    no_args_is_help=True,
    subcommand_metavar="RECIPE | info PATH | verify PATH",
)
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


store.command()(info)
store.command()(verify)

__all__ = ["BUILD", "store"]
