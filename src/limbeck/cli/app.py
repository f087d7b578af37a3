"""The commands: each is a few lines over the public API."""

from __future__ import annotations

import contextlib
import errno
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.bench import bench
from limbeck.cli.layers import layers
from limbeck.cli.leaving import (
    EXIT_CODES,
    FOUND,
    INTERRUPTED,
    how_to_go_on,
    say,
    stdout_kept,
    terminates,
    together,
    typed,
)
from limbeck.cli.options import AsJson, Models, Out, Quick, Quiet, RecipeArg, RunArg, Set, load
from limbeck.cli.plan import plan
from limbeck.cli.predict import predict
from limbeck.cli.show import print_json, show, show_findings, show_sweep
from limbeck.cli.store import store
from limbeck.errors import FileError, LimbeckError, RecipeError, ResumeError, nearest

DEMOS = {"classification": "digits", "segmentation": "segmentation_digits"}  # by task the packaged recipe

app = typer.Typer(
    name="limbeck",
    help="Turn a large trained model into a small one, and prove what was kept.",
    epilog="Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from limbeck import __version__

        typer.echo(f"limbeck {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Turn a large trained model into a small one, and prove what was kept."""


@app.command()
def demo(
    out: Out = None,
    task: Annotated[
        str, typer.Option(metavar="TASK", help="classification or segmentation.", autocompletion=lambda: list(DEMOS))
    ] = "classification",
    set_: Set = None,
    quick: Quick = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Distill a small digit classifier, or a segmenter of composed digits: no network, no files, some minutes."""
    if task not in DEMOS:
        raise RecipeError(f"--task {task[:40]}{nearest(task[:40], DEMOS)}", cure=f"one of {', '.join(DEMOS)}")
    _run(DEMOS[task], out, set_, quick, quiet, as_json, None)


@app.command()
def run(
    recipe: RecipeArg,
    out: Out = None,
    set_: Set = None,
    quick: Quick = False,
    quiet: Quiet = False,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: teacher, controls, students, evaluation, export, report."""
    _run(recipe, out, set_, quick, quiet, as_json, models)


@app.command()
def resume(folder: RunArg, quiet: Quiet = False, models: Models = None, as_json: AsJson = False) -> None:
    """Go on with a run or sweep that was stopped; what is done is not done again."""
    if (folder / "sweep.json").is_file():
        from limbeck.pipeline.sweep import resume as resume_sweep

        with stdout_kept(as_json), how_to_go_on(folder, models):
            found = resume_sweep(folder, models=models, quiet=quiet)
        show_sweep(found, folder, as_json)
        return
    check_run(folder)
    from limbeck.pipeline.run import resume as go_on

    with stdout_kept(as_json), how_to_go_on(folder, models):
        result = go_on(folder, models=models, quiet=quiet)
    show(result, as_json)


@app.command()
def report(folder: RunArg, as_json: AsJson = False) -> None:
    """Write a run's report.html again, from its files."""
    a_run(folder)
    from limbeck.report.render import write_report

    with stdout_kept(as_json):
        write_report(folder)
    path = folder / "report.html"
    print_json({"report": str(path)}) if as_json else typer.echo(path)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")], as_json: AsJson = False
) -> None:
    """Put finished runs side by side."""
    from limbeck.pipeline.tables import comparison, print_table
    from limbeck.report import compare as side_by_side

    for folder in folders:
        a_run(folder)
        if not (folder / "summary.json").is_file():
            raise ResumeError(f"{folder} is not finished", cure=f"limbeck resume {shlex.quote(str(folder))}")
    with stdout_kept(as_json):
        rows = side_by_side(folders)
    if as_json:
        print_json(rows)
        return
    print_table(*comparison(rows))
    if len({row["fingerprint"] for row in rows}) > 1:
        typer.echo("\nThese runs are not on the same data: their numbers can not be compared.")


@app.command()
def sweep(
    recipe: RecipeArg,
    grid: Annotated[
        list[str], typer.Argument(metavar="KEY=V1,V2,...", help="Values of a key; several keys make a grid.")
    ],
    out: Out = None,
    set_: Set = None,
    quick: Quick = False,
    quiet: Quiet = False,
    models: Models = None,
    as_json: AsJson = False,
    point_seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Seeds of each point; the best runs with the recipe's.")
    ] = None,
) -> None:
    """Run a recipe at every point of a grid, choose on validation, then run the best in full.

    Example: limbeck sweep digits objective.kl.temperature=1,2,4,8
    """
    from limbeck.pipeline.sweep import sweep as run_sweep
    from limbeck.recipe.overrides import parse_grid

    loaded = load(recipe, set_, quick)
    points = parse_grid(grid)
    folder = out or Path("runs") / f"{loaded.name}-sweep"
    with stdout_kept(as_json), how_to_go_on(folder, models):
        options: dict[str, Any] = {"models": models, "quiet": quiet, "point_seeds": point_seeds}
        found = run_sweep(loaded, points, folder, command=typed(), **options)
    show_sweep(found, folder, as_json)


@app.command()
def doctor(
    recipe: RecipeArg, set_: Set = None, models: Models = None, quiet: Quiet = False, as_json: AsJson = False
) -> None:
    """Look for what usually goes wrong, without training: data, teacher, student, objective.

    Leaves with 9 if a finding is an error.
    """
    from limbeck.pipeline.examine import examine_recipe
    from limbeck.training.progress import reporter

    loaded = load(recipe, set_, False)
    with stdout_kept(as_json):
        found = examine_recipe(loaded, models=models, reporter=reporter(quiet=quiet))
    show_findings([one.to_dict() for one in found], as_json)
    if any(one.severity == "error" for one in found):
        raise typer.Exit(FOUND)


app.command()(layers)
app.command()(plan)
app.command()(predict)
app.command()(bench)
app.add_typer(store, name="store")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from limbeck.recipe.recipe import json_schema

    print_json(json_schema())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; leaves by SystemExit with one of EXIT_CODES.

    Args:
        args: what was typed after ``limbeck``; from ``sys.argv`` by default.

    Example:
        >>> main(["--version"])
        Traceback (most recent call last):
        SystemExit: 0
    """
    raise SystemExit(_main(sys.argv[1:] if args is None else list(args)))


def _main(args: list[str]) -> int:
    try:
        with terminates(), together():
            code = app(args, prog_name="limbeck", standalone_mode=False) or 0
        if code == INTERRUPTED:  # the parser has caught Ctrl-C
            print("limbeck: interrupted", file=sys.stderr)
        return code
    except LimbeckError as error:
        return say(str(error), error.exit_code, error)
    except (KeyboardInterrupt, typer.Abort) as error:
        return say("interrupted", INTERRUPTED, error)
    except BrokenPipeError:  # the reader of our output has gone, as in `limbeck schema | head`
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        cure = "\n  cure: free some space and run the same command again" if error.errno == errno.ENOSPC else ""
        return say(f"{where}{error.strerror or error}{cure}", FileError.exit_code, error)
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's: unknown command, option, missing argument
            error.show()  # type: ignore[attr-defined]
            return RecipeError.exit_code
        text = " ".join(str(error).split())[:500]
        return say(f"unexpected {type(error).__name__}: {text}; run again with LIMBECK_TRACEBACK=1", 1, error)


def _run(
    recipe: str,
    out: Path | None,
    overrides: list[str] | None,
    quick: bool,
    quiet: bool,
    as_json: bool,
    models: Path | None,
) -> None:
    loaded = load(recipe, overrides, quick)
    from limbeck.pipeline.run import execute

    folder = out or Path("runs") / loaded.name
    with stdout_kept(as_json), how_to_go_on(folder, models):
        result = execute(loaded.to_dict(), folder, command=typed(), quiet=quiet, models=models)
    show(result, as_json)


def a_run(folder: Path) -> None:
    if not (folder / "run.json").is_file():
        raise ResumeError(f"{folder} holds no run: there is no run.json", cure="give a folder that limbeck run wrote")


def check_run(folder: Path) -> None:
    """See that a run's record is whole and its recipe is one of this version's."""
    from limbeck.files import read_json
    from limbeck.recipe.recipe import Recipe

    a_run(folder)
    info = read_json(folder / "run.json")
    recipe = info.get("recipe") if isinstance(info, dict) else None
    if not isinstance(recipe, dict) or "command" not in info:
        raise ResumeError(f"{folder / 'run.json'} is not what limbeck wrote", cure="start the run again")
    if "teacher" in recipe:
        Recipe.parse(recipe, where=str(folder / "run.json"))
