"""Models by name, from a closed set of namespaces: ``limbeck/…``, ``torchvision/…``, ``timm/…``, ``user/…``."""

from limbeck.models.lookup import build, user_models
from limbeck.models.published import published_normalization
from limbeck.models.resnet import CifarResNet
from limbeck.models.small import CNN5, MLP, ConvMNIST, DigitsStudent, DigitsTeacher
from limbeck.models.weights import load_weights

__all__ = [
    "CNN5",
    "MLP",
    "CifarResNet",
    "ConvMNIST",
    "DigitsStudent",
    "DigitsTeacher",
    "build",
    "load_weights",
    "published_normalization",
    "user_models",
]
