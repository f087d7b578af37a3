"""``limbeck store RECIPE``: the teacher is asked once about every view, beforehand."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.about_store import BUILD, store
from limbeck.cli.leaving import INTERRUPTED, TERMINATED, rank_of_several, stdout_kept, typed
from limbeck.cli.options import AsJson, Models, Quick, Quiet, RecipeArg, Set, load
from limbeck.cli.show import print_json
from limbeck.errors import LimbeckError

OutStore = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="PATH", help="The store's folder; in the run's by default.")
]
Views = Annotated[
    int | None, typer.Option("--views", metavar="V", min=1, help="Views of each sample; 16 or the epochs by default.")
]


def build(
    recipe: RecipeArg,
    out: OutStore = None,
    views: Views = None,
    set_: Set = None,
    quick: Quick = False,
    quiet: Quiet = False,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Train or take a recipe's teacher as its run would, and keep what it says of every view.

    Example: limbeck store mnist --views 8 --out kept/mnist
    """
    loaded = load(recipe, set_, quick)
    folder = Path("runs") / loaded.name
    with stdout_kept(as_json), _how_to_go_on():
        from limbeck.pipeline.prebuild import prebuild, stored

        asked = stored(loaded, folder, out)
        found = prebuild(asked, folder, views=views, command=typed(), quiet=quiet, models=models)
    use = _use(recipe, set_ or [], found["path"], isinstance(loaded.spec.teacher, list), quick, models)
    print_json({**found, "run": str(folder), "use": use}) if as_json else _show(found, use)


def _show(found: Mapping[str, Any], use: str) -> None:
    from limbeck.store.certificate import line
    from limbeck.store.inform import in_units

    views = f"{found['views']:,} view{'s' * (found['views'] > 1)} of {found['samples']:,} samples"
    seconds = found["asked"]["seconds"]
    took = f", asked in {seconds:.1f} s" if found["mode"] == "built" else ", there already"
    typer.echo(f"{found['path']}: {views}, {found['bytes_per_view']} bytes each, {in_units(found['bytes'])}{took}")
    typer.echo(f"{line(found['certificate'])}.")
    typer.echo(f"Use it: {use}")


def _use(recipe: str, overrides: list[str], path: str, several: bool, quick: bool, models: Path | None) -> str:
    """The command that trains a student from the store."""
    key = "teacher.0.store" if several else "teacher.store"
    kept = [one for one in overrides if not one.startswith((f"{key}=", f"{key}."))]
    command = ["limbeck", "run", recipe, *(part for one in [*kept, f"{key}={path}"] for part in ("--set", one))]
    return shlex.join([*command, *(["--quick"] if quick else []), *(["--models", str(models)] if models else [])])


@contextlib.contextmanager
def _how_to_go_on() -> Iterator[None]:
    """Say how a stopped build is continued: by the same command."""
    try:
        yield
    except (LimbeckError, KeyboardInterrupt) as error:
        if not rank_of_several() and getattr(error, "exit_code", INTERRUPTED) in (INTERRUPTED, TERMINATED):
            print(f"limbeck: go on with: {typed()}", file=sys.stderr)
        raise


store.command(BUILD)(build)

__all__ = ["store"]
