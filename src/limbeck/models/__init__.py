"""Models by name, from a closed set of namespaces: ``limbeck/…``, ``torchvision/…``, ``timm/…``, ``user/…``."""

from limbeck.models.lookup import build, load_weights, user_models
from limbeck.models.small import CNN5, MLP, ConvMNIST, DigitsStudent, DigitsTeacher

__all__ = [
    "CNN5",
    "MLP",
    "ConvMNIST",
    "DigitsStudent",
    "DigitsTeacher",
    "build",
    "load_weights",
    "user_models",
]
