"""Terms: one loss each, with its weight and its hyperparameters checked before anything is computed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal

from torch import Tensor, nn

from limbeck.errors import RecipeError, nearest
from limbeck.losses import TABLE, cross_entropy, declared
from limbeck.losses import hard_labels as _hard_labels
from limbeck.losses.declare import Compares
from limbeck.objective.foreign import guarded, source
from limbeck.objective.links import Gather, Link
from limbeck.objective.places import Places, places
from limbeck.objective.schedule import Schedule
from limbeck.objective.signatures import EMPTY, built, called, hyperparameters
from limbeck.outputs import Outputs

BALANCED = "balanced"  # class weights that wait for the labels, see Objective.resolved
Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Term:
    """One loss with its weight and hyperparameters; made by :func:`term`, :func:`supervised`, :func:`hard_labels`.

    ``at``, ``adapter`` and ``schedule`` are as of :func:`term`. ``links`` are the calls of the loss, once it is known
    what the models' layers give, see :func:`limbeck.objective.binding.bind`; none: one call with the logits.
    """

    name: str
    loss: Loss
    weight: float
    hyper: Mapping[str, Any] = field(default_factory=dict)
    at: Places | None = None
    adapter: str | nn.Module | None = None
    schedule: Schedule | None = None
    links: tuple[Link, ...] = ()

    @cached_property
    def declared(self) -> Mapping[str, inspect.Parameter]:
        """The parameters that a call of the loss takes."""
        return called(self.loss)

    @property
    def compares(self) -> Compares:
        """What the loss says that it compares."""
        return declared(self.loss)

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss compares with a teacher."""
        return "teacher" in self.declared

    @property
    def needs_label(self) -> bool:
        """Whether the loss can not do without a label (its ``target`` has no default): the rest is not counted."""
        return "target" in self.declared and self.declared["target"].default is EMPTY

    @property
    def place(self) -> Places:
        """Where it reads: a site, or pairs of layers (teacher's, student's)."""
        return self.compares.site if self.at is None else self.at

    @property
    def foreign(self) -> bool:
        """Whether the loss is none of limbeck's, so that it may still fail."""
        return not any(self.loss is one for one in TABLE.values())

    @property
    def waits(self) -> bool:
        """Whether it must be bound to models before it can be computed."""
        features = self.place != "logits" or self.compares.site != "logits"
        return not self.links and (features or isinstance(self.loss, nn.Module) or built(self.loss))

    @property
    def reads(self) -> Literal["nothing", "largest", "groups", "all"]:
        """What of the teacher's logits it has to be given: which is the largest, groups of classes, or all."""
        says = self.compares
        if not self.needs_teacher or self.place != "logits":
            return "nothing"
        if says.largest:
            return "largest"
        # A label's class may be one of the rest; standardized logits depend on the spread of all.
        whole = "target" in self.declared or self.settings.get("standardize") or not says.grouped
        return "all" if whole else "groups"

    @property
    def temperature(self) -> float:
        """At which it softens logits; 1 if the loss says nothing of it."""
        return float(self.settings.get("temperature", 1.0))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All hyperparameters, those left at the loss's default too."""
        known = {key: one.default for key, one in hyperparameters(self.loss).items()}
        return {key: value for key, value in known.items() if value is not EMPTY} | dict(self.hyper)

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs | None,
        *,
        target: Tensor | None = None,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        """The loss, not reduced; of several links the sum."""
        if self.place != "logits" and mask is not None and mask.ndim > 1:  # features have places of their own
            mask = mask.flatten(1).any(1) if self.compares.site != "logits" else None
        given: dict[str, Any] = {"target": target, "index": index, "mask": mask, "gather": gather}
        if self.hyper.get("class_weights") == BALANCED:
            raise RecipeError(
                f"term '{self.name}' has balanced class weights and has not seen the labels",
                cure="call Objective.resolved(targets, classes) first",
            )
        if self.needs_label and target is None:
            raise RecipeError(f"term '{self.name}' needs labels and there are none")
        if self.needs_teacher and teacher is None:
            raise RecipeError(f"term '{self.name}' needs a teacher and there is none")
        if self.waits and (self.place != "logits" or built(self.loss)):
            raise RecipeError(
                f"term '{self.name}' does not know its layers yet",
                cure="bind the objective to its models first: limbeck.objective.bind",
            )
        arguments = {key: value for key, value in given.items() if key in self.declared}
        if not built(self.loss):
            arguments |= self.hyper
        heard = teacher if self.needs_teacher else None
        if heard is not None and heard.top is not None and self.reads == "all":
            raise needs_all(self, heard.logits.shape[1], heard.top.ids.shape[1])

        def computed() -> Tensor:
            links = self.links or (Link(self.loss),)
            values = [link(student, heard, arguments, temperature=self.temperature, gather=gather) for link in links]
            return sum(values[1:], values[0])

        return guarded(self.name, computed, student.logits) if self.foreign else computed()


