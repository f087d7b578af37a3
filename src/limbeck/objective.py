"""The objective: a named, weighted list of terms, and the only place where anything is reduced to a scalar."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import NumericsError, RecipeError, nearest
from limbeck.losses import TABLE, cross_entropy, hard
from limbeck.outputs import Outputs

Loss = Callable[..., Tensor]
_GIVEN = frozenset({"student", "teacher", "target", "index", "mask"})


@dataclass(frozen=True)
class Term:
    """One loss with its weight and hyperparameters; made by :func:`term` or :func:`supervised`."""

    name: str
    loss: Loss
    weight: float
    hyper: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def declared(self) -> frozenset[str]:
        """The parameters that the loss's signature declares."""
        return frozenset(inspect.signature(self.loss).parameters)

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss compares with a teacher."""
        return "teacher" in self.declared

    @property
    def needs_label(self) -> bool:
        """Whether samples without a label are left out of the mean."""
        return "target" in self.declared and not self.needs_teacher

    def __call__(
        self, student: Outputs, teacher: Outputs | None, target: Tensor | None, index: Tensor | None
    ) -> Tensor:
        """The loss, not reduced."""
        given: dict[str, Any] = {"target": target, "index": index}
        arguments: list[Tensor] = [student.logits]
        if self.needs_teacher:
            if teacher is None:
                raise RecipeError(f"term '{self.name}' needs a teacher and there is none")
            arguments.append(teacher.logits_at(self._temperature))
        return self.loss(*arguments, **{key: given[key] for key in given if key in self.declared}, **self.hyper)

    @property
    def _temperature(self) -> float:
        if "temperature" not in self.declared:
            return 1.0
        default = inspect.signature(self.loss).parameters["temperature"].default
        return float(self.hyper.get("temperature", default))


def term(loss: Loss | str, weight: float = 1.0, *, name: str | None = None, **hyper: Any) -> Term:
    """A term of an objective: a loss with its weight and hyperparameters, checked here.

    Args:
        loss: a function ``loss(student, teacher, *, target, index, …)`` that declares what it uses, or the name of one
            in ``limbeck.losses``.
        weight: factor on the term, ≥ 0.
        name: the term's name in logs; the function's by default.
        hyper: the loss's hyperparameters.

    Raises:
        RecipeError: if the loss, a hyperparameter or a value is not known or not possible.

    Example:
        >>> term("kl", 0.9, temperature=2.0).hyper
        {'temperature': 2.0}
    """
    if isinstance(loss, str):
        if loss not in TABLE:
            raise RecipeError(f"there is no loss '{loss}'{nearest(loss, TABLE)}", cure=f"known: {', '.join(TABLE)}")
        loss = TABLE[loss]
    name = name or getattr(loss, "__name__", type(loss).__name__)
    known = set(inspect.signature(loss).parameters) - _GIVEN
    for key in hyper:
        if key not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise RecipeError(f"loss '{name}' has no hyperparameter '{key}'{nearest(key, known)}", cure=takes)
    _check_number(f"{name}.weight", weight, least=0.0)
    if "temperature" in hyper:
        _check_number(f"{name}.temperature", hyper["temperature"], least=1e-6)
    if "label_smoothing" in hyper:
        _check_number(f"{name}.label_smoothing", hyper["label_smoothing"], least=0.0, most=0.999)
    return Term(name, loss, float(weight), dict(hyper))


def supervised(
    weight: float = 1.0, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Term:
    """The term that learns from labels: :func:`limbeck.losses.cross_entropy`, averaged over the labeled samples.

    Example:
        >>> supervised(0.1).weight
        0.1
    """
    return term(cross_entropy, weight, name="supervised", label_smoothing=label_smoothing, class_weights=class_weights)


class Objective:
    """A weighted sum of terms, each the mean of its loss over the samples that count for it.

    Args:
        terms: what :func:`supervised` and :func:`term` give, in order; names must differ.

    Example:
        >>> objective = Objective([supervised(0.1), term("kl", 0.9, temperature=4.0)])
        >>> z = Outputs(torch.zeros(2, 3))
        >>> total, parts = objective(z, z, target=torch.tensor([0, -1]))
        >>> round(total.item(), 4), {name: round(value.item(), 4) for name, value in parts.items()}
        (0.1099, {'supervised': 1.0986, 'kl': 0.0})
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        if not terms:
            raise RecipeError("an objective needs a term", cure="give limbeck.supervised() or limbeck.term(...)")
        names = [term.name for term in terms]
        for name in names:
            if names.count(name) > 1:
                raise RecipeError(f"two terms are called '{name}'", cure="give one of them another name=")
        if not any(term.weight for term in terms):
            raise RecipeError("every term has weight 0: nothing would be learned")
        self.terms = tuple(terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(term.needs_teacher for term in self.terms)

    def counts(self, target: Tensor) -> dict[str, Tensor]:
        """How many elements count for each term, over a whole batch that is then computed in pieces.

        Args:
            target: int64 labels of the whole batch.
        """
        labeled, all_ = (target >= 0).sum(), torch.tensor(target.numel())
        return {term.name: labeled if term.needs_label else all_ for term in self.terms}

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs | None,
        *,
        target: Tensor | None = None,
        index: Tensor | None = None,
        counts: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's value and each term's own, unweighted and detached.

        Args:
            student: outputs with a graph.
            teacher: outputs of the teacher, or None if no term needs it.
            target: int64 labels, -1 for none.
            index: int64 addresses of the samples.
            counts: denominators from :meth:`counts` when this is a piece of a batch; the pieces' values then sum to the
                batch's.

        Raises:
            NumericsError: if a term is not finite, naming term and samples.
        """
        values: dict[str, Tensor] = {}
        total: Tensor | None = None
        for one in self.terms:
            values[one.name] = value = self._mean(one, student, teacher, target, index, counts)
            weighted = value * one.weight
            total = weighted if total is None else total + weighted
        if total is None or not bool(torch.isfinite(total.detach())):
            self._blame(student, teacher, target, index)
        return total, {name: value.detach() for name, value in values.items()}  # type: ignore[return-value]

    def _mean(
        self,
        one: Term,
        student: Outputs,
        teacher: Outputs | None,
        target: Tensor | None,
        index: Tensor | None,
        counts: Mapping[str, Tensor] | None,
    ) -> Tensor:
        value = one(student, teacher, target, index)
        if value.ndim == 0:  # a relational loss is a mean by itself: a piece of a batch has its share of it
            if counts is None:
                return value
            return value * (len(student.logits) / counts[one.name].to(value))
        if counts is not None:
            return value.sum() / counts[one.name].to(value).clamp(min=1)
        if one.needs_label and target is not None:
            return value.sum() / (target >= 0).sum().clamp(min=1)
        return value.mean()

    def _blame(self, student: Outputs, teacher: Outputs | None, target: Tensor | None, index: Tensor | None) -> None:
        bad = {
            name: _bad_rows(outputs.logits) for name, outputs in (("student", student), ("teacher", teacher)) if outputs
        }
        side = next((f"the {name}'s logits are" for name, rows in bad.items() if rows), "the loss itself is")
        for one in self.terms:
            value = one(student, teacher, target, index).detach()
            if bool(torch.isfinite(value).all()):
                continue
            rows = _bad_rows(value) if value.ndim else list(range(len(student.logits)))
            names = rows if index is None else index.cpu()[rows].tolist()
            raise NumericsError(
                f"term '{one.name}' is not finite for {len(rows)} of {len(student.logits)} samples "
                f"(samples {', '.join(map(str, names[:8]))}{'…' if len(names) > 8 else ''}); {side} not finite",
                cure="look at these samples' inputs; else lower the rate, set clip: 1.0, or precision: fp32",
            )
        raise NumericsError("the sum of the terms overflows", cure="lower the terms' weights")

    def without_teacher(self) -> Objective:
        """The control's objective: the teacher's terms removed, weight 1 on the labels."""
        kept = [Term(one.name, one.loss, 1.0, one.hyper) for one in self.terms if one.needs_label]
        return Objective(kept or [supervised(1.0)])

    def with_hard_labels(self) -> Objective:
        """The second control's objective: labels where there are some, else the teacher's most probable class."""
        return Objective([term(hard, 1.0, name="hard_labels")])

    @classmethod
    def of(cls, value: Objective | Sequence[Term] | Mapping[str, Any] | None) -> Objective:
        """An objective from terms or a recipe's mapping; None gives 0.1 supervised + 0.9 kl at temperature 4."""
        if isinstance(value, Objective):
            return value
        if value is None:
            return cls([supervised(0.1), term("kl", 0.9, temperature=4.0)])
        return cls.from_recipe(value) if isinstance(value, Mapping) else cls(list(value))

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Objective:
        """An objective from ``{"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4}}``.

        Raises:
            RecipeError: naming the key that is wrong and the nearest right one.

        Example:
            >>> [one.name for one in Objective.from_recipe({"supervised": 0.1, "kl": 0.9}).terms]
            ['supervised', 'kl']
        """
        terms = []
        for name, value in recipe.items():
            settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
            weight = settings.pop("weight", 1.0)
            if name == "supervised":
                terms.append(term(cross_entropy, weight, name=name, **settings))
            elif name in TABLE:
                terms.append(term(name, weight, **settings))
            else:
                known = ["supervised", *TABLE]
                raise RecipeError(
                    f"objective has no term '{name}'{nearest(name, known)}", cure=f"known: {', '.join(known)}"
                )
        return cls(terms)

    def to_recipe(self) -> dict[str, Any]:
        """What :meth:`from_recipe` reads; a user's own loss is named only."""
        return {one.name: {"weight": one.weight, **one.hyper} for one in self.terms}


def _bad_rows(value: Tensor) -> list[int]:
    flat = value.detach().reshape(len(value), -1)
    return (~torch.isfinite(flat).all(dim=1)).nonzero().flatten().tolist()


def _check_number(name: str, value: Any, *, least: float, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(f"objective.{name} is {value!r}, expected a number")
    if not least <= value <= most:
        raise RecipeError(f"objective.{name} is {value}, expected a number of at least {least:g}")
