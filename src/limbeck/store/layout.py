"""The layout of a record: what is kept of one view, in how many bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from limbeck.errors import RecipeError

DENSE = 64  # classes of which all logits are kept
TOP = 10


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
    def from_dict(cls, value: Mapping[str, Any]) -> Layout:
        """From what :meth:`to_dict` gave."""
        return cls(
            int(value["classes"]),
            int(value["members"]),
            tuple(float(one) for one in value["weights"]),
            int(value["top"]),
            tuple(float(one) for one in value["temperatures"]),
            {str(name): int(size) for name, size in value["features"]},
        )
