"""Sweeps: a plain grid over values of a recipe, chosen on validation, confirmed on test once."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import RecipeError, ResumeError
from limbeck.evaluation.dense.told import division
from limbeck.evaluation.names import is_share, sign, title
from limbeck.evaluation.statistics import interval
from limbeck.files import make_folder, read_json, write_bytes, write_json
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe
from limbeck.training.distributed import processes


@processes()
def sweep(
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    folder: str | Path,
    *,
    command: str = "",
    quiet: bool = False,
    models: Path | None = None,
    point_seeds: int | None = None,
) -> dict[str, Any]:
    """Run a recipe at every point of a grid, choose on validation, and run the winner in full.

    The test split is looked at once, by the winner. What several points have in common (the teacher, the control) is
    trained once. Points that are done are not run again.

    Args:
        recipe: where the grid says nothing.
        grid: values by dotted key, such as ``{"objective.kl.temperature": [1, 2, 4]}``.
        folder: ``points/``, ``best/``, ``sweep.json`` and ``sweep.svg`` are written there.
        command: that was typed, for the record.
        quiet: show no progress.
        models: the user's own models, a Python file.
        point_seeds: seeds of each point, fewer than the recipe's to save time; the winner runs with the recipe's.

    Returns:
        The content of ``sweep.json``.

    Raises:
        RecipeError: if the grid is empty, or a key or value is not one of the recipe's.
        ResumeError: if the folder holds a sweep of another recipe, or one that is done over other values.
    """
    if not grid or not all(grid.values()):
        raise RecipeError("a sweep needs a key with values", cure="such as objective.kl.temperature=1,2,4,8")
    folder = make_folder(folder)
    chosen = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    recipes = [recipe.changed(values) for values in chosen]  # all are checked before the first is run
    _check_before(folder, recipe, grid)
    slugs = [slug(values) for values in chosen]
    points: list[dict[str, Any]] = []
    about = {"command": command, "point_seeds": point_seeds or recipe.spec.seeds}
    _write(folder, recipe, grid, points, about)
    for number, (values, changed) in enumerate(zip(chosen, recipes, strict=True)):
        where = folder / "points" / (slugs[number] if slugs.count(slugs[number]) == 1 else f"{number}-{slugs[number]}")
        options: dict[str, Any] = {"command": command, "quiet": quiet, "models": models}
        point = changed if point_seeds is None else changed.changed({"seeds": point_seeds})
        result = execute(point, where, score_test=False, shared=folder / "shared", **options)
        points.append(
            {
                "values": values,
                "folder": where.relative_to(folder).as_posix(),
                **_scores(result.summary, recipe.spec.metric),
            }
        )
        _write(folder, recipe, grid, points, about)
    better = sign(recipe.spec.metric)
    best = max(range(len(points)), key=lambda number: (better * points[number]["student"]["mean"], -number))
    final = execute(recipes[best], folder / "best", shared=folder / "shared", **options)
    found = _write(folder, recipe, grid, points, about)
    found["best"] = {"values": chosen[best], "folder": "best", "summary": final.summary["verdict"]}
    write_json(folder / "sweep.json", found)
    write_bytes(folder / "sweep.svg", plot(found).encode())
    return found


def resume(folder: str | Path, *, models: Path | None = None, quiet: bool = False) -> dict[str, Any]:
    """Go on with a sweep that was stopped; see :func:`sweep`.

    Raises:
        ResumeError: if ``sweep.json`` does not say what was swept.
    """
    file = Path(folder) / "sweep.json"
    before = read_json(file)
    if not isinstance(before, dict) or not {"recipe", "grid", "command"} <= set(before):
        raise ResumeError(f"{file} does not say what was swept", cure="give the sweep's command again")
    recipe = Recipe.parse(before["recipe"], where=str(file))
    options: dict[str, Any] = {"command": before["command"], "point_seeds": before.get("point_seeds")}
    return sweep(recipe, before["grid"], folder, models=models, quiet=quiet, **options)


def slug(values: Mapping[str, Any]) -> str:
    """A folder's name for a point of the grid.

    Example:
        >>> slug({"objective.kl.temperature": 4, "student.epochs": 10})
        'temperature-4_epochs-10'
    """
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in values.items()]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts))[:120]


def plot(found: Mapping[str, Any]) -> str:
    """The sweep as an SVG figure: validation metric of student and control at every point, with each seed's."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    keys, metric = list(found["grid"]), found.get("metric", "accuracy")
    unit = 100 if is_share(metric) else 1
    numbers = [point["values"][keys[0]] for point in found["points"]]
    scale = len(keys) == 1 and all(isinstance(one, int | float) and one > 0 for one in numbers)
    places = numbers if scale else list(range(len(numbers)))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for role, color in (("student", "#0072B2"), ("control", "#D55E00"), ("control_hard_labels", "#009E73")):
            shown = [point.get(role) for point in found["points"]]
            if any(one is None for one in shown):
                continue
            line = "o-" if scale else "o"  # several keys have no one order to draw a line along
            axes.plot(places, [unit * one["mean"] for one in shown], line, color=color, label=role.replace("_", " "))
            for place, one in zip(places, shown, strict=True):
                dots = [unit * value for value in one["seeds"]]
                axes.plot([place] * len(dots), dots, ".", color=color, alpha=0.4)
        if scale and max(numbers) / min(numbers) >= 8:
            axes.set_xscale("log", base=2)
        texts = [
            ", ".join(f"{one:g}" if isinstance(one, int | float) else str(one)[:20] for one in point["values"].values())
            for point in found["points"]
        ]
        axes.set_xticks(places, texts, rotation=0 if scale else 30, ha="center" if scale else "right")
        axes.minorticks_off()
        axes.set_xlabel(", ".join(keys))
        axes.set_ylabel(f"validation {title(metric)}{_divided(found)}{', %' if is_share(metric) else ''}")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _scores(summary: Mapping[str, Any], metric: str) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for role, model in summary["models"].items():
        seeds = [run["metrics"]["selected"]["validation"][metric] for run in model["runs"]]
        mean = interval(seeds)
        scores[role] = {"mean": mean.mean, "low": mean.low, "high": mean.high, "seeds": seeds}
    return {**scores, "seconds": summary["seconds"], "divided": division(summary)}


def _divided(found: Mapping[str, Any]) -> str:
    divided = next((point["divided"] for point in found["points"] if point.get("divided")), None)
    return f", {divided}" if divided else ""


def _check_before(folder: Path, recipe: Recipe, grid: Mapping[str, Sequence[Any]]) -> None:
    file = folder / "sweep.json"
    before = read_json(file) if file.exists() else None
    if before is None:
        return
    cure = "give another folder with --out"
    if before.get("recipe") != json.loads(json.dumps(recipe.to_dict())):
        raise ResumeError(f"{folder} holds a sweep of another recipe", cure=cure)
    if before.get("best") and before["grid"] != {key: list(values) for key, values in grid.items()}:
        # A second winner would be a second look at the test split.
        raise ResumeError(f"{folder} holds a sweep that is done, over other values", cure=cure)


def _write(
    folder: Path,
    recipe: Recipe,
    grid: Mapping[str, Any],
    points: list[dict[str, Any]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    file = folder / "sweep.json"
    before = read_json(file).get("best") if file.exists() else None
    found = {
        **about,
        "recipe": recipe.to_dict(),
        "grid": {key: list(values) for key, values in grid.items()},
        "metric": recipe.spec.metric,
        "split": "validation",
        "points": points,
        "best": before,
    }
    write_json(file, found)
    return found
