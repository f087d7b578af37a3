"""What a loss takes: of each call, to be built, and as hyperparameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import RecipeError

GIVEN = ("student", "teacher", "target", "index", "mask", "gather")
BUILT = ("student_shape", "teacher_shape", "samples", "classes", "targets")
EMPTY = inspect.Parameter.empty
Parameters = dict[str, inspect.Parameter]


def built(loss: Any) -> bool:
    """Whether a loss is a class, of which each use builds its own module.

    Example:
        >>> built(nn.Identity), built(nn.Identity())
        (True, False)
    """
    return inspect.isclass(loss) and issubclass(loss, nn.Module)


def called(loss: Any) -> Parameters:
    """The parameters of a call of the loss."""
    if built(loss):
        return dict(list(_parameters(loss.forward, loss).items())[1:])
    return _parameters(loss.forward if isinstance(loss, nn.Module) else loss, loss)


def hyperparameters(loss: Any) -> Parameters:
    """The parameters that a term may set.

    Example:
        >>> list(hyperparameters(lambda student, teacher, *, target, temperature=4.0: student))
        ['temperature']
    """
    if built(loss):
        return {key: one for key, one in _parameters(loss, loss).items() if key not in BUILT}
    return {key: one for key, one in called(loss).items() if key not in GIVEN}


def asked(loss: Any) -> tuple[str, ...]:
    """What a class asks for to be built, besides its hyperparameters."""
    return tuple(key for key in _parameters(loss, loss) if key in BUILT)


def _parameters(function: Callable[..., Any], loss: Any) -> Parameters:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise RecipeError(
            f"{loss!r} does not say what it takes", cure="wrap it in a function loss(student, teacher)"
        ) from None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: one for key, one in parameters.items() if one.kind not in variable}
