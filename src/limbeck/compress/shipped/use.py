"""How an exported file is used, as it says itself: what its inputs were, and where it decides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_VALUES = {
    "bytes": "bytes divided by 255",
    "unit": "numbers in [0, 1]",
    "raw": "numbers in the range of the training data",
}
_RESIZE = {
    "whole": "whole picture, bilinear",
    "crop": "largest centered part of the input's aspect, bilinear",
    "windows": "none: it is looked at in overlapping windows, whose probabilities are blended",
}


@dataclass(frozen=True)
class Use:
    """What a file's metadata say besides its classes and shape.

    Args:
        fit: how pictures were brought to the input's size: ``whole`` (squeezed), ``crop`` (largest centered part), or
            ``windows`` (not at all: the model sees them part by part).
        range: of the inputs: ``bytes`` (divided by 255), ``unit`` (floats in [0, 1]) or ``raw`` (any other floats).
        positive: the declared positive class.
        threshold: on its probability, in float64 of float32 logits: a sample at or above it is called positive.

    Example:
        >>> Use(positive="malignant", threshold=0.25).metadata()["threshold"]
        '0.25'
    """

    fit: str = "whole"
    range: str = "bytes"
    positive: str | None = None
    threshold: float | None = None

    @property
    def values(self) -> str:
        """What the inputs' numbers are, in words."""
        return _VALUES[self.range]

    @property
    def resize(self) -> str:
        """What is done to a picture of another size, in words."""
        return _RESIZE[self.fit]

    def metadata(self) -> dict[str, str]:
        """As an exported file holds it."""
        told = f"float32, {self.values}, not normalized: normalization is inside"
        found = {"input": told, "range": self.range, "resize": self.resize, "fit": self.fit}
        if self.positive is not None:
            found["positive"] = self.positive
        if self.threshold is not None:
            found["threshold"] = json.dumps(self.threshold)
        return found

    @classmethod
    def read(cls, metadata: Mapping[str, str], classes: Sequence[str]) -> Use | None:
        """What a file says, which anyone may have written; None if it can not be.

        Example:
            >>> Use.read({"threshold": "0.5"}, ["a", "b"]) is None  # of which class?
            True
        """
        positive, told = metadata.get("positive"), metadata.get("threshold")
        fit, values = metadata.get("fit", "whole"), metadata.get("range", "bytes")
        if fit not in _RESIZE or values not in _VALUES:
            return None
        if (positive is None and told is not None) or (positive is not None and positive not in classes):
            return None
        try:
            threshold = None if told is None else float(told)
        except ValueError:
            return None
        if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
            return None
        return cls(fit, values, positive, threshold)
