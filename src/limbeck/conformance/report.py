"""The conformance suite as a whole: one line takes any loss through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.conformance import compiled, extremes, gradients, grouping, parts, symmetries, values
from limbeck.conformance.subject import Broken, Subject
from limbeck.errors import ConformanceError

Check = Callable[[Subject], Iterator[str]]
_THEMES = (values, gradients, extremes, parts, symmetries, grouping, compiled)
CHECKS: dict[str, Check] = {one.__name__: one for theme in _THEMES for one in theme.CHECKS}


@dataclass(frozen=True)
class Finding:
    """A property that a loss does not have.

    Args:
        check: the property's name, one of ``CHECKS``.
        what: what was found, with the numbers that were measured.
    """

    check: str
    what: str


@dataclass(frozen=True)
class Report:
    """What an examination has found.

    Args:
        name: of the loss.
        checks: names of the properties that were looked at.
        failures: what it does not have.
    """

    name: str
    checks: tuple[str, ...]
    failures: tuple[Finding, ...]

    def __str__(self) -> str:
        failed = {one.check for one in self.failures}
        lines = [f"  {one.check}: {one.what}" for one in self.failures]
        return "\n".join([f"loss '{self.name}' fails {len(failed)} of {len(self.checks)} properties", *lines])


def examine(loss: Any, *, checks: Sequence[str] | None = None, **hyper: Any) -> Report:
    """Look at the properties of a loss, and say which it does not have.

    Args:
        loss: a function, a module's class, or a recipe's name; see :func:`limbeck.losses.declare.compares` for what it
            says of itself.
        checks: names of the properties to look at; None: all.
        hyper: the loss's hyperparameters.

    Raises:
        RecipeError: if there is no loss of this name, or it is a module that is built already.

    Example:
        >>> from limbeck.losses import kl
        >>> examine(lambda student, teacher: kl(student, teacher).mean(), checks=["shape"]).failures[0].what
        'it returns (), expected (6,); a loss that compares samples says relational=True'
    """
    names = tuple(CHECKS if checks is None else checks)
    subject = Subject(loss, hyper)
    found = [Finding(name, what) for name in names for what in _findings(CHECKS[name], subject)]
    if subject.logits and not subject.dense and "axis" in subject.takes:
        dense = Subject(loss, hyper, dense=True)
        places = (name for name in names if name != "compiled")
        found += [Finding(name, f"[B, C, H, W]: {what}") for name in places for what in _findings(CHECKS[name], dense)]
    title = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return Report(title, names, tuple(found))


def check(loss: Any, **hyper: Any) -> Report:
    """Take a loss through all properties that it must have.

    Args:
        loss: a function, a module's class, or a recipe's name.
        hyper: its hyperparameters.

    Returns:
        The report, without failures.

    Raises:
        ConformanceError: with all that it does not have, and the numbers that were measured.
        RecipeError: if there is no loss of this name.

    Example:
        >>> len(check("fitnet").failures)
        0
    """
    report = examine(loss, **hyper)
    if report.failures:
        raise ConformanceError(str(report), cure="see limbeck.losses.declare.compares for what a loss may declare")
    return report


def _findings(check: Check, subject: Subject) -> list[str]:
    """What a check finds; a loss that raises has not passed it."""
    found: list[str] = []
    try:
        found.extend(check(subject))
    except Broken as error:
        found.append(str(error))
    except Exception as error:  # of a loss that is not ours: anything
        found.append(f"it raises {type(error).__name__}: {error}")
    return found
