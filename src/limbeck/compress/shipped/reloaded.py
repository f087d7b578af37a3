"""A PyTorch model from the two files that ship: its description as JSON and its weights; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import FileError, LimbeckError, ModelError
from limbeck.files import read_json, read_tensors, sha256
from limbeck.models.lookup import UserModels, build
from limbeck.models.structure import resize

_KINDS: dict[str, type | tuple[type, ...]] = {
    "model": str, "options": dict, "classes": list, "shape": list, "normalization": dict, "file": str, "sha256": str,
}  # fmt: skip
_MOST = 10_000  # classes, and numbers of one axis of an input: what a description may claim


@dataclass(frozen=True)
class Reloaded:
    """A model as it shipped.

    Args:
        module: in eval mode, with the weights of the file.
        preparation: what a batch's inputs go through before it.
        classes: names, in the order of the logits.
        shape: of one input of a batch.
        told: the whole description.
    """

    module: nn.Module
    preparation: Preparation
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    told: Mapping[str, Any]


def reload(file: str | Path, *, user: UserModels | None = None) -> Reloaded:
    """Build the model that ``student.json`` describes, and load the weights beside it.

    Args:
        file: ``student.json``, or ``student.safetensors`` with ``student.json`` beside it.
        user: the user's own models, where it is one of them; see :func:`limbeck.models.user_models`.

    Raises:
        FileError: if a file is missing, damaged, or not the one that the description was written for.
        ModelError: if the description is not one of a model that can be built, naming key or layer.
    """
    path = Path(file).with_suffix(".json")
    told = read_json(path)
    if not isinstance(told, dict):
        raise FileError(f"{path} describes no model")
    for key, kind in _KINDS.items():
        if not isinstance(told.get(key), kind):
            raise FileError(f"{path} describes no model: '{key}' is {'missing' if key not in told else 'wrong'}")
    shape, classes = told["shape"], told["classes"]
    if not all(type(one) is int and 1 <= one <= _MOST for one in shape) or not 1 <= len(shape) <= 4:
        raise FileError(f"{path}: 'shape' is {shape!r:.80}, and no input is of that shape")
    if not 1 <= len(classes) <= _MOST or not all(isinstance(one, str) for one in classes):
        raise FileError(f"{path}: 'classes' has to be a list of 1 to {_MOST:,} names")
    if "parts" in told:
        raise ModelError(
            f"{path} is a student with its teacher's classifier, of {len(told['parts'])} parts, which no name builds",
            cure="use student.onnx, which holds all of it",
        )
    weights = path.with_name(Path(told["file"]).name)
    if not weights.is_file() or sha256(weights) != told["sha256"]:
        raise FileError(
            f"{weights} is missing, or not the file that {path.name} was written for", cure="fetch both files again"
        )
    module, preparation = _built(told, path, user)
    state = read_tensors(weights)[0]
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        lines = [one.strip() for one in str(error).splitlines()]
        raise ModelError(f"{weights} does not fit the model that {path.name} describes: {lines[-1][:300]}") from None
    return Reloaded(module.eval(), preparation, tuple(classes), tuple(shape), told)


def _built(told: Mapping[str, Any], path: Path, user: UserModels | None) -> tuple[nn.Module, Preparation]:
    size = told.get("input_size")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(one) is int for one in size)):
        raise FileError(f"{path}: 'input_size' is {size!r:.80}, expected [height, width]")
    try:
        normalization = Normalization.from_dict(told["normalization"])
        preparation = Preparation(normalization, None if size is None else (size[0], size[1]))
        shape = preparation.shape(tuple(told["shape"]))
        module = build(
            told["model"], input_shape=shape, classes=len(told["classes"]), options=told["options"], user=user
        )
    except LimbeckError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} describes no model that can be built: {error}") from None
    layers = told.get("layers", {})
    if not isinstance(layers, Mapping):
        raise FileError(f"{path}: 'layers' has to map layers to their sizes")
    return resize(module, layers, where=str(path)), preparation


__all__ = ["Reloaded", "reload"]
