"""The named errors: what happened, where, and the cure, for the person who reads it.

Every error that a user can cause derives from :class:`LimbeckError`. The command line prints its text and
leaves with its ``exit_code``, without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LimbeckError(Exception):
    """Base of all errors with a message for the user.

    Args:
        what: what is wrong and where (file, key, layer, sample), expected against found.
        cure: what to do about it.

    Example:
        >>> print(DataError("split 'train' is empty", cure="check data.root"))
        split 'train' is empty
          cure: check data.root
    """

    exit_code = 1

    def __init__(self, what: str, *, cure: str | None = None) -> None:
        self.what = what
        self.cure = cure
        super().__init__(what if cure is None else f"{what}\n  cure: {cure}")


class RecipeError(LimbeckError):
    """A recipe or an argument is wrong: unknown key, type, range."""

    exit_code = 2


class DataError(LimbeckError):
    """Samples are missing, unreadable, mislabeled or not finite."""

    exit_code = 3


class ModelError(LimbeckError):
    """A model can not be built, loaded, or does not fit the data or the other model."""

    exit_code = 4


class NumericsError(LimbeckError):
    """NaN or Inf in a loss term; the step never reached the weights."""

    exit_code = 5


class FileError(LimbeckError):
    """A file can not be written or read, or its content is not what was written."""

    exit_code = 6


class ExportError(LimbeckError):
    """An exported file can not be made, or does not say what the model says."""

    exit_code = 7


class ResumeError(LimbeckError):
    """A run can not be continued from what its folder holds."""

    exit_code = 8


class ConformanceError(LimbeckError):
    """A loss does not have the properties that every loss has to have."""

    exit_code = 9


def nearest(name: str, options: Iterable[str]) -> str:
    """Say which option was probably meant, as the end of a sentence; empty if none is near.

    Example:
        >>> nearest("epoch", ["epochs", "seeds"])
        "; did you mean 'epochs'?"
    """
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ""
