"""The small architectures that the field compares on and that model libraries lack."""

from __future__ import annotations

import math

from torch import Tensor, nn

from limbeck.errors import ModelError


class ConvMNIST(nn.Module):
    """The convolutional MNIST teacher: conv 32, pool 2/1, conv 64, pool 2/2, dropout, dense 128.

    Args:
        input_shape: ``(C, H, W)`` of one image; 1×28×28 gives the 1,011,466 parameters of the published notebook.
        classes: number of classes.
        dropout: dropout rate before both dense layers.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in ConvMNIST().parameters())
        1011466
    """

    def __init__(self, input_shape: tuple[int, ...] = (1, 28, 28), classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        channels, height, width = image_shape("conv_mnist", input_shape, smallest=8)
        rows, columns = ((side - 2 - 1 - 2) // 2 for side in (height, width))
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2, 1),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(64 * rows * columns, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class MLP(nn.Module):
    """A multilayer perceptron on flattened inputs; two hidden layers of 784 by default.

    Args:
        input_shape: shape of one input, flattened.
        classes: number of classes.
        hidden: widths of the hidden layers.

    Shapes: ``[B, …]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in MLP((1, 28, 28), 10).parameters())  # 784-784-784-10
        1238730
    """

    def __init__(
        self,
        input_shape: tuple[int, ...] = (1, 28, 28),
        classes: int = 10,
        hidden: tuple[int, ...] | list[int] = (784, 784),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(input_shape)
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


class CNN5(nn.Module):
    """Five 3×3 convolutions with batch norm, of widths w, 2w, 2w, 4w, 4w, then the global mean and one dense layer.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        classes: number of classes.
        width: w; 32 gives 0.28 M parameters on color images.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``. The size is halved after the first, third and fourth layer.

    Example:
        >>> sum(p.numel() for p in CNN5((3, 32, 32), 10, width=32).parameters())
        279466
    """

    def __init__(self, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: int = 32) -> None:
        super().__init__()
        channels = image_shape("cnn5", input_shape, smallest=8)[0]
        layers: list[nn.Module] = []
        for out, halve in (
            (width, True),
            (2 * width, False),
            (2 * width, True),
            (4 * width, True),
            (4 * width, False),
        ):
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)]
            # The largest of positive parts is the positive part of the largest: to the bit, on a quarter of the values.
            layers += [nn.MaxPool2d(2), nn.ReLU()] if halve else [nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class DigitsTeacher(nn.Module):
    """The demo's teacher for 8×8 digits: three 3×3 convolutions of widths 32, 64, 64 and a dense layer.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in DigitsTeacher().parameters())
        66154
    """

    def __init__(self, input_shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, dropout: float = 0.3) -> None:
        super().__init__()
        channels, height, width = image_shape("digits_teacher", input_shape, smallest=4)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(64 * (height // 2) * (width // 2), classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class DigitsStudent(nn.Module):
    """The demo's student for 8×8 digits: two 3×3 convolutions of widths 8 and 32 and a dense layer.

    Shapes: ``[B, C, H, W]`` → logits ``[B, classes]``.

    Example:
        >>> sum(p.numel() for p in DigitsStudent().parameters())
        3706
    """

    def __init__(self, input_shape: tuple[int, ...] = (1, 8, 8), classes: int = 10) -> None:
        super().__init__()
        channels, height, width = image_shape("digits_student", input_shape, smallest=4)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def image_shape(name: str, shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """``(C, H, W)`` of inputs that are images and large enough, or ModelError."""
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ModelError(
            f"limbeck/{name} takes images (C, H, W) of at least {smallest}×{smallest}, "
            f"found inputs of shape {tuple(shape)}",
            cure="choose another model, or limbeck/mlp_784 for inputs that are not images",
        )
    channels, height, width = shape
    return channels, height, width
