"""Building a model from its name.

A name is looked up in a closed set of namespaces; a recipe never imports or calls anything else. ``user/…`` holds what
the user's own file, typed on the command line as ``--models FILE``, defines.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.errors import ModelError, nearest
from limbeck.models import small
from limbeck.models.cifar import CIFAR
from limbeck.models.heads import replace_head
from limbeck.models.published import with_published_weights
from limbeck.models.segmenters import of_smp, of_torchvision, torchvision_segmenters
from limbeck.models.unet import UNet

_LIMBECK: dict[str, Callable[..., nn.Module]] = {
    "conv_mnist": small.ConvMNIST,
    "mlp_784": small.MLP,
    "cnn5": small.CNN5,
    "digits_teacher": small.DigitsTeacher,
    "digits_student": small.DigitsStudent,
    "unet": UNet,
    **CIFAR,
}
_NAMESPACES = ("limbeck", "torchvision", "timm", "smp", "user")
UserModels = Mapping[str, Callable[..., nn.Module]]


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    seed: int = 0,
    user: UserModels | None = None,
) -> nn.Module:
    """Build the model called ``name`` with initial weights that depend on ``seed`` only.

    Args:
        name: ``namespace/model``, such as ``limbeck/mlp_784``, ``torchvision/resnet18``, ``timm/resnet18``, and for
            masks ``limbeck/unet``, ``torchvision/fcn_resnet50``, ``smp/fpn``.
        input_shape: shape of one input, ``(C, H, W)``.
        classes: number of logits.
        options: keyword arguments of the architecture, such as ``{"width": 8}``.
        pretrained: start from the library's published weights (needs network or its cache).
        seed: seed of the initial weights; the global random state is left as it was.
        user: models of the user's own file, see :func:`user_models`.

    Raises:
        ModelError: if the name or an option is unknown, or the model does not take this input.

    Example:
        >>> build("limbeck/mlp_784", input_shape=(1, 8, 8), classes=10, options={"hidden": [32]}).layers[1]
        Linear(in_features=64, out_features=32, bias=True)
    """
    options = dict(options or {})
    namespace, _, model = name.partition("/")
    if namespace not in _NAMESPACES or not model:
        raise ModelError(
            f"model '{name}' is in no known namespace{nearest(namespace, _NAMESPACES)}",
            cure="write one of limbeck/…, torchvision/…, timm/…, smp/…, or user/… with --models FILE",
        )
    if pretrained and namespace in {"limbeck", "user"}:
        raise ModelError(f"model '{name}' has no published weights", cure="set weights: FILE instead of pretrained")
    makers: dict[str, Callable[..., Callable[..., nn.Module]]] = {
        "limbeck": _own,
        "user": partial(_own, user=user or {}),
        "torchvision": _torchvision,
        "timm": _timm,
        "smp": of_smp,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = makers[namespace](model, input_shape, classes, pretrained)
        try:
            return make(**options)
        except TypeError as error:
            raise ModelError(f"model '{name}' does not take the options {options}: {error}") from None


def user_models(path: str | Path) -> dict[str, Callable[..., nn.Module]]:
    """The model classes and functions that a user's own Python file defines, by name.

    This runs the file. It is only called for a path that the user typed on the command line, never for one in a recipe.

    Raises:
        ModelError: if the file is missing or fails.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = "from torch import nn\\ndef tiny(classes): return nn.Linear(4, classes)"
        ...     _ = Path(folder, "mine.py").write_text(text)
        ...     list(user_models(Path(folder, "mine.py")))
        ['tiny']
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"limbeck_user_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ModelError(f"--models {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"--models {path} fails: {type(error).__name__}: {error}") from error
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    }


def _own(
    model: str, input_shape: tuple[int, ...], classes: int, pretrained: bool, user: UserModels | None = None
) -> Callable[..., nn.Module]:
    table = _LIMBECK if user is None else user
    if model not in table:
        where = "limbeck" if user is None else "user"
        cure = "known: " + ", ".join(sorted(table)) if table else "give the file that defines it with --models FILE"
        raise ModelError(f"there is no model '{where}/{model}'{nearest(model, table)}", cure=cure)
    offered = {"input_shape": input_shape, "classes": classes}
    taken = inspect.signature(table[model]).parameters
    return partial(table[model], **{key: value for key, value in offered.items() if user is None or key in taken})


def _torchvision(model: str, input_shape: tuple[int, ...], classes: int, pretrained: bool) -> Callable[..., nn.Module]:
    from torchvision import models

    names, dense = models.list_models(module=models), torchvision_segmenters()
    if model not in (*names, *dense):
        raise ModelError(f"torchvision has no model '{model}'{nearest(model, [*names, *dense])}")
    if input_shape[0] != 3:
        raise ModelError(
            f"torchvision/{model} takes images of 3 channels, found inputs of shape {tuple(input_shape)}",
            cure="set data.channels: 3, or use timm/…, or for masks smp/…, whose models take any number of channels",
        )
    if model in dense:
        return of_torchvision(model, classes, pretrained)
    if not pretrained:
        return partial(models.get_model, model, num_classes=classes)

    def make(**options: Any) -> nn.Module:
        module = replace_head(models.get_model(model, weights="DEFAULT", progress=False, **options), classes)
        plain = models.get_model(model, num_classes=classes, **options)
        if _described(module) != _described(plain):  # or else the trained weights would not load into the architecture
            raise ModelError(
                f"torchvision/{model} with its published weights is not the architecture of that name and {options}",
                cure="give the options that they were trained with, such as image_size, or use timm/…",
            )
        return module

    return with_published_weights(f"torchvision/{model}", make)


def _timm(model: str, input_shape: tuple[int, ...], classes: int, pretrained: bool) -> Callable[..., nn.Module]:
    try:
        import timm
    except ImportError:
        raise ModelError("timm is not installed", cure="pip install 'limbeck[timm]'") from None
    names = timm.list_models()
    if model.partition(".")[0] not in names:
        raise ModelError(f"timm has no model '{model}'{nearest(model, names)}")
    make = partial(timm.create_model, model, pretrained=pretrained, num_classes=classes, in_chans=input_shape[0])
    return with_published_weights(f"timm/{model}", make) if pretrained else make


def _described(module: nn.Module) -> tuple[Any, ...]:
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    return shapes, getattr(module, "transform_input", None)  # of Inception: another normalization, inside
