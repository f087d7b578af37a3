"""``limbeck store RECIPE``: the teacher as a run would have it, and its store, before any student is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.errors import RecipeError
from limbeck.models.lookup import user_models
from limbeck.pipeline import storing
from limbeck.pipeline.experiment import from_recipe
from limbeck.pipeline.folder import Run
from limbeck.pipeline.memory_format import without_channels_last_where_refused
from limbeck.pipeline.stages import Context
from limbeck.pipeline.walk import check_first, teacher_first
from limbeck.pipeline.wish import StoreWish
from limbeck.recipe.recipe import Recipe
from limbeck.recipe.store_schema import AUTO
from limbeck.training.distributed import processes
from limbeck.training.progress import reporter


def stored(recipe: Recipe, folder: Path, path: Path | None = None) -> Recipe:
    """A recipe with a store at a path.

    Args:
        recipe: with or without a store.
        folder: of its run, where the store lies unless it has a path.
        path: of the store, if it is to be another than the recipe's.

    Example:
        >>> stored(Recipe.load("digits"), Path("runs/demo")).spec.teacher.store
        'runs/demo/store'
    """
    spec = recipe.to_dict()["teacher"]
    given = (spec[0] if isinstance(spec, list) else spec)["store"]
    asked = {} if given is None else {"path": given} if isinstance(given, str) else dict(given)
    if path is None and asked.get("path") not in (None, AUTO):
        return recipe
    asked["path"] = str(path if path is not None else folder / storing.FOLDER)
    key = "teacher.0.store" if isinstance(spec, list) else "teacher.store"
    if isinstance(spec, list):
        recipe = recipe.changed({f"teacher.{number}.store": None for number in range(1, len(spec))})
    return recipe.changed({key: asked["path"] if len(asked) == 1 else asked})


@processes()
def prebuild(
    recipe: Recipe,
    folder: str | Path,
    *,
    views: int | None = None,
    command: str = "",
    quiet: bool = False,
    models: Path | None = None,
) -> dict[str, Any]:
    """Train or take a recipe's teacher as its run does, and build its store; a store that was begun is gone on with.

    Under torchrun each process asks about its part.

    Args:
        recipe: whose teacher has a store with a path, as :func:`stored` gives it.
        folder: of the run, which will find its teacher there.
        views: of each sample, if not the recipe's.
        command: that was typed, for the record.
        quiet: show no progress.
        models: the user's own models, a Python file.

    Returns:
        What ``summary.json`` says of a store.

    Raises:
        LimbeckError: with what is wrong and the cure.
    """
    asked: Mapping[str, Any] = recipe.to_dict()
    run = Run(folder)
    run.begin(recipe.name, asked, command, teacher_only=True)
    user = user_models(models) if models else None
    wish = StoreWish.of_recipe(recipe.to_dict()["teacher"])
    if wish is None:
        raise RecipeError("the teacher has no store that could be built", cure="give it one: teacher.store: auto")
    experiment = from_recipe(asked, user, wish if views is None else replace(wish, views=views))
    context = Context(experiment, run, reporter(quiet=quiet))
    try:
        check_first(context)
        context = replace(context, experiment=without_channels_last_where_refused(experiment))
        for note in [*experiment.data.notes, *experiment.notes]:
            context.reporter.say(note)
        context, teacher, _, _, says = teacher_first(context)
        with storing.kept(context, teacher, says["validation"], at_once=True) as kept:
            return kept.summary() if kept is not None else {}
    finally:
        run.leave()


__all__ = ["prebuild", "stored"]
