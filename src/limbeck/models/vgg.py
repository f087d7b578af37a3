"""VGG for small images, with batch norm and one dense layer."""

from __future__ import annotations

from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.resnet import kaiming
from limbeck.models.small import image_shape


class CifarVGG(nn.Module):
    """VGG in the form of the CIFAR-100 distillation literature: five stages of 3×3 convolutions, one dense layer.

    The stages have 64, 128, 256, 512 and 512 channels; every convolution has a bias, batch norm and ReLU. The size is
    halved after the first, second and third stage; the last two work at one size. Then the global mean and one dense
    layer: the paper's three dense layers and its last two poolings are left out, so the name's number (the stages'
    convolutions and three) is no count of layers.

    ``stages.0`` to ``stages.4`` give each stage's last map after its ReLU and before any pooling, which are the
    published networks' features; the last ReLU's ``:input`` is the map before it. The last feature is their mean:
    ``classifier:input``.

    Source: Simonyan and Zisserman, arXiv:1409.1556, table 1 (B is VGG-13); this form: Tian et al., arXiv:1910.10699.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        convolutions: how many each of the five stages has; VGG-8 is one each, VGG-13 two each.

    Raises:
        ModelError: if there are not five such numbers or the images are too small.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in CifarVGG((3, 32, 32), 100).parameters())  # 3.97 M
        3965028
    """

    def __init__(
        self,
        input_shape: tuple[int, ...] = (3, 32, 32),
        classes: int = 10,
        convolutions: tuple[int, ...] | list[int] = (1, 1, 1, 1, 1),
    ) -> None:
        super().__init__()
        before = image_shape("vgg", input_shape, smallest=8)[0]
        if len(convolutions) != 5 or min(convolutions) < 1:
            raise ModelError(f"limbeck/vgg has convolutions {list(convolutions)}, expected five numbers from 1")
        self.stages = nn.ModuleList()
        for after, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            self.stages.append(nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(before, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for number, stage in enumerate(self.stages):
            x = stage(self.pool(x) if 1 <= number <= 3 else x)
        return self.classifier(x.mean(dim=(2, 3)))
