"""Building a model from its name, and loading weights into it.

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
from torch import Tensor, nn

from limbeck.errors import ModelError, nearest
from limbeck.files import read_weights
from limbeck.models import small

_LIMBECK: dict[str, Callable[..., nn.Module]] = {
    "conv_mnist": small.ConvMNIST,
    "mlp_784": small.MLP,
    "cnn5": small.CNN5,
    "digits_teacher": small.DigitsTeacher,
    "digits_student": small.DigitsStudent,
}
_NAMESPACES = ("limbeck", "torchvision", "timm", "user")
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
        name: ``namespace/model``, such as ``limbeck/mlp_784``, ``torchvision/resnet18``, ``timm/resnet18``.
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
            cure="write one of limbeck/…, torchvision/…, timm/…, or user/… with --models FILE",
        )
    if pretrained and namespace in {"limbeck", "user"}:
        raise ModelError(f"model '{name}' has no published weights", cure="set weights: FILE instead of pretrained")
    makers: dict[str, Callable[..., Callable[..., nn.Module]]] = {
        "limbeck": _own,
        "user": partial(_own, user=user or {}),
        "torchvision": _torchvision,
        "timm": _timm,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = makers[namespace](model, input_shape, classes, pretrained)
        try:
            return make(**options)
        except TypeError as error:
            raise ModelError(f"model '{name}' does not take the options {options}: {error}") from None


def load_weights(module: nn.Module, path: str | Path, *, name: str) -> nn.Module:
    """Load a state dict from ``path`` into ``module``, every key accounted for.

    Raises:
        FileError: if the file can not be read as plain weights.
        ModelError: if keys are missing, left over, or of another shape: each named.

    Example:
        >>> import tempfile
        >>> from limbeck.files import write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_tensors(f"{folder}/w.safetensors", {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        ...     load_weights(nn.Linear(2, 1), path, name="linear").weight.tolist()
        [[1.0, 1.0]]
    """
    weights = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    own = module.state_dict()
    problems = _mismatches(own, weights)
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise ModelError(
            f"{path} does not fit model '{name}': {'; '.join(problems[:6])}{more}",
            cure="name the architecture that these weights were trained for, with its options and class count",
        )
    module.load_state_dict(weights)
    return module


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

    names = models.list_models(module=models)
    if model not in names:
        raise ModelError(f"torchvision has no model '{model}'{nearest(model, names)}")

    def make(**options: Any) -> nn.Module:
        if not pretrained:
            return models.get_model(model, num_classes=classes, **options)
        module = models.get_model(model, weights="DEFAULT", **options)
        _replace_head(module, classes, model)
        return module

    return make


def _timm(model: str, input_shape: tuple[int, ...], classes: int, pretrained: bool) -> Callable[..., nn.Module]:
    try:
        import timm
    except ImportError:
        raise ModelError("timm is not installed", cure="pip install 'limbeck[timm]'") from None
    names = timm.list_models()
    if model.partition(".")[0] not in names:
        raise ModelError(f"timm has no model '{model}'{nearest(model, names)}")
    return partial(timm.create_model, model, pretrained=pretrained, num_classes=classes, in_chans=input_shape[0])


def _replace_head(module: nn.Module, classes: int, name: str) -> None:
    for head in ("fc", "classifier", "heads", "head"):
        part = getattr(module, head, None)
        if isinstance(part, nn.Linear):
            setattr(module, head, nn.Linear(part.in_features, classes))
            return
        if isinstance(part, nn.Sequential) and isinstance(part[-1], nn.Linear):
            part[-1] = nn.Linear(part[-1].in_features, classes)
            return
    raise ModelError(f"the last layer of torchvision/{name} is not known here", cure="use timm/… for this model")


def _mismatches(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    problems = [f"'{key}' is missing{nearest(key, weights)}" for key in own if key not in weights]
    problems += [f"'{key}' is not in the model" for key in weights if key not in own]
    problems += [
        f"'{key}' is {tuple(weights[key].shape)}, the model has {tuple(value.shape)}"
        for key, value in own.items()
        if key in weights and weights[key].shape != value.shape
    ]
    return problems
