"""Terms from a recipe's plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.errors import RecipeError, nearest
from limbeck.losses import TABLE, cross_entropy
from limbeck.objective.terms import Term, make, number

OWN = "user/"  # before the names of the user's own losses
BALANCE = "balance"  # a key of an objective that is no term
OF_A_TERM = ("weight", "loss", "at", "adapter", "schedule")


def from_plain(recipe: Mapping[str, Any], user: Mapping[str, Any] | None = None) -> list[Term]:
    """The terms that a recipe names, see :meth:`limbeck.objective.Objective.from_recipe`.

    Raises:
        RecipeError: naming the key that is wrong and the nearest right one.

    Example:
        >>> from_plain({"soft": {"loss": "kl", "temperature": 2}})[0].hyper
        {'temperature': 2.0}
    """
    terms = []
    for name, value in recipe.items():
        settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
        loss = _found(str(name), settings.pop("loss", name), user or {})
        read = {key: settings.pop(key, None) for key in ("at", "adapter", "schedule")}
        weight = number(f"{name}.weight", settings.pop("weight"), least=0.0) if "weight" in settings else None
        terms.append(make(loss, weight, str(name), settings, **read))
    return terms


def _found(name: str, loss: Any, user: Mapping[str, Any]) -> Any:
    known = {"supervised": cross_entropy, **TABLE, **{f"{OWN}{key}": one for key, one in user.items()}}
    if loss in known:
        return known[loss]
    what = f"term '{name}'" if loss == name else f"loss '{loss}'"
    cure = f"known: {', '.join(known)}"
    if str(loss).startswith(OWN):
        own = [f"{OWN}{key}" for key in user]
        cure = f"known: {', '.join(own)}" if own else "give the file that defines it with --models FILE"
    raise RecipeError(f"objective has no {what}{nearest(str(loss), known)}", cure=cure)
