"""The terms of a training's objective over its epochs: weighted values, weights, and shares of the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from limbeck.objective.words import layers_of, loss_of, schedule_of, shares_of, terms_of
from limbeck.report.numbers import DASH, percent
from limbeck.report.read import Found

MOST_EPOCHS = 24  # rows of numbers; of more epochs some are left out
Series = dict[str, list[float | None]]


@dataclass(frozen=True)
class Terms:
    """What the journal of one training says of its terms; None where it says nothing.

    Args:
        role: of the model that was trained.
        seed: of the training.
        epochs: their numbers.
        weights: by term and epoch, at the epoch's end.
        values: by term and epoch, the mean of the epoch times that weight.
        shares: by term and epoch, the norm of its gradient over the sum of all.
    """

    role: str
    seed: int
    epochs: list[int]
    weights: Series
    values: Series
    shares: Series

    @property
    def names(self) -> list[str]:
        """The terms, in the objective's order."""
        return list(self.weights)

    @property
    def looked(self) -> bool:
        """Whether the gradient of the terms was ever looked at."""
        return any(one is not None for values in self.shares.values() for one in values)

    @property
    def moving(self) -> bool:
        """Whether a weight changes."""
        return any(len(set(values)) > 1 for values in self.weights.values())

    def among(self, names: Mapping[str, Any]) -> dict[str, float | None]:
        """The median over epochs of each term's share, of the gradients of these terms alone."""
        found: dict[str, list[float]] = {name: [] for name in names}
        for place in range(len(self.epochs)):
            now = {name: self.shares[name][place] or 0.0 for name in names if name in self.shares}
            total = sum(now.values())
            for name, one in now.items() if total else ():
                found[name].append(one / total)
        return {name: median(values) if values else None for name, values in found.items()}


def trainings(found: Found) -> list[Terms]:
    """The student's training of the seed that ships, and one of each other role with several terms."""
    ones = [_read(found, role) for role in found.curves]
    kept = [one for one in ones if one is not None and (one.role == "student" or len(one.names) > 1)]
    return sorted(kept, key=lambda one: one.role != "student")


def rows(found: Found, terms: Terms) -> list[dict[str, Any]]:
    """What each term is, and what became of its weight and its share."""
    plain, wanted = terms_of(_objective(found)), declared(found, terms)
    shares, balanced = terms.among(terms.weights), terms.among(wanted)
    layers = _layers(found, terms)
    told = []
    for name in terms.names:
        one = plain.get(name, {})
        weights = [value for value in terms.weights[name] if value is not None]
        told.append(
            {
                "name": name,
                "loss": loss_of(name, one),
                "layers": layers.get(name) or [(words, _adapter(one)) for words in layers_of(name, one)],
                "schedule": schedule_of(one) or DASH,
                "weights": [_short(value) for value in (one.get("weight"), *(weights[:1] + weights[-1:]))],
                "share": percent(shares[name], 1),
                "declared": percent(wanted.get(name), 1),
                "reached": percent(balanced.get(name), 1),
            }
        )
    return told


def declared(found: Found, terms: Terms) -> dict[str, float]:
    """The shares of the gradient that the objective declares for these terms; none where it balances nothing."""
    shares = shares_of(_objective(found))
    return shares if all(name in terms.names for name in shares) else {}  # else they are of another model's objective


def seed_of(found: Found, role: str) -> int:
    """The seed of a role that is told of: the one that ships, or its first."""
    seeds, shipped = found.curves[role], found.summary.get("shipped_seed")
    return shipped if shipped in seeds else next(iter(seeds))


def numbers(terms: Terms) -> list[tuple[int, list[tuple[str, str, str]]]]:
    """By epoch each term's weighted value, weight and share; of many epochs some, the first and the last among them."""
    last = len(terms.epochs) - 1
    kept = range(last + 1)
    if last >= MOST_EPOCHS:
        kept = sorted({round(number * last / (MOST_EPOCHS - 1)) for number in range(MOST_EPOCHS)})  # type: ignore[assignment]
    return [
        (
            terms.epochs[at],
            [
                (_short(terms.values[n][at]), _short(terms.weights[n][at]), percent(terms.shares[n][at], 1))
                for n in terms.names
            ],
        )
        for at in kept
    ]


def _read(found: Found, role: str) -> Terms | None:
    seed = seed_of(found, role)
    lines = [line for line in found.curves[role][seed] if isinstance(line["train"].get("weights"), dict)]
    if not lines:
        return None
    weights: Series = {name: [] for name in lines[-1]["train"]["weights"]}
    values: Series = {name: [] for name in weights}
    shares: Series = {name: [] for name in weights}
    for line in lines:
        own, means, norms = (line["train"].get(key) or {} for key in ("weights", "terms", "gradient"))
        total = sum(_number(norms.get(name)) or 0.0 for name in weights)
        for name in weights:
            weight, mean, norm = (_number(one.get(name)) for one in (own, means, norms))
            weights[name].append(weight)
            values[name].append(None if weight is None or mean is None else weight * mean)
            shares[name].append(None if norm is None or not total else norm / total)
    return Terms(role, seed, [line["epoch"] for line in lines], weights, values, shares)


def _objective(found: Found) -> Any:
    return found.summary.get("objective") or found.run["recipe"].get("objective")


def _layers(found: Found, terms: Terms) -> dict[str, list[tuple[str, str]]]:
    """By term the pairs of layers that were read in that training, and what brought them to one shape."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for name, teacher, student, how in found.beside.get((terms.role, terms.seed), {}).get("layers", []):
        pairs.setdefault(name, []).append((f"{teacher} → {student}", how))
    return pairs


def _adapter(one: Mapping[str, Any]) -> str:
    return f"adapter {one['adapter']}" if one.get("adapter") else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _short(value: Any) -> str:
    number = _number(value)
    return DASH if number is None else f"{number:.4g}"
