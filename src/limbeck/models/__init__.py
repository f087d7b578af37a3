"""Models by name, from a closed set of namespaces: ``limbeck``, ``torchvision``, ``timm``, ``smp`` and ``user``."""

from limbeck.models.lookup import build, user_models
from limbeck.models.mobile import CifarMobileNetV2, CifarShuffleNetV2
from limbeck.models.published import published_normalization
from limbeck.models.resnet import CifarResNet
from limbeck.models.small import CNN5, MLP, ConvMNIST, DigitsStudent, DigitsTeacher
from limbeck.models.vgg import CifarVGG
from limbeck.models.weights import load_weights
from limbeck.models.wide import WideResNet

__all__ = [
    "CNN5",
    "MLP",
    "CifarMobileNetV2",
    "CifarResNet",
    "CifarShuffleNetV2",
    "CifarVGG",
    "ConvMNIST",
    "DigitsStudent",
    "DigitsTeacher",
    "WideResNet",
    "build",
    "load_weights",
    "published_normalization",
    "user_models",
]
