"""The names of the CIFAR networks: families that take options, and the closed forms of the distillation literature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import ModelError
from limbeck.models.mobile import CifarMobileNetV2, CifarShuffleNetV2
from limbeck.models.resnet import CifarResNet
from limbeck.models.vgg import CifarVGG
from limbeck.models.wide import WideResNet

_FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "resnet": CifarResNet,
    "wide_resnet": WideResNet,
    "vgg": CifarVGG,
    "shufflenet_v2": CifarShuffleNetV2,
    "mobilenet_v2": CifarMobileNetV2,
}

# Name → family and form. The literature's residual networks have shortcuts of option B; those of limbeck/resnet are A.
_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet", {"depth": depth, "shortcut": "B"}) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": ("resnet", {"depth": depth, "width": 64, "stem": 32, "shortcut": "B"}) for depth in (8, 32)},
    **{
        f"wrn_{depth}_{widen}": ("wide_resnet", {"depth": depth, "widen": widen})
        for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2))
    },
    "vgg8": ("vgg", {"convolutions": (1, 1, 1, 1, 1)}),
    "vgg13": ("vgg", {"convolutions": (2, 2, 2, 2, 2)}),
}


def _closed(name: str) -> Callable[..., nn.Module]:
    family, form = _FORMS[name]

    def make(input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, **options: Any) -> nn.Module:
        if options:  # a resnet20 of another depth or width is none
            raise ModelError(
                f"limbeck/{name} is one form and takes no options, found {', '.join(sorted(options))}",
                cure=f"use limbeck/{family} with the options " + ", ".join(f"{k}: {v}" for k, v in form.items()),
            )
        return _FAMILIES[family](input_shape, classes, **form)

    return make


CIFAR: dict[str, Callable[..., nn.Module]] = {**_FAMILIES, **{name: _closed(name) for name in _FORMS}}
