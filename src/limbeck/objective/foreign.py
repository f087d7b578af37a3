"""Losses that are none of limbeck's: what they do wrong is told in a line, and their text belongs to the record."""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import LimbeckError, ModelError


def guarded(name: str, compute: Callable[[], Any], logits: Tensor | None = None) -> Any:
    """What a user's code gives; an exception of it, or a value that is no loss, as a named error.

    Args:
        name: of the term.
        compute: calls the code.
        logits: the student's; None: the code builds a module.

    Raises:
        ModelError: naming the term, and the line of the file that failed.

    Example:
        >>> guarded("mine", lambda: [][0])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        limbeck.errors.ModelError: term 'mine' fails: IndexError: list index out of range (...)
          cure: call the loss by itself, on two small tensors
    """
    try:
        value = compute()
    except (LimbeckError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:300]
        shown = f"logits {tuple(logits.shape)}; " if logits is not None else ""
        raise ModelError(
            f"term '{name}' fails: {type(error).__name__}: {said} ({shown}{Path(at.filename).name}, line {at.lineno})",
            cure="call the loss by itself, on two small tensors",
        ) from error
    if logits is None:
        return value
    if not isinstance(value, Tensor):
        raise ModelError(
            f"term '{name}' gives {type(value).__name__}, expected a tensor",
            cure="return one value for each sample, [B]; or a scalar where samples are compared with each other",
        )
    if value.ndim > 1 and value.shape == logits.shape:
        raise ModelError(
            f"term '{name}' gives a loss of shape {tuple(value.shape)}, that of the logits, expected "
            f"{(len(value), *value.shape[2:])}",
            cure="sum over the classes: one value for each sample, or for each position",
        )
    return value


def source(loss: Any) -> dict[str, str]:
    """A digest of a loss's text, for a run's record, so that it is not continued with another; empty without text.

    Example:
        >>> source(len)
        {}
    """
    parts = [loss]
    if isinstance(loss, torch.nn.Module):
        parts = [type(loss)]
    if inspect.isclass(parts[0]):
        parts = [one for one in vars(parts[0]).values() if inspect.isfunction(one)]
    try:
        text = "\n".join(inspect.getsource(one) for one in parts)
    except (OSError, TypeError):
        return {}
    return {"source": hashlib.sha256(text.encode()).hexdigest()}


__all__ = ["guarded", "source"]
