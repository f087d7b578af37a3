"""The residual networks of the CIFAR experiments, which model libraries lack: theirs are made for ImageNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from limbeck.errors import ModelError
from limbeck.models.small import image_shape


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images, as in section 4.2 of He et al., 2016.

    A 3×3 convolution, three stages of n blocks with w, 2w and 4w channels, each stage at half the size of the one
    before, the global mean and one dense layer. Shortcuts have no parameters (option A): where a block halves the size,
    every second pixel is taken and the new channels are zeros. https://arxiv.org/abs/1512.03385

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        depth: 6n + 2: 20, 32, 44, 56 and 110 in the paper.
        width: w; 16 in the paper.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in CifarResNet((3, 32, 32), 10, depth=20).parameters())  # 0.27 M in the paper
        269722
    """

    def __init__(
        self, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, depth: int = 20, width: int = 16
    ) -> None:
        super().__init__()
        channels = image_shape("resnet", input_shape, smallest=8)[0]
        if depth < 8 or depth % 6 != 2:
            raise ModelError(f"limbeck/resnet has depth {depth}, expected 6n + 2, such as 8, 20, 32, 44, 56 or 110")
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        blocks: list[nn.Module] = []
        before = width
        for stage in range(3):
            for number in range((depth - 2) // 6):
                after = width * 2**stage
                blocks.append(_Block(before, after, stride=2 if stage and not number else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(before, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.blocks(relu(self.stem(images))).mean(dim=(2, 3)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, after - before
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.stride > 1 or self.more:
            short = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return relu(self.layers(x) + short)
