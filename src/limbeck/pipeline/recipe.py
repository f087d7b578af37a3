"""Recipes: a distillation as data, read, checked, and answered by name where it is wrong."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limbeck.errors import RecipeError, nearest
from limbeck.objective import Objective
from limbeck.pipeline.reading import describe, dotted, plain, read_file, read_text
from limbeck.pipeline.schema import ModelSpec, RecipeSpec, StudentSpec


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. It is data: reading it imports and calls nothing.

    Example:
        >>> recipe = Recipe.parse({"teacher": {"model": "limbeck/conv_mnist"}, "student": {"model": "limbeck/cnn5"}})
        >>> recipe.spec.seeds, [term.name for term in recipe.objective.terms]
        (3, ['supervised', 'kl'])
        >>> Recipe.parse({"teacher": {"model": "a/b", "epoch": 3}, "student": {"model": "limbeck/cnn5"}})
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
        """What the student minimizes."""
        return Objective.from_recipe(self.spec.objective)

    @property
    def teachers(self) -> list[ModelSpec]:
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
            overrides: ``key.path=value``, as after ``--set``.

        Raises:
            RecipeError: naming file, key, what was expected and found, and the nearest right key.
        """
        return cls.parse(override(read_recipe(path), overrides), where=str(path))

    @classmethod
    def parse(cls, mapping: Any, *, where: str = "recipe") -> Recipe:
        """Check a mapping; see :meth:`load`."""
        data = plain(mapping, where=where)
        if not isinstance(data, Mapping):
            raise RecipeError(f"{where}: expected a mapping with teacher and student, found {describe(data)}")
        try:
            spec = RecipeSpec.model_validate(data)
        except ValidationError as error:
            lines = _told(error.errors(include_url=False))
            raise RecipeError("\n".join(f"{where}: {line}" for line in lines[:12])) from None
        try:
            Objective.from_recipe(spec.objective)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error.what}", cure=error.cure) from None
        return cls(spec)

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe with its defaults, as JSON and YAML hold it."""
        return self.spec.model_dump(mode="json")

    def changed(self, overrides: Mapping[str, Any]) -> Recipe:
        """The recipe with some values changed, by dotted key."""
        data = self.to_dict()
        for key, value in overrides.items():
            _put(data, key, value)
        return Recipe.parse(data)

    def quick(self) -> Recipe:
        """A much shorter version, to see that everything works: one seed, few epochs."""
        data = self.to_dict()
        for spec in [data["student"], *(data["teacher"] if isinstance(data["teacher"], list) else [data["teacher"]])]:
            spec["epochs"] = min(spec["epochs"], 2)
        return Recipe.parse({**data, "seeds": 1, "name": f"{self.name}-quick"[:100]})


def read_recipe(path: str | Path) -> Any:
    """The values of a recipe file, or of a packaged one by name; not checked yet."""
    given = Path(path)
    packaged = resources.files("limbeck") / "recipes"
    names = sorted(one.name.removesuffix(".yaml") for one in packaged.iterdir() if one.name.endswith(".yaml"))
    if str(path) in names and not given.exists():
        return read_text((packaged / f"{path}.yaml").read_text(encoding="utf-8"), where=str(path)).data
    if not given.exists() and given.suffix not in {".yaml", ".yml", ".json"}:
        raise RecipeError(
            f"{path}: there is no such recipe file{nearest(str(path), names)}",
            cure=f"give a YAML file, or one of {', '.join(names)}",
        )
    return read_file(given).data


def override(data: Any, overrides: Sequence[str]) -> Any:
    """Values with some changed as ``--set key.path=value`` says; the value is read as YAML.

    Raises:
        RecipeError: if an item has no ``=``, or the key leads nowhere.

    Example:
        >>> override({"student": {"epochs": 3}}, ["student.epochs=5"])
        {'student': {'epochs': 5}}
    """
    data = copy.deepcopy(data)
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise RecipeError(f"--set {item}: expected key.path=value")
        _put(data, key.strip(), read_text(text, where=f"--set {key}").data)
    return data


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    schema = RecipeSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "limbeck recipe"
    return schema


def _put(data: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        if isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        elif isinstance(data, dict):
            if not isinstance(data.get(part), dict | list):
                # A weight alone, such as kl: 0.9, grows into a mapping when one of its settings is named.
                data[part] = {"weight": data[part]} if isinstance(data.get(part), int | float) else {}
            data = data[part]
        else:
            raise RecipeError(f"--set {key}: there is nothing at '{part}'")
    if isinstance(data, list) and last.isdigit() and int(last) < len(data):
        data[int(last)] = value
    elif isinstance(data, dict):
        data[last] = value
    else:
        raise RecipeError(f"--set {key}: there is nothing at '{last}'")


def _told(problems: Sequence[Any]) -> list[str]:
    """The problems in words, those of one key joined; a key is left out where a deeper one is told."""
    told: dict[tuple[Any, ...], tuple[list[str], str]] = {}
    for problem in problems:
        # A union of types adds the tried type's name to the place; only what is in the recipe is shown.
        place = tuple(part for part in problem["loc"] if not _is_type_name(part))
        wanted, found = _wanted(problem, place)
        told.setdefault(place, ([], found))[0].append(wanted)
    lines = []
    for place, (wanted_all, found) in told.items():
        if not any(len(other) > len(place) and other[: len(place)] == place for other in told):
            lines.append(f"{dotted(place) or 'recipe'}: {' or '.join(dict.fromkeys(wanted_all))}{found}")
    return sorted(lines)


def _wanted(problem: Any, place: tuple[Any, ...]) -> tuple[str, str]:
    if problem["type"] == "extra_forbidden":
        return f"unknown key{nearest(str(place[-1]), _known(place[:-1]))}", ""
    if problem["type"] == "missing":
        return "missing", ""
    wanted = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    wanted = {"dictionary or instance of NormalizationSpec": "mean and std"}.get(wanted, wanted)
    return f"expected {wanted}", f", found {describe(problem['input'])}"


def _is_type_name(part: Any) -> bool:
    names = {"bool", "int", "float", "str", "none", "constrained-int", "constrained-float", "finite-float"}
    return isinstance(part, str) and (
        part in names
        or part.endswith("Spec")
        or part.startswith(("list[", "dict[", "literal[", "constrained", "union["))
    )


def _known(place: tuple[Any, ...]) -> list[str]:
    """The keys that the schema knows at a place."""
    schema = RecipeSpec.model_json_schema()
    parts = schema["$defs"]
    here: Any = schema
    for part in place:
        options = [here.get("properties", {}).get(part, {}) if isinstance(part, str) else here.get("items", {})]
        options += options[0].get("anyOf", [])
        reference = next((one["$ref"] for one in options if "$ref" in one), None)
        if reference is None:
            here = next((one for one in options if "items" in one), {})
            continue
        here = parts[reference.rpartition("/")[2]]
    return list(here.get("properties", {}))
