"""Models that give a score for each pixel, of torchvision and of segmentation_models_pytorch, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError, ModelError, nearest
from limbeck.models.heads import replace_head
from limbeck.models.published import with_published_weights

# What limbeck gives itself, or what would leave something else than logits; the reasons are in the message.
_OWN = {
    "in_channels": "the data's",
    "classes": "the data's",
    "encoder_weights": "what pretrained: true stands for: imagenet",
    "activation": "none: losses and metrics need logits",
    "aux_params": "none: a model gives one score a pixel",
}
_SHORT = 12  # names in a message


def torchvision_segmenters() -> list[str]:
    """The names of torchvision's segmentation models.

    Example:
        >>> "fcn_resnet50" in torchvision_segmenters(), "resnet18" in torchvision_segmenters()
        (True, False)
    """
    from torchvision import models

    return list(models.list_models(module=models.segmentation))


def of_torchvision(model: str, classes: int, pretrained: bool) -> Callable[..., nn.Module]:
    """A function of a segmentation model's options that builds it; nothing is fetched unless ``pretrained``.

    The auxiliary classifier is left out unless ``aux_loss: true`` asks for it. It is no part of the logits: a term
    reads it as layer ``[aux]``, and what no term reads is not trained.

    Args:
        model: its name, one of :func:`torchvision_segmenters`.
        classes: number of logits.
        pretrained: begin with the published weights of the whole model, but for its last layer.

    Example:
        >>> net = of_torchvision("lraspp_mobilenet_v3_large", 6, False)()
        >>> net.classifier.high_classifier.out_channels
        6
    """
    from torchvision import models

    allowed = () if model.startswith("lraspp") else ("aux_loss",)

    def made(**options: Any) -> nn.Module:
        wrong = [key for key in options if key not in allowed]
        if wrong:
            known = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise ModelError(f"torchvision/{model} has no option '{wrong[0]}'", cure=known)
        asked = bool(options.get("aux_loss"))
        if not pretrained:
            more = {"aux_loss": asked} if allowed else {}
            return models.get_model(model, weights=None, weights_backbone=None, num_classes=classes, **more)
        module = models.get_model(model, weights="DEFAULT", progress=False)
        return replace_head(module if asked else _without_aux(module), classes)

    return with_published_weights(f"torchvision/{model}", made) if pretrained else made


def of_smp(model: str, input_shape: tuple[int, ...], classes: int, pretrained: bool) -> Callable[..., nn.Module]:
    """A function of an architecture's options that builds it from segmentation_models_pytorch.

    Args:
        model: the architecture's name in lower case, as the library's own table has it.
        input_shape: ``(C, H, W)``.
        classes: number of logits.
        pretrained: begin with the encoder's weights of ImageNet; decoder and head start anew.

    Raises:
        ModelError: if the library is not installed or has no such architecture; when called, if it does not take an
            option, has no such encoder, or can not be built for inputs of this size.

    Example:
        >>> net = of_smp("fpn", (3, 64, 64), 6, False)(encoder_name="mobilenet_v2", decoder_pyramid_channels=16)
        >>> net.segmentation_head[0].out_channels
        6
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise ModelError("segmentation_models_pytorch is not installed", cure="pip install 'limbeck[smp]'") from None
    table = smp.MODEL_ARCHITECTURES_MAPPING
    if model not in table:
        cure = f"known: {', '.join(sorted(table))}"
        raise ModelError(f"segmentation_models_pytorch has no model '{model}'{nearest(model, table)}", cure=cure)
    if len(input_shape) != 3:
        raise ModelError(f"smp/{model} takes images (C, H, W), found inputs of shape {tuple(input_shape)}")

    def made(**options: Any) -> nn.Module:
        taken = _options(table[model])
        name = str(options.get("encoder_name", taken["encoder_name"].default))
        _check(f"smp/{model}", options, taken, universal=name.startswith("tu-"))
        _encoder(f"smp/{model}", name, smp.encoders.encoders, pretrained)
        weights = (True if name.startswith("tu-") else "imagenet") if pretrained else None
        given = {"encoder_weights": weights, "in_channels": input_shape[0], "classes": classes}
        if not pretrained:
            return _built(f"smp/{model}", lambda: table[model](**given, **options), input_shape)
        frame = _built(
            f"smp/{model}", lambda: table[model](**{**given, "encoder_weights": None}, **options), input_shape
        )
        del frame  # what can not be built at all is said before anything is fetched
        return with_published_weights(f"smp/{model}, encoder {name}", table[model])(**given, **options)

    return made


