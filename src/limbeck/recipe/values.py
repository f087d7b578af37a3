"""Checks of single values of a recipe. Nothing here imports, opens or calls what a recipe names."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import PydanticCustomError

from limbeck.errors import nearest

_NAMES = {
    "limbeck": r"[a-z][a-z0-9_]{0,79}",
    "torchvision": r"[a-z][a-z0-9_]{0,79}",
    "timm": r"[a-z][a-z0-9_]{0,79}(\.[a-z0-9_]{1,79})?",
    "smp": r"[a-z][a-z0-9_]{0,79}",
    "user": r"[A-Za-z][A-Za-z0-9_]{0,79}",
}
# Keyword arguments of torchvision and timm that read files or fetch weights, or that limbeck gives itself. Those of
# segmentation_models_pytorch are refused where the model is built: a user's own may have an "activation".
_NOT_OPTIONS = {
    "cache_dir", "checkpoint_path", "classes", "features_only", "in_chans", "input_shape", "num_classes", "pretrained",
    "pretrained_cfg", "pretrained_cfg_overlay", "scriptable", "weights", "weights_backbone",
}  # fmt: skip


def wrong(text: str) -> PydanticCustomError:
    """A mistake in the words of a recipe.

    Example:
        >>> wrong("expected a path").message()
        'expected a path'
    """
    return PydanticCustomError("expected", "{text}", {"text": text})


def run_name(value: str) -> str:
    """A name that can be a folder's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        raise wrong("expected a name for the run's folder: letters, digits, '.', '_' and '-', at most 80")
    return value


def local_path(value: str) -> str:
    """A path on this machine."""
    if not value.strip() or any(ord(letter) < 32 for letter in value):
        raise wrong("expected a path, printable and not empty")
    if "://" in value:
        raise wrong("expected a path on this machine; a recipe fetches nothing from an address")
    return value


def weights_file(value: str) -> str:
    """A path of a kind that weights are read from."""
    if not value.endswith((".safetensors", ".pth", ".pt")):
        raise wrong("expected a file that ends in .safetensors, .pth or .pt")
    return value


def teacher_file(value: str) -> str:
    """A path of a kind that a teacher is read from."""
    if not value.endswith((".safetensors", ".pth", ".pt", ".onnx")):
        raise wrong("expected a file that ends in .safetensors, .pth, .pt or .onnx")
    return value


def class_name(value: Any) -> Any:
    """A class's name: the number 3, as YAML reads it, is class '3'."""
    return str(value) if type(value) is int else value


def number_or_fraction(value: Any) -> int | float:
    """A count of samples, or a part of them.

    Example:
        >>> number_or_fraction(500), number_or_fraction(0.1)
        (500, 0.1)
    """
    if type(value) is int and 1 <= value <= 10**9:
        return value
    if type(value) is float and 0 < value < 1:
        return value
    raise wrong("expected a fraction between 0 and 1, or a count of samples (1 or more)")


def image_size(value: Any) -> int | list[int]:
    """The side of a square image, or [height, width].

    Example:
        >>> image_size(224), image_size([180, 240])
        (224, [180, 240])
    """
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    if not all(type(side) is int and 1 <= side <= 10_000 for side in sides):
        raise wrong("expected the side of a square in pixels, or [height, width]")
    return value


def module_name(value: str) -> str:
    """A dotted name, as ``named_modules`` gives it."""
    if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", value):
        raise wrong("expected the name of a module, such as fc or classifier.6")
    return value


def model_name(value: str) -> str:
    """A name in one of the closed namespaces; limbeck's own are looked up, the libraries' when the model is built.

    Example:
        >>> model_name("torchvision/resnet18")
        'torchvision/resnet18'
    """
    namespace, _, name = value.partition("/")
    if namespace not in _NAMES or not name:
        spaces = ", ".join(f"{space}/NAME" for space in _NAMES)
        raise wrong(f"expected {spaces}, found '{value[:60]}'{nearest(namespace[:60], _NAMES)}")
    if not re.fullmatch(_NAMES[namespace], name):
        raise wrong(f"expected a plain model name after {namespace}/ (letters, digits, underscores)")
    if namespace == "limbeck":
        own = own_models()
        if name not in own:
            known = ", ".join(f"limbeck/{one}" for one in own)
            raise wrong(f"expected one of {known}, found '{value}'{nearest(name, own)}")
    return value


def not_a_number(value: Any) -> Any:
    """Refuse 1 for true, which Python takes for the same."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong("expected auto, true or false")
    return value


def own_models() -> list[str]:
    """The names that may follow ``limbeck/``."""
    from limbeck.models import lookup

    return sorted(lookup._LIMBECK)


def option_values(value: Any) -> dict[str, Any]:
    """Keyword arguments of an architecture: text, true, false, finite numbers, null, or lists of these."""
    if not isinstance(value, dict):
        raise wrong("expected a mapping from option to value")
    for name, option in value.items():
        if not re.fullmatch(r"[a-z][A-Za-z0-9_]{0,59}", name):
            raise wrong(f"expected names of keyword arguments, found '{name[:60]}'")
        if name in _NOT_OPTIONS:
            raise wrong(f"'{name}' is not an option of the architecture; use the keys of the recipe")
        for item in option if isinstance(option, list) else [option]:
            if not (item is None or isinstance(item, bool | str) or _usable(item)):
                raise wrong(f"option '{name}': expected text, true, false, a finite number or a list of these")
    return value


def _usable(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= 1e15
