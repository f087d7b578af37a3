"""What the libraries publish with a model: its weights, and the normalization that they were trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from limbeck.data.normalization import Normalization
from limbeck.errors import LimbeckError, ModelError


def published_normalization(
    name: str, channels: int = 3, options: Mapping[str, Any] | None = None
) -> Normalization | None:
    """The mean and deviation that a library's published weights were trained with; None where it says nothing.

    It is read from timm's ``pretrained_cfg`` or from the transforms of torchvision's default weights; nothing is
    fetched. segmentation_models_pytorch keeps it in a file beside the encoder's weights, which is fetched as they are,
    once, or read from the library's cache. For gray inputs (one channel) it is the mean over the colors.

    Args:
        name: such as ``torchvision/resnet18``, ``timm/resnet18.a1_in1k``.
        channels: of the inputs.
        options: of the architecture: ``smp/…`` has its encoder's name there.

    Raises:
        ModelError: if the file of ``smp/…`` can not be had, or says something else than a mean and deviation of RGB.

    Example:
        >>> published_normalization("torchvision/resnet18")
        Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> published_normalization("limbeck/cnn5") is None
        True
    """
    namespace, _, model = name.partition("/")
    if namespace == "smp":
        told = _of_smp(model, options)
    else:
        read = {"torchvision": _of_torchvision, "timm": _of_timm}.get(namespace)
        told = read(model) if read else None
    if told is None:
        return None
    mean, std = (tuple(float(value) for value in values) for values in told)
    if channels == 1:
        mean, std = ((sum(values) / len(values),) for values in (mean, std))
    return Normalization(mean, std) if len(mean) == channels else None


def with_published_weights(name: str, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """``make``, with what goes wrong while the published weights are fetched said in words.

    Example:
        >>> def offline():
        ...     raise OSError("Name or service not known")
        >>> with_published_weights("timm/resnet18", offline)()
        Traceback (most recent call last):
        limbeck.errors.ModelError: the published weights of 'timm/resnet18' can not be had: Name or service not known
          cure: pretrained: true needs a network or the library's cache; set weights: FILE to a file on this machine
    """

    def made(**options: Any) -> nn.Module:
        try:
            return make(**options)
        except (TypeError, LimbeckError):  # an option that the architecture does not take
            raise
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                f"the published weights of '{name}' can not be had: {line}",
                cure="pretrained: true needs a network or the library's cache; set weights: FILE to a file on this "
                "machine",
            ) from error

    return made


def _of_torchvision(model: str) -> tuple[Any, Any] | None:
    from torchvision import models

    if model not in models.list_models(module=models) + models.list_models(module=models.segmentation):
        return None
    weights = getattr(models.get_model_weights(model), "DEFAULT", None)
    transforms: Any = weights.transforms() if weights is not None else None
    return (transforms.mean, transforms.std) if hasattr(transforms, "mean") else None


def _of_timm(model: str) -> tuple[Any, Any] | None:
    try:
        import timm
    except ImportError:
        return None
    if model.partition(".")[0] not in timm.list_models() or not timm.is_model_pretrained(model):
        return None
    told = timm.get_pretrained_cfg(model)
    return (told.mean, told.std) if told is not None else None


def _of_smp(model: str, options: Mapping[str, Any] | None) -> tuple[Any, Any] | None:
    """What the encoder's weights of ImageNet were trained with; inputs of another range are brought to [0, 1]."""
    from limbeck.models.segmenters import smp_encoder

    name = smp_encoder(model, options)
    if name is None:
        return None
    if name.startswith("tu-"):
        return _of_timm(name.removeprefix("tu-"))
    from segmentation_models_pytorch.encoders import encoders, get_preprocessing_params

    if "imagenet" not in encoders.get(name, {}).get("pretrained_settings", {}):
        return None
    read: Any = get_preprocessing_params  # no module, but fetched in the same way
    told: Any = with_published_weights(f"smp/{model}, encoder {name}", read)(encoder_name=name)
    low, high = told["input_range"]
    if low or told["input_space"] != "RGB":
        raise ModelError(
            f"the encoder '{name}' was trained on {told['input_space']} from {low} to {high}, expected RGB from 0",
            cure="take another encoder, or name the model's normalization",
        )
    return [value / high for value in told["mean"]], [value / high for value in told["std"]]
