"""The plain U-Net, whose width is its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from limbeck.errors import ModelError

_DEPTH = 4  # times that the size is halved


class UNet(nn.Module):
    """The plain U-Net: two 3×3 convolutions at each of five sizes, down by pooling, up by transposed convolution.

    Widths are w, 2w, 4w, 8w, 16w, without normalization. Half of w is a quarter of parameters and multiplications, so
    students are ``width: 8`` and ``width: 4``. Height and width may be any from 16 on, a multiple of 16 or not.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        width: w; 16 gives 16-32-64-128-256.
        dropout: share of channels that is left out between the two convolutions of each size, while training.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes, H, W]``.

    Source: Ronneberger, Fischer, Brox, MICCAI 2015, arXiv:1505.04597; there with unpadded convolutions.

    Example:
        >>> sum(p.numel() for p in UNet((3, 256, 256), 6).parameters())
        1941190
        >>> UNet((3, 32, 32), 6, width=4)(torch.zeros(1, 3, 40, 33)).shape
        torch.Size([1, 6, 40, 33])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...] = (3, 256, 256),
        classes: int = 6,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 2**_DEPTH:
            raise ModelError(
                f"limbeck/unet takes images (C, H, W) of at least 16×16, found inputs of shape {tuple(input_shape)}",
                cure="give larger patches",
            )
        widths = [width * 2**level for level in range(_DEPTH + 1)]
        self.down = nn.ModuleList(
            _two_convolutions(before, after, dropout)
            for before, after in zip([input_shape[0], *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * one, one, 2, stride=2) for one in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_two_convolutions(2 * one, one, dropout) for one in reversed(widths[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Conv2d(width, classes, 1)
        for one in self.modules():
            if isinstance(one, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(one.weight, nonlinearity="relu")
                if one.bias is not None:
                    nn.init.zeros_(one.bias)

    def forward(self, images: Tensor) -> Tensor:
        maps, passed = self.down[0](images), []
        for block in list(self.down)[1:]:
            passed.append(maps)
            maps = block(self.pool(maps))
        for up, merge in zip(self.up, self.merge, strict=True):
            maps, beside = up(maps), passed.pop()
            # Of an odd side the pooling left out the last row or column.
            maps = pad(maps, (0, beside.shape[3] - maps.shape[3], 0, beside.shape[2] - maps.shape[2]))
            maps = merge(torch.cat([beside, maps], dim=1))
        return self.classifier(maps)


def _two_convolutions(before: int, after: int, dropout: float) -> nn.Sequential:
    between: list[nn.Module] = [nn.Dropout2d(dropout)] if dropout else []
    first, second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), *between, second, nn.ReLU())


__all__ = ["UNet"]
