"""The command line: each command a few lines over the public interface."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.errors import LimbeckError

app = typer.Typer(no_args_is_help=True, help="Turn a large trained model into a small one, and prove what was kept.")
Set = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, changes the recipe")]
Out = Annotated[Path | None, typer.Option("--out", help="the run folder")]


@app.command()
def run(recipe: str, out: Out = None, set_: Set = None) -> None:
    """Run a recipe."""
    from limbeck.pipeline.recipe import Recipe
    from limbeck.pipeline.run import execute

    read = Recipe.load(recipe, set_ or [])
    print(execute(read, out or Path("runs") / read.name, command=_command()))


@app.command()
def resume(folder: Path) -> None:
    """Go on with a run that was stopped."""
    from limbeck.pipeline.run import resume as go_on

    print(go_on(folder))


@app.command()
def sweep(recipe: str, grid: list[str], out: Out = None, set_: Set = None) -> None:
    """Run a recipe at every point of a grid: key.path=1,2,4."""
    from limbeck.pipeline.reading import read_text
    from limbeck.pipeline.recipe import Recipe
    from limbeck.pipeline.sweep import sweep as go

    read = Recipe.load(recipe, set_ or [])
    values: dict[str, Any] = {}
    for item in grid:
        key, _, text = item.partition("=")
        values[key] = read_text(f"[{text}]").data
    go(read, values, out or Path("runs") / f"{read.name}-sweep", command=_command())


def main() -> None:
    """Run the command line; an error of the user's ends in one message and its exit code."""
    try:
        app()
    except LimbeckError as error:
        print(f"limbeck: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _command() -> str:
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
