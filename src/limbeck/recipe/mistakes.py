"""Mistakes in a recipe, told to its author: key, expected against found, and the nearest right name."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from limbeck import losses
from limbeck.errors import RecipeError, nearest
from limbeck.objective import Objective
from limbeck.objective.plain import BALANCE, OF_A_TERM, OWN
from limbeck.objective.signatures import EMPTY, hyperparameters
from limbeck.recipe.reading import Key, describe, dotted
from limbeck.recipe.types import TAGS

SHOWN = 20
# Pydantic's words, and a recipe's.
_PLAIN = {
    r"^Input should (be|have) (a valid )?": "expected ",
    r"expected (dictionary|object).*": "expected a mapping from key to value",
    r"expected string": "expected text",
    r"expected integer": "expected a whole number",
    r"expected (number|list|boolean)": r"expected a \1",
    r"greater than or equal to": "at least",
    r"less than or equal to": "at most",
    r"greater than": "more than",
}


@dataclass(frozen=True)
class Mistake:
    """One mistake: where, and what is wrong with it."""

    key: Key
    text: str


def answer(mistakes: Sequence[Mistake], where: str, lines: Mapping[Key, int], settings: Iterable[Key]) -> RecipeError:
    """The error that lists all mistakes, each with its file and line, or the setting that it came from."""
    settings = list(settings)
    told = []
    for mistake in mistakes[:SHOWN]:
        set_by = next((key for key in settings if mistake.key[: len(key)] == key[: len(mistake.key)]), None)
        line = next((lines[key] for key in _outward(mistake.key) if key in lines), None) if mistake.key else None
        prefix = f"--set {dotted(set_by)}: " if set_by else f"line {line}: " if line else ""
        place = f"{dotted(mistake.key)}: " if mistake.key and mistake.key != set_by else ""
        told.append(f"{prefix}{place}{mistake.text}")
    if len(mistakes) > SHOWN:
        told.append(f"and {len(mistakes) - SHOWN} more")
    if len(told) == 1:
        return RecipeError(f"{where}: {told[0]}")
    return RecipeError(f"{where}: {len(mistakes)} mistakes\n  " + "\n  ".join(told))


def from_pydantic(error: ValidationError, root: type[BaseModel]) -> list[Mistake]:
    """Pydantic's list of errors in the words of a recipe."""
    mistakes = []
    for item in error.errors(include_url=False):
        key = tuple(part for part in item["loc"] if part not in TAGS)
        mistakes.append(Mistake(key, _text(item, key, root)))
    return mistakes


def _text(item: Any, key: Key, root: type[BaseModel]) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        return f"unknown key{_nearest_key(key, root)}"
    if kind == "missing":
        return "this key is needed"
    message = item["msg"]
    for pattern, plain in _PLAIN.items():
        message = re.sub(pattern, plain, message)
    near = ""
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        near = nearest(str(value)[:60], options)
    message = message[0].lower() + message[1:]
    if kind == "expected" and ("found" in message or isinstance(value, dict)):
        return message
    return f"{message}, found {describe(value)}{near}"


def _nearest_key(key: Key, root: type[BaseModel]) -> str:
    name = str(key[-1])[:80]
    known = list(_model_at(key[:-1], root).model_fields)
    near = nearest(name, known)
    if near:
        return near
    elsewhere = [dotted(path) for path in _all_keys(root) if path[-1] == name]
    if elsewhere:
        return f"; did you mean '{' or '.join(elsewhere[:2])}'?".replace(" or ", "' or '")
    return f"; the keys here are {', '.join(known)}"


def _model_at(key: Key, root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for part in key:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner(model.model_fields[part].annotation) or model
    return model


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_inner, typing.get_args(annotation)) if found), None)


def _all_keys(model: type[BaseModel], above: Key = ()) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        inner = _inner(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, (*above, name))


def _outward(key: Key) -> Iterator[Key]:
    for length in range(len(key), 0, -1):
        yield key[:length]


def term_parameters() -> dict[str, dict[str, bool]]:
    """Every term that a recipe may name, with its hyperparameters: name -> {parameter: needed}.

    Example:
        >>> term_parameters()["kl"]["temperature"]
        False
    """
    table = {"supervised": losses.cross_entropy, **losses.TABLE}
    return {
        name: {key: one.default is EMPTY for key, one in hyperparameters(loss).items()} for name, loss in table.items()
    }


def objective_mistakes(objective: Any) -> list[Mistake]:
    """Mistakes in the terms of an objective, against the one table of losses.

    The user's own losses, ``user/NAME``, are not known before their file is read.
    """
    if not isinstance(objective, dict) or not objective:
        return []  # absent, or the schema's answer
    terms = term_parameters()
    mistakes: list[Mistake] = []
    for name, value in objective.items():
        key: Key = ("objective", name)
        loss = value.get("loss", name) if isinstance(value, dict) else name
        if name == BALANCE or str(loss).startswith(OWN):
            continue
        if not isinstance(loss, str) or loss not in terms:
            near = nearest(str(loss)[:60], [*terms, BALANCE]) or f"; the terms are {', '.join(sorted(terms))}"
            mistakes.append(Mistake(key if loss == name else (*key, "loss"), f"unknown term{near}"))
        elif isinstance(value, dict):
            mistakes += _term_mistakes(key, value, terms[loss])
        elif not _is_weight(value):
            mistakes.append(Mistake(key, f"expected a weight of 0 or more, or a mapping, found {describe(value)}"))
    return mistakes or _of_the_whole(objective)


def _of_the_whole(objective: dict[str, Any]) -> list[Mistake]:
    """What only the objective knows: the ranges of hyperparameters, layers, schedules, shares."""

    def own(value: Any) -> bool:
        return isinstance(value, dict) and str(value.get("loss", "")).startswith(OWN)

    known = {name: value for name, value in objective.items() if not name.startswith(OWN) and not own(value)}
    if len(known) < len(objective):
        known.pop(BALANCE, None)  # of terms that are not known yet
        if not known:
            return []
    try:
        needs = Objective.from_recipe(known).needs_teacher
    except RecipeError as error:
        return [Mistake(("objective",), error.what.removeprefix("objective."))]
    if needs or len(known) < len(objective):
        return []
    text = "expected a term that compares with the teacher, such as kl: {weight: 0.9, temperature: 4}"
    return [Mistake(("objective",), text)]


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e9


def _term_mistakes(key: Key, settings: dict[str, Any], parameters: dict[str, bool]) -> Iterator[Mistake]:
    known = [*OF_A_TERM, *parameters]
    for name, value in settings.items():
        if name not in known:
            near = nearest(name[:60], known) or f"; the keys here are {', '.join(known)}"
            yield Mistake((*key, name), f"unknown key{near}")
        elif isinstance(value, int | float) and not abs(value) <= 1e15:
            yield Mistake((*key, name), f"expected a finite number, found {value}")
        elif name == "weight" and not _is_weight(value):
            yield Mistake((*key, name), f"expected a weight of 0 or more, found {describe(value)}")
    for name, needed in parameters.items():
        if needed and name not in settings:
            yield Mistake((*key, name), "this key is needed")
