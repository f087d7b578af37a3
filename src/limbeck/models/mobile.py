"""Networks made for phones, in the forms that the distillation literature has for CIFAR."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.resnet import kaiming
from limbeck.models.small import image_shape

_SHUFFLE = {
    "0.5": (48, 1024),
    "1": (116, 1024),
    "1.5": (176, 1024),
}  # table 5: the first stage's width, the last layer's
_INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class CifarShuffleNetV2(nn.Module):
    """ShuffleNetV2 for small images, in the form of the CIFAR-100 distillation literature.

    A 1×1 convolution with 24 channels at full size (the paper: 3×3 with stride 2, and a pooling), three stages of 4, 8
    and 4 blocks, each at half the size of the one before, a 1×1 convolution, the global mean and one dense layer.
    ``stages.0`` to ``stages.2`` give each stage's last map, its channels shuffled; ``last`` is the activated 1×1
    convolution. The published networks' last feature is its mean: ``classifier:input``.

    Source: Ma et al., ShuffleNet V2, arXiv:1807.11164, table 5; this form: Tian et al., arXiv:1910.10699.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        size: ``"0.5"``, ``"1"`` or ``"1.5"`` times the width, as table 5 has them.

    Raises:
        ModelError: if there is no such size or the images are too small.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in CifarShuffleNetV2((3, 32, 32), 100).parameters())  # 1.36 M
        1355528
    """

    def __init__(self, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, size: str | float = "1") -> None:
        super().__init__()
        channels = image_shape("shufflenet_v2", input_shape, smallest=8)[0]
        known = f"{float(size):g}" if str(size).replace(".", "", 1).isdigit() else str(size)
        if known not in _SHUFFLE:
            raise ModelError(f"limbeck/shufflenet_v2 has size {size!r}, expected one of {', '.join(_SHUFFLE)}")
        width, wide = _SHUFFLE[known]
        self.stem = _convolution(channels, 24, 1)
        self.stages = nn.Sequential()
        before = 24
        for stage, more in enumerate((3, 7, 3)):
            after = width * 2**stage
            self.stages.append(nn.Sequential(_Down(before, after), *(_Split(after) for _ in range(more))))
            before = after
        self.last = _convolution(before, wide, 1)
        self.classifier = nn.Linear(wide, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.last(self.stages(self.stem(images))).mean(dim=(2, 3)))


class CifarMobileNetV2(nn.Module):
    """MobileNetV2 of half width for small images, in the form of the CIFAR-100 distillation literature.

    A 3×3 convolution with stride 2, seven stages of inverted residual blocks, a 1×1 convolution with 1280 channels,
    the global mean and one dense layer. Unlike the paper: the second stage keeps the size, ReLU is not cut off at 6,
    the first block has its 1×1 expansion (by 1) too, and there is no dropout. Widths are cut to whole numbers, not
    rounded to multiples of 8.

    ``stages.0`` to ``stages.6`` give each stage's last map, which is linear in this family; the published networks'
    features are those of 1, 2, 4 and 6, and the mean of ``last``: ``classifier:input``.

    Source: Sandler et al., MobileNetV2, arXiv:1801.04381, table 2; this form: Tian et al., arXiv:1910.10699.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        width: factor of all channels but the last convolution's.

    Raises:
        ModelError: if the width leaves no channel or the images are too small.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in CifarMobileNetV2((3, 32, 32), 100).parameters())  # 0.81 M
        812836
    """

    def __init__(self, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: float = 0.5) -> None:
        super().__init__()
        channels = image_shape("mobilenet_v2", input_shape, smallest=8)[0]
        if not 1 / 16 <= width <= 1:
            raise ModelError(f"limbeck/mobilenet_v2 has width {width}, expected a factor from 1/16 to 1")
        before = int(32 * width)
        self.stem = _convolution(channels, before, 3, 2)
        self.stages = nn.Sequential()
        for expansion, full, count, stride in _INVERTED:
            after = int(full * width)
            first = _Inverted(before, after, stride, expansion)
            self.stages.append(nn.Sequential(first, *(_Inverted(after, after, 1, expansion) for _ in range(count - 1))))
            before = after
        self.last = _convolution(before, 1280, 1)
        self.classifier = nn.Linear(1280, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.last(self.stages(self.stem(images))).mean(dim=(2, 3)))


class _Split(nn.Module):
    """Half of the channels pass, the other half goes through three convolutions; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            _convolution(half, half, 1),
            _convolution(half, half, 3, groups=half, active=False),
            _convolution(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return _shuffled(kept, self.layers(changed))


class _Down(nn.Module):
    """All channels go both ways, each at half the size."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.short = nn.Sequential(
            _convolution(before, before, 3, 2, groups=before, active=False), _convolution(before, half, 1)
        )
        self.layers = nn.Sequential(
            _convolution(before, half, 1),
            _convolution(half, half, 3, 2, groups=half, active=False),
            _convolution(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(self.short(x), self.layers(x))


class _Inverted(nn.Module):
    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.same = stride == 1 and before == after
        self.layers = nn.Sequential(
            _convolution(before, wide, 1),
            _convolution(wide, wide, 3, stride, groups=wide),
            _convolution(wide, after, 1, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.same else self.layers(x)


def _convolution(
    before: int, after: int, size: int, stride: int = 1, *, groups: int = 1, active: bool = True
) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(before, after, size, stride, padding=size // 2, groups=groups, bias=False), nn.BatchNorm2d(after)
    )
    return layers.append(nn.ReLU()) if active else layers


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    """The channels of both in turn: f0, s0, f1, s1, …"""
    return torch.stack((first, second), dim=2).flatten(1, 2)
