"""The packages that export needs: there or named with the cure, and quiet."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from limbeck.errors import ExportError


def library(name: str) -> Any:
    """A package that export needs.

    Raises:
        ExportError: if it is not installed, with the cure.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = (error.name or name).partition(".")[0]
        raise ExportError(f"{package} is not installed", cure="pip install 'limbeck[export]'") from None


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Exporters and quantizers print, warn of their own internals and log; none of it is about the user's model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


__all__ = ["library", "silent"]
