"""Wide residual networks for small images."""

from __future__ import annotations

from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.resnet import kaiming
from limbeck.models.small import image_shape


class WideResNet(nn.Module):
    """WRN-d-k, the pre-activation residual network of depth 6n + 4 and width 16k.

    A 3×3 convolution with 16 channels, three stages of n blocks (norm, ReLU, 3×3, norm, ReLU, 3×3) with 16k, 32k and
    64k channels, each at half the size of the one before, norm and ReLU, the global mean and one dense layer. A block
    that changes the number of channels has a 1×1 convolution of its activated input as shortcut. No dropout.

    ``stages.0`` to ``stages.2`` give each stage's last sum, which this family does not activate; ``last`` is the last
    of them after norm and ReLU. The published networks' features are the same sums, then the mean of ``last``:
    ``classifier:input``.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, arXiv:1605.07146, section 2 and table 1.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        depth: 6n + 4: 16 or 40 in the distillation literature.
        widen: k.

    Raises:
        ModelError: if the depth is not of this form or the images are too small.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in WideResNet((3, 32, 32), 10, depth=40, widen=2).parameters())  # 2.2 M in the paper
        2243546
    """

    def __init__(
        self, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, depth: int = 16, widen: int = 2
    ) -> None:
        super().__init__()
        channels = image_shape("wide_resnet", input_shape, smallest=8)[0]
        if depth < 10 or depth % 6 != 4:
            raise ModelError(f"limbeck/wide_resnet has depth {depth}, expected 6n + 4, such as 10, 16, 28 or 40")
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        before = 16
        for stage in range(3):
            after = 16 * widen * 2**stage
            first = _Block(before, after, stride=2 if stage else 1)
            self.stages.append(nn.Sequential(first, *(_Block(after, after, 1) for _ in range((depth - 4) // 6 - 1))))
            before = after
        self.last = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.classifier = nn.Linear(before, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.last(self.stages(self.stem(images))).mean(dim=(2, 3)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        changes = before != after or stride > 1
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.first(x)
        return self.layers(active) + (x if self.shortcut is None else self.shortcut(active))
