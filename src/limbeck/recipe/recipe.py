"""Recipes: a distillation as data, read, checked, and answered by name where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limbeck.errors import RecipeError, nearest
from limbeck.objective import Objective
from limbeck.recipe.mistakes import answer, from_pydantic, objective_mistakes, term_parameters
from limbeck.recipe.model_schema import StudentSpec, TeacherSpec
from limbeck.recipe.overrides import apply, parse_key, parse_setting
from limbeck.recipe.reading import Key, describe, plain, read_file
from limbeck.recipe.schema import RecipeSpec
from limbeck.recipe.tasks import task_mistakes


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. It is data: reading it imports and calls nothing.

    Example:
        >>> recipe = Recipe.parse({"teacher": {"model": "limbeck/conv_mnist"}, "student": {"model": "limbeck/cnn5"}})
        >>> recipe.spec.seeds, [term.name for term in recipe.objective.terms]
        (3, ['supervised', 'kl'])
        >>> Recipe.parse({"teacher": {"model": "limbeck/cnn5", "epoch": 3}, "student": {"model": "limbeck/cnn5"}})
        Traceback (most recent call last):
        limbeck.errors.RecipeError: recipe: teacher.epoch: unknown key; did you mean 'epochs'?
    """

    spec: RecipeSpec

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.spec.name

    @property
    def objective(self) -> Objective:
        """What the student minimizes; the default where ``auto`` leaves it to a search."""
        return Objective.of(None if self.spec.objective == "auto" else self.spec.objective)

    @property
    def teachers(self) -> list[TeacherSpec]:
        """The teacher, or the members of the ensemble."""
        teacher = self.spec.teacher
        return list(teacher) if isinstance(teacher, list) else [teacher]

    @property
    def student(self) -> StudentSpec:
        """The student."""
        return self.spec.student

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file, or one that comes with limbeck by its name, such as ``digits``.

        Args:
            path: of a YAML file, or a name.
            overrides: ``key.path=value``, as after ``--set``; values are YAML.

        Raises:
            RecipeError: naming file, line, key, what was expected and found, and the nearest right key; all mistakes
                are in one message.

        Example:
            >>> Recipe.load("digits", ["objective.kl.temperature=3"]).spec.objective["kl"]["temperature"]
            3
        """
        file = find_recipe(path)
        text = read_file(file)
        if text.data is None:
            raise RecipeError(f"{file}: the recipe is empty", cure="begin with the keys teacher and student")
        if isinstance(text.data, dict):
            text.data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:80] or "run")
        return cls.parse(text.data, where=str(path), lines=text.lines, overrides=overrides)

    @classmethod
    def parse(
        cls,
        mapping: Any,
        *,
        where: str = "recipe",
        lines: Mapping[Key, int] | None = None,
        overrides: Sequence[str] = (),
    ) -> Recipe:
        """Check a mapping; see :meth:`load`.

        Args:
            mapping: keys and values: text, numbers, true, false, null, lists, mappings.
            where: what to call it in messages.
            lines: the line of each key in its file, for messages.
            overrides: ``key.path=value``.
        """
        data = plain(mapping, where=where)
        if not isinstance(data, dict):
            raise RecipeError(f"{where}: expected a mapping with teacher and student, found {describe(data)}")
        changes = [parse_setting(item) for item in overrides]
        for key, value in changes:
            apply(data, key, value)
        mistakes = objective_mistakes(data.get("objective"))
        try:
            spec = RecipeSpec.model_validate(data)
            mistakes += task_mistakes(spec)
        except ValidationError as error:
            mistakes = [*from_pydantic(error, RecipeSpec), *mistakes]
        if mistakes:
            raise answer(mistakes, where, lines or {}, [key for key, _ in changes]) from None
        return cls(spec)

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe with its defaults, as JSON and YAML hold it; ``parse`` of it gives the same recipe."""
        found = self.spec.model_dump(mode="json")
        if not self.spec.stages:  # as before there were any
            found.pop("stages")
        return found

    def changed(self, overrides: Mapping[str, Any]) -> Recipe:
        """The recipe with some values changed, by dotted key.

        Example:
            >>> Recipe.load("digits").changed({"seeds": 2, "objective.kl.temperature": 8}).spec.seeds
            2
        """
        data = self.to_dict()
        for key, value in overrides.items():
            apply(data, parse_key(key), plain(value, where=key))
        return Recipe.parse(data, where=self.name)

    def quick(self) -> Recipe:
        """A much shorter version, to see that everything works: one seed, few epochs; its name ends in ``-quick``.

        Example:
            >>> quick = Recipe.load("digits").quick()
            >>> quick.name, quick.spec.seeds, quick.student.epochs
            ('demo-quick', 1, 2)
        """
        data = self.to_dict()
        teachers = data["teacher"] if isinstance(data["teacher"], list) else [data["teacher"]]
        for spec in [data["student"], *data["assistants"], *teachers]:
            _shorten(spec, epochs=2)
        for stage in data.get("stages", []):
            if stage["distill"]:
                stage["distill"].update(epochs=1, schedule=None)
        name = self.name if self.name.endswith("-quick") else f"{self.name[:74]}-quick"
        return Recipe.parse({**data, "seeds": 1, "name": name}, where=self.name)