def term(
    loss: Loss | str,
    weight: float | None = None,
    *,
    at: Any = None,
    adapter: str | nn.Module | None = None,
    schedule: Schedule | Mapping[str, Any] | None = None,
    name: str | None = None,
    **hyper: Any,
) -> Term:
    """A term of an objective: a loss with its weight and hyperparameters, checked here.

    What the loss's signature declares decides what it is given: ``teacher`` makes it a term that needs a teacher,
    ``target`` without a default one that counts labeled samples only, ``temperature`` lets it see an ensemble's mean
    softened probability at that temperature.

    Args:
        loss: a function or module ``loss(student, teacher, *, target, index, mask, …)`` that declares what it uses and
            returns ``[B]``, ``[B, H, W]`` or a scalar; or the name of one in ``limbeck.losses``.
        weight: factor on the term, ≥ 0; the published one by default.
        at: layers that are compared: one address for both models, a pair (teacher's, student's), a list of pairs, a
            mapping ``{"teacher": …, "student": …}``, or a site such as ``pooled``; by default the loss's own site,
            found in the models. Addresses: see :class:`limbeck.taps.Tap`.
        adapter: what brings the student's features to the teacher's shape: ``auto``, a kind, ``none``, or a module
            ``(student, teacher) -> (student, teacher)``; by default ``auto`` where the loss needs one shape.
        schedule: of the weight, see :class:`limbeck.objective.schedule.Schedule`.
        name: the term's name in logs; the function's by default.
        hyper: the loss's hyperparameters.

    Raises:
        RecipeError: if the loss, a hyperparameter or a value is not known or not possible.

    Example:
        >>> term("kl", 0.9, temperature=2.0).hyper
        {'temperature': 2.0}
        >>> term("kl", at=("layer3", "blocks.2"), schedule={"warmup": 20}).at
        (('layer3', 'blocks.2'),)
    """
    if isinstance(loss, str):
        if loss not in TABLE:
            raise RecipeError(f"there is no loss '{loss}'{nearest(loss, TABLE)}", cure=f"known: {', '.join(TABLE)}")
        loss = TABLE[loss]
    own = next((key for key, one in TABLE.items() if one is loss), None)
    name = name or own or str(getattr(loss, "__name__", type(loss).__name__))
    return make(loss, weight, name, hyper, at=at, adapter=adapter, schedule=schedule)


def make(
    loss: Loss,
    weight: Any,
    name: str,
    hyper: Mapping[str, Any],
    *,
    at: Any = None,
    adapter: Any = None,
    schedule: Any = None,
) -> Term:
    """:func:`term` for hyperparameters of any name, such as a recipe's."""
    signature = called(loss)
    if next(iter(signature), None) != "student":
        raise RecipeError(
            f"loss '{name}' takes ({', '.join(signature)}); its first parameter must be 'student'",
            cure="write loss(student, teacher, *, target, …) with the parameters that it uses",
        )
    known = {key: one.default for key, one in hyperparameters(loss).items()}
    checked = {}
    for key, value in hyper.items():
        if key not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise RecipeError(f"loss '{name}' has no hyperparameter '{key}'{nearest(str(key), known)}", cure=takes)
        checked[key] = _checked(f"{name}.{key}", key, value, known[key])
    missing = [key for key, default in known.items() if default is EMPTY and key not in checked]
    if missing:
        raise RecipeError(f"loss '{name}' needs {', '.join(missing)}", cure=f"give it as {missing[0]}=…")
    if adapter is not None and not isinstance(adapter, str | nn.Module):
        raise RecipeError(f"objective.{name}.adapter is {adapter!r}, expected a kind of adapter, or a module")
    weight = number(f"{name}.weight", declared(loss).weight if weight is None else weight, least=0.0)
    try:
        plan = Schedule.of(schedule)
    except RecipeError as error:
        raise RecipeError(f"objective.{name}.{error.what}", cure=error.cure) from None
    return Term(name, loss, weight, checked, places(name, at), adapter, plan)