def smp_encoder(model: str, options: Mapping[str, Any] | None = None) -> str | None:
    """The encoder that an architecture is built with; None if the library is not installed or has no such model.

    Example:
        >>> smp_encoder("unet"), smp_encoder("unet", {"encoder_name": "mobilenet_v2"})
        ('resnet34', 'mobilenet_v2')
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        return None
    if model not in smp.MODEL_ARCHITECTURES_MAPPING:
        return None
    usual = _options(smp.MODEL_ARCHITECTURES_MAPPING[model])["encoder_name"].default
    return str((options or {}).get("encoder_name", usual))


def _without_aux(module: Any) -> nn.Module:
    """The model without its auxiliary classifier, and without the map that its backbone gave for that."""
    if getattr(module, "aux_classifier", None) is not None:
        module.aux_classifier = None
        layers = module.backbone.return_layers
        module.backbone.return_layers = {key: name for key, name in layers.items() if name != "aux"}
    return module


def _options(architecture: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(architecture).parameters)


def _check(model: str, options: Mapping[str, Any], taken: Mapping[str, inspect.Parameter], *, universal: bool) -> None:
    """Refuse options that limbeck gives itself, and those that nobody takes; of a ``tu-`` encoder timm takes more."""
    known = [key for key, one in taken.items() if one.kind is not one.VAR_KEYWORD and key not in _OWN]
    for key in options:
        if key in _OWN:
            raise ModelError(f"{model}: '{key}' is no option, it is {_OWN[key]}", cure=f"leave '{key}' out")
        if key not in known and not universal:
            raise ModelError(f"{model} has no option '{key}'{nearest(key, known)}", cure=f"known: {', '.join(known)}")


def _encoder(model: str, name: str, encoders: Mapping[str, Any], pretrained: bool) -> None:
    """Refuse an encoder that there is not, or one without the weights that are asked for."""
    if name.startswith("tu-"):
        import timm

        known, theirs = timm.list_models(), re.fullmatch(r"tu-(\w+)(\.\w+)?", name)
        if theirs is None or theirs[1] not in known:
            found = nearest(name.removeprefix("tu-"), known)
            raise ModelError(f"{model} has no encoder '{name[:80]}': timm has no model of that name{found}")
        return
    if name not in encoders:
        few = ", ".join(list(encoders)[:_SHORT])
        raise ModelError(
            f"{model} has no encoder '{name}'{nearest(name, encoders)}",
            cure=f"one of {few}, … ({len(encoders)} in all), or tu- and a name of timm's",
        )
    kinds = list(encoders[name]["pretrained_settings"])
    if pretrained and "imagenet" not in kinds:
        raise ModelError(
            f"the encoder '{name}' of {model} has no weights of ImageNet, only {', '.join(kinds)}",
            cure="take another encoder, or set weights: FILE instead of pretrained",
        )


def _built(model: str, make: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> nn.Module:
    """A model whose options fit, seen to take inputs of this size."""
    try:
        module = make()
    except (TypeError, LimbeckError):
        raise
    except Exception as error:  # whatever the library says of its arguments
        text = " ".join(str(error.args[0] if error.args else error).split())[:300]
        raise ModelError(f"{model} can not be built with these options: {text}") from error
    stride = int(getattr(getattr(module, "encoder", None), "output_stride", 1))
    sides = input_shape[1:]
    if getattr(module, "requires_divisible_input_shape", False) and any(side % stride for side in sides):
        low, high = (tuple(max(side + up, stride) // stride * stride for side in sides) for up in (0, stride - 1))
        raise ModelError(
            f"{model} takes heights and widths that are multiples of {stride}, found {sides[0]}×{sides[1]}",
            cure=f"set data.patch to a multiple of {stride}, such as {_sides(low)} or {_sides(high)}; "
            "smp/unet and limbeck/unet take other sizes too",
        )
    return module


def _sides(sides: tuple[int, ...]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"[{sides[0]}, {sides[1]}]"


__all__ = ["of_smp", "of_torchvision", "smp_encoder", "torchvision_segmenters"]
