"""Normalization of inputs: measured on the training split or declared, and kept with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from limbeck.data.split import Split
from limbeck.errors import RecipeError


@dataclass(frozen=True)
class Normalization:
    """``(x - mean) / std`` for each channel (dimension 1), in the units of a batch's inputs.

    Args:
        mean: one number a channel.
        std: one positive number a channel.

    Example:
        >>> Normalization((0.5,), (0.25,))(torch.tensor([[1.0]]))
        tensor([[2.]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name))
        if len(self.mean) != len(self.std) or not self.mean:
            raise RecipeError(f"normalization has {len(self.mean)} means and {len(self.std)} deviations")
        if not all(abs(value) < float("inf") for value in self.mean):
            raise RecipeError(f"normalization.mean is {list(self.mean)}, expected finite numbers")
        if not all(0 < value < float("inf") for value in self.std):
            raise RecipeError(f"normalization.std is {list(self.std)}, expected positive numbers")

    def __call__(self, inputs: Tensor) -> Tensor:
        mean, scale = _constants(self, inputs.ndim, inputs.device)
        return (inputs - mean) * scale

    @property
    def identity(self) -> bool:
        """Whether inputs are left as they are."""
        return set(self.mean) == {0.0} and set(self.std) == {1.0}

    @classmethod
    def none(cls, channels: int) -> Normalization:
        """The one that leaves inputs as they are."""
        return cls((0.0,) * channels, (1.0,) * channels)

    @classmethod
    def measure(cls, split: Split) -> Normalization:
        """Mean and deviation of each channel over a whole split; of all values together for inputs without channels.

        Example:
            >>> split = Split(torch.tensor([[0.0], [2.0]]), [0, 0], ["a"], "train")
            >>> Normalization.measure(split)
            Normalization(mean=(1.0,), std=(1.0,))
        """
        total = square = torch.zeros(())
        count = 0
        chunk = max(1, min(4096, 2**24 // max(math.prod(split.shape), 1)))  # 128 MiB as doubles
        for start in range(0, len(split), chunk):
            inputs = split.fetch(torch.arange(start, min(start + chunk, len(split))))[0].double()
            inputs = inputs if len(split.shape) == 3 else inputs.reshape(len(inputs), 1, -1)
            axes = [axis for axis in range(inputs.ndim) if axis != 1]
            total, square = total + inputs.sum(axes), square + (inputs * inputs).sum(axes)
            count += inputs.numel() // inputs.shape[1]
        mean = total / count
        std = (square / count - mean * mean).clamp(min=0).sqrt()
        std = torch.where(std > 1e-6, std, torch.ones_like(std))  # a constant channel is only centered
        return cls(tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist()))

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON holds it."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Normalization:
        """From what :meth:`to_dict` gave."""
        if set(value) != {"mean", "std"}:
            raise RecipeError(f"normalization has {', '.join(map(str, value)) or 'nothing'}, expected mean and std")
        return cls(value["mean"], value["std"])


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise RecipeError(f"normalization.{name} is {values!r:.80}, expected one number a channel") from None


@lru_cache(maxsize=64)
def _constants(normalization: Normalization, dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (-1, *[1] * (dims - 2)) if len(normalization.mean) > 1 else (1,)
    mean = torch.tensor(normalization.mean).reshape(shape).to(device)
    return mean, (1 / torch.tensor(normalization.std, dtype=torch.float64)).float().reshape(shape).to(device)
