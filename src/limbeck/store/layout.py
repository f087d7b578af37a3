"""The layout of a record: what is kept of one view, in how many bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from limbeck.errors import FileError, RecipeError
from limbeck.store.fields import Fields, number, text, whole

DENSE = 64  # classes of which all logits are kept
TOP = 10
_MOST_CLASSES, _MOST_BYTES = 2**32, 2**31 - 1  # ids of four bytes; what numpy takes as one record
_NAME = re.compile(r"[\s\S]+")


@dataclass(frozen=True)
class Layout:
    """What a record holds, as packed little-endian numbers, see ``docs/store_format.md``.

    Args:
        classes: number of classes C.
        members: of an ensemble, whose logits are all kept; 1: a single model.
        weights: of the members; empty for a single model.
        top: so many of the largest logits; 0: all of them.
        temperatures: at which the weight of the others is kept beside the largest.
        features: length of each pooled feature, by the address of its layer.

    Raises:
        RecipeError: if ``top`` is not below the number of classes, or has no temperature.

    Example:
        >>> Layout(classes=10).stride, Layout(classes=1000, top=10, temperatures=(4.0, 1.0)).stride
        (24, 48)
    """

    classes: int
    members: int = 1
    weights: tuple[float, ...] = ()
    top: int = 0
    temperatures: tuple[float, ...] = ()
    features: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("classes", 1), ("members", 1), ("top", 0)):
            if not whole(least, _MOST_CLASSES)(getattr(self, name)):
                raise RecipeError(f"{name} of a store are {getattr(self, name)!r}, expected {least} to {_MOST_CLASSES}")
        if self.top and not 0 < self.top < self.classes:
            raise RecipeError(
                f"a store of the {self.top} largest logits of {self.classes} classes is not possible",
                cure=f"keep 1 to {self.classes - 1}, or all of them: top: 0",
            )
        if self.top and not self.temperatures:
            raise RecipeError(
                "the largest logits alone do not say how much the other classes weigh",
                cure="name the temperatures that will be asked for: temperatures: [4]",
            )
        if self.top and self.members > 1 and len(self.temperatures) > 1:
            raise RecipeError(
                f"the largest logits of an ensemble's mean differ with the temperature; found {self.temperatures}",
                cure="name one temperature, or keep all logits of every member: top: 0",
            )
        self._check_lists()

    def _check_lists(self) -> None:
        """See that weights, temperatures and features can be kept, and that a record is not too long."""
        positive = number(above=0)
        if not all(map(positive, self.temperatures)) or len(set(self.temperatures)) < len(self.temperatures):
            raise RecipeError(f"temperatures of a store are {self.temperatures}, expected positive numbers, each once")
        if len(self.weights) not in ((0, 1) if self.members == 1 else (self.members,)):
            raise RecipeError(f"a store of {self.members} members has {len(self.weights)} weights, expected one each")
        if self.weights and not (all(map(number(), self.weights)) and min(self.weights) >= 0 and _is_one(self.weights)):
            raise RecipeError(f"weights of an ensemble's members are {self.weights}, expected them to add up to 1")
        for name, size in self.features.items():
            if not name or not whole(1)(size):
                raise RecipeError(f"features of layer '{name}' have length {size!r}, expected at least 1")
        logits = 4 * self.top + 2 * len(self.temperatures) if self.top else 2 * self.members * self.classes
        if 4 + logits + 2 * sum(self.features.values()) > _MOST_BYTES:
            raise RecipeError(f"a record of {self.members} x {self.classes} logits and its features is above 2 GiB")

    @classmethod
    def choose(
        cls,
        classes: int,
        *,
        members: int = 1,
        weights: tuple[float, ...] = (),
        top: int | None = None,
        temperatures: tuple[float, ...] = (),
        features: Mapping[str, int] | None = None,
    ) -> Layout:
        """All logits of up to 64 classes, the 10 largest of more, unless ``top`` says otherwise.

        Example:
            >>> Layout.choose(100, temperatures=(4.0,)).top
            10
        """
        many = classes > DENSE if top is None else top > 0
        chosen = (TOP if top is None else top) if many else 0
        kept = tuple(dict.fromkeys(float(one) for one in temperatures)) if many else ()
        return cls(classes, members, weights, chosen, kept, dict(features or {}))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """numpy's type of a record: fields one after the other, without gaps."""
        fields: list[Any] = [("pixels", "<u4")]
        if self.top:
            fields.append(("ids", "<u2" if self.classes <= 2**16 else "<u4", (self.top,)))
            fields.append(("logits", "<f2", (self.top,)))
            fields.append(("rest", "<f2", (len(self.temperatures),)))
        else:
            fields.append(("logits", "<f2", (self.members, self.classes)))
        fields += [(f"feature{number}", "<f2", (size,)) for number, size in enumerate(self.features.values())]
        return np.dtype(fields)

    @property
    def stride(self) -> int:
        """Bytes of a record."""
        return self.dtype.itemsize

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it.

        Example:
            >>> Layout.from_dict(Layout(classes=3).to_dict()) == Layout(classes=3)
            True
        """
        return {
            "kind": "top" if self.top else "dense",
            "classes": self.classes,
            "members": self.members,
            "weights": list(self.weights),
            "top": self.top,
            "temperatures": list(self.temperatures),
            "features": [[name, size] for name, size in self.features.items()],
            "bytes": self.stride,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], name: str = "record") -> Layout:
        """From what :meth:`to_dict` gave, or what anybody wrote.

        Args:
            value: the object.
            name: where it stands, for messages.

        Raises:
            FileError: naming the field that is not what it has to be.
        """
        known = Fields.of(value, name.rpartition(": ")[0] or "layout", name.rpartition(": ")[2])
        known.only("kind", "classes", "members", "weights", "top", "temperatures", "features", "bytes")
        kind = known.take("kind", lambda one: one in ("dense", "top"), "dense or top")
        least = 1 if kind == "top" else 0
        classes = known.take("classes", whole(1, _MOST_CLASSES), f"a whole number, 1 to {_MOST_CLASSES}")
        features = known.list("features", _is_feature, "a list of [layer, length]")
        try:
            found = cls(
                classes,
                known.take("members", whole(1, _MOST_CLASSES), "a whole number of at least 1"),
                tuple(float(one) for one in known.list("weights", number(), "a list of numbers")),
                known.take("top", whole(least, (classes - 1) * least), f"{least} to {(classes - 1) * least}"),
                tuple(float(one) for one in known.list("temperatures", number(above=0), "a list of positive numbers")),
                dict(features),
            )
        except RecipeError as error:
            raise FileError(f"{name}: {error.what}") from None
        if len(found.features) < len(features):
            raise known.wrong("features", "each layer once")
        if found.temperatures and not found.top:
            raise known.wrong("temperatures", "none, where all logits are kept")
        known.take("bytes", whole(found.stride, found.stride), f"{found.stride}, which such a record has")
        return found


def _is_one(weights: tuple[float, ...]) -> bool:
    """Whether float32 weights add up to 1."""
    return math.isclose(sum(weights), 1.0, abs_tol=1e-4)


def _is_feature(value: Any) -> bool:
    """Whether a value is a layer's address and a length."""
    return isinstance(value, list) and len(value) == 2 and text(_NAME)(value[0]) and whole(1, _MOST_BYTES)(value[1])