def supervised(
    weight: float = 1.0, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | Tensor | str | None = None
) -> Term:
    """The term that learns from labels: :func:`limbeck.losses.cross_entropy`, averaged over the labeled samples.

    Args:
        weight: factor on the term, ≥ 0.
        label_smoothing: share taken from the label and spread over all classes, in [0, 1).
        class_weights: one factor for each class, their mean over the samples should be 1; or ``balanced``: inversely
            to how many training samples a class has, see :meth:`Objective.resolved`.

    Example:
        >>> supervised(0.1).weight
        0.1
    """
    return term(cross_entropy, weight, name="supervised", label_smoothing=label_smoothing, class_weights=class_weights)


def hard_labels(weight: float = 1.0, **hyper: Any) -> Term:
    """The term of the second control: :func:`limbeck.losses.hard_labels`, averaged over all samples.

    Args:
        weight: factor on the term, ≥ 0.
        hyper: ``label_smoothing``, ``class_weights``.

    Example:
        >>> hard_labels().needs_teacher, hard_labels().needs_label
        (True, False)
    """
    return term(_hard_labels, weight, **hyper)


def needs_all(one: Term, classes: int, top: int) -> RecipeError:
    """That a term's loss can not be computed from a teacher's largest logits."""
    standardized = one.compares.grouped and one.settings.get("standardize")
    why = "with standardize: true " if standardized else ""
    largest = "largest" if top == 1 else f"{top} largest"
    return RecipeError(
        f"term '{one.name}' {why}needs the teacher's logits of all {classes} classes, and the {largest} of each sample "
        "are kept",
        cure=f"keep all of them with top: 0, or use kl{' as it is' if standardized else ''}",
    )


def described(one: Term) -> dict[str, Any]:
    """A term in plain data: what a recipe says of it, defaults included."""
    own = next((name for name, loss in TABLE.items() if loss is one.loss), None)
    implied = one.name == own or (one.name == "supervised" and one.loss is cross_entropy)
    named = {} if implied else {"loss": own} if own else {"loss": _plain(one.loss), **source(one.loss)}
    read = {"at": one.at, "adapter": one.adapter, "schedule": one.schedule and one.schedule.to_recipe()}
    told = {**{key: value for key, value in read.items() if value}, **one.settings}
    return {**named, "weight": one.weight, **{key: _plain(value) for key, value in told.items()}}


def number(name: str, value: Any, *, least: float, most: float = math.inf, open_: bool = False) -> float:
    """A finite number of a recipe, in its range (``open_``: the ends are not part of it).

    Raises:
        RecipeError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise RecipeError(f"objective.{name} is {value!r}, expected a finite number")
    found = float(value)
    if not (least < found < most if open_ else least <= found <= most):
        low = f"above {least:g}" if open_ else f"of at least {least:g}"
        high = f" and {'below' if open_ else 'at most'} {most:g}" if most < math.inf else ""
        raise RecipeError(f"objective.{name} is {value}, expected a number {low}{high}")
    return found


def _checked(name: str, key: str, value: Any, default: Any) -> Any:
    """A hyperparameter's value, in the range of those that several losses share, else of its default's type."""
    if key == "temperature":
        return number(name, value, least=0.0, open_=True)
    if key == "label_smoothing":
        found = number(name, value, least=0.0, most=1.0)
        return found if found < 1 else number(name, value, least=0.0, most=1.0, open_=True)
    if key == "class_weights" and value is not None:
        return _weights(name, value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise RecipeError(f"objective.{name} is {value!r}, expected true or false")
    elif isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise RecipeError(f"objective.{name} is {value!r}, expected a whole number")
        return int(value)
    elif isinstance(default, float):
        return number(name, value, least=-math.inf)
    return value


def _weights(name: str, value: Any) -> tuple[float, ...] | str:
    if isinstance(value, str) and value == BALANCED:
        return value
    listed = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(listed, list | tuple) or not listed:
        near = nearest(str(value)[:60], [BALANCED])
        raise RecipeError(
            f"objective.{name} is {value!r}, expected a list of one number for each class or balanced{near}"
        )
    found = tuple(number(f"{name}[{place}]", one, least=0.0) for place, one in enumerate(listed))
    if not any(found):
        raise RecipeError(f"objective.{name} holds only zeros: nothing would be learned from labels")
    return found


def _plain(value: Any) -> Any:
    """JSON's types; for anything else the name of what it is, which does not change between processes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
