"""Preparation: what turns a batch's inputs into one model's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.data.normalization import Normalization
from limbeck.errors import RecipeError


@dataclass(frozen=True)
class Preparation:
    """Resize to a model's own input size, then normalize as it was trained.

    Teacher and student see the same batch, each through its own preparation. The resize is bilinear; where it shrinks,
    each new pixel is the weighted mean of all that it covers (antialias), as Pillow's BILINEAR does.

    Args:
        normalization: of the inputs.
        input_size: (H, W) of the model's inputs; None: the data's own size.

    Example:
        >>> import torch
        >>> preparation = Preparation(Normalization((0.5,), (0.25,)), (2, 2))
        >>> preparation(torch.ones(1, 1, 4, 4))
        tensor([[[[2., 2.],
                  [2., 2.]]]])
    """

    normalization: Normalization
    input_size: tuple[int, int] | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.normalization(self.resized(inputs))

    def resized(self, inputs: Tensor) -> Tensor:
        """Inputs ``[B, C, H, W]`` in the model's size, not normalized yet."""
        if self.input_size is None or inputs.shape[-2:] == self.input_size:
            return inputs
        return interpolate(inputs, self.input_size, mode="bilinear", align_corners=False, antialias=True)

    def shape(self, data: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one input of the model, for data of this shape.

        Raises:
            RecipeError: if there is nothing to resize, or the normalization has other channels.

        Example:
            >>> Preparation(Normalization.none(3), (224, 224)).shape((3, 32, 32))
            (3, 224, 224)
        """
        channels = len(self.normalization.mean)
        if channels not in {1, data[0]}:
            raise RecipeError(
                f"a model's normalization has {channels} channels, the data {data[0]}",
                cure="give one mean and std for each channel, or set data.channels",
            )
        if self.input_size is None:
            return data
        if len(data) != 3:
            raise RecipeError(f"input_size is for images; the inputs have shape {data}", cure="remove input_size")
        return (data[0], *self.input_size)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; ``input_size`` stands there only where there is one.

        Example:
            >>> Preparation(Normalization.none(1)).to_dict()
            {'normalization': {'mean': [0.0], 'std': [1.0]}}
        """
        resize = {} if self.input_size is None else {"input_size": list(self.input_size)}
        return {"normalization": self.normalization.to_dict(), **resize}