def packaged() -> list[str]:
    """The names of the recipes that come with limbeck.

    Example:
        >>> packaged()
        ['digits', 'mnist', 'segmentation_digits']
    """
    folder = resources.files("limbeck") / "recipes"
    return sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml"))


def find_recipe(path: str | Path) -> Path:
    """The file of a recipe: the path itself, or a packaged one by name.

    Raises:
        RecipeError: if there is neither, with the nearest name.
    """
    text, names = str(path), packaged()
    try:
        there = Path(text).exists()
    except (OSError, ValueError):  # too long, or with a NUL
        raise RecipeError(f"{text[:80]!r} is not a path") from None
    if text in names and not Path(text).is_file():
        return Path(str(resources.files("limbeck") / "recipes" / f"{text}.yaml"))
    if not there and Path(text).suffix not in {".yaml", ".yml", ".json"}:
        raise RecipeError(
            f"{text[:80]}: there is no such recipe file{nearest(text[:80], names)}",
            cure=f"give a YAML file, or one of {', '.join(names)}",
        )
    return Path(text)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors.

    Example:
        >>> json_schema()["required"]
        ['teacher', 'student']
    """
    schema = RecipeSpec.model_json_schema()
    number, terms = {"type": "number", "minimum": 0}, term_parameters()
    terms_schema = {
        "type": "object",
        "minProperties": 1,
        "properties": {
            name: {
                "anyOf": [
                    number,
                    {
                        "type": "object",
                        "properties": {"weight": number, "loss": {"const": name}, **{key: {} for key in parameters}},
                        "additionalProperties": False,
                    },
                ]
            }
            for name, parameters in sorted(terms.items())
        },
        "additionalProperties": {
            "type": "object",
            "properties": {"loss": {"enum": sorted(terms)}},
            "required": ["loss"],
        },
    }
    schema["properties"]["objective"]["anyOf"] = [{"const": "auto"}, terms_schema]
    for part in ("OptimizerSpec", "ScheduleSpec"):  # a name alone will do
        full = schema["$defs"][part]
        schema["$defs"][part] = {"anyOf": [{"enum": full["properties"]["name"]["enum"]}, full]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "limbeck recipe"}


def _shorten(spec: dict[str, Any], epochs: int) -> None:
    short = min(spec["epochs"], epochs)
    part = short / spec["epochs"]
    schedule = spec["schedule"]
    schedule["warmup"] *= part
    schedule["milestones"] = sorted({max(1, round(epoch * part)) for epoch in schedule["milestones"]})
    if spec["transfer"]:
        spec["transfer"]["freeze"] = min(spec["transfer"]["freeze"], short // 2)
    spec["epochs"] = short
