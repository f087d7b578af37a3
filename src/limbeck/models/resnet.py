"""The residual networks of the CIFAR experiments, which model libraries lack: theirs are made for ImageNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from limbeck.errors import ModelError
from limbeck.models.small import image_shape


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images, as in section 4.2 of He et al., 2016.

    A 3×3 convolution, three stages of n blocks with w, 2w and 4w channels, each stage at half the size of the one
    before, the global mean and one dense layer. Where a block changes the size or the number of channels, its shortcut
    is one of two. ``"A"``, which the paper has for CIFAR, has no parameters: every second pixel is taken and the new
    channels are zeros. ``"B"`` is a 1×1 convolution with batch norm; the networks that the distillation literature
    calls resnet20 to resnet110 on CIFAR-100 have it. Its resnet8x4 and resnet32x4 start with 32 channels and have
    stages of 64, 128 and 256, so that the first stage needs such a shortcut too.

    Stage s (from 1) ends with ``blocks.{s·n − 1}``, after the ReLU; the sum before it is that block's ``last:input``.
    Of the published networks' features the last is the mean of the last of these maps: ``classifier:input``.

    Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385; option B on CIFAR and the "x4"
    networks: Tian et al., Contrastive Representation Distillation, arXiv:1910.10699, and its code.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        depth: 6n + 2: 20, 32, 44, 56 and 110 in the paper.
        width: w; 16 in the paper.
        shortcut: ``"A"`` or ``"B"``.
        stem: channels of the first convolution; w by default.

    Raises:
        ModelError: if the depth, the shortcut or the stem is none of these, or the images are too small.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in CifarResNet((3, 32, 32), 10, depth=20).parameters())  # 0.27 M in the paper
        269722
        >>> sum(p.numel() for p in CifarResNet((3, 32, 32), 10, depth=20, shortcut="B").parameters())
        272474
    """

    def __init__(
        self,
        input_shape: tuple[int, ...] = (3, 32, 32),
        classes: int = 10,
        depth: int = 20,
        width: int = 16,
        shortcut: str = "A",
        stem: int | None = None,
    ) -> None:
        super().__init__()
        channels = image_shape("resnet", input_shape, smallest=8)[0]
        if depth < 8 or depth % 6 != 2:
            raise ModelError(f"limbeck/resnet has depth {depth}, expected 6n + 2, such as 8, 20, 32, 44, 56 or 110")
        if shortcut not in ("A", "B"):
            raise ModelError(f"limbeck/resnet has the shortcut {shortcut!r}, expected 'A' or 'B'")
        before = width if stem is None else stem
        if shortcut == "A" and before > width:
            raise ModelError(
                f"limbeck/resnet has a stem of {before} channels and a first stage of {width}, which shortcuts without "
                "parameters can not join",
                cure='set shortcut: "B", or a stem of at most the width',
            )
        self.stem = nn.Sequential(nn.Conv2d(channels, before, 3, padding=1, bias=False), nn.BatchNorm2d(before))
        blocks: list[nn.Module] = []
        for stage in range(3):
            for number in range((depth - 2) // 6):
                after = width * 2**stage
                blocks.append(_Block(before, after, 2 if stage and not number else 1, shortcut))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(before, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.blocks(relu(self.stem(images))).mean(dim=(2, 3)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.stride, self.more = stride, after - before
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module | None = None
        if shortcut == "B" and (stride > 1 or self.more):
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.last = nn.ReLU()  # a module, so that its input can be read: the sum before the activation

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.shortcut is not None:
            short = self.shortcut(x)
        elif self.stride > 1 or self.more:
            short = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return self.last(self.layers(x) + short)


def kaiming(module: nn.Module) -> None:
    """Draw every convolution anew from N(0, 2 / (k² · output channels)), its bias zero, as in arXiv:1502.01852."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
