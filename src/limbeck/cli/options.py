"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe


def known_recipes(incomplete: str) -> list[str]:
    """Completions of a recipe: the packaged names, and YAML files."""
    from limbeck.recipe.recipe import packaged

    folder = Path(incomplete).parent if "/" in incomplete else Path()
    files = [str(path) + "/" * path.is_dir() for path in folder.glob("*") if path.is_dir() or path.suffix == ".yaml"]
    return sorted(name for name in [*packaged(), *files] if name.startswith(incomplete))


RecipeArg = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A YAML file, or digits, mnist, segmentation_digits.", autocompletion=known_recipes
    ),
]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run folder; runs/NAME by default.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY.PATH=VALUE", help="Change a value of the recipe; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, the rest on error.")]
Quick = Annotated[bool, typer.Option("--quick", help="One seed and few epochs: does everything work?")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="FILE.py", help="Your own models, user/NAME in a recipe. The file is run."),
]


def load(recipe: str, overrides: list[str] | None, quick: bool = False) -> Recipe:
    """The recipe that a command names, with what was typed after ``--set`` and ``--quick``."""
    from limbeck.recipe.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or [])
    return loaded.quick() if quick else loaded
