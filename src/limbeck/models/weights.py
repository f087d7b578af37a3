"""Loading weights into a model, every key accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from limbeck.errors import ModelError, nearest
from limbeck.files import read_weights


def load_weights(module: nn.Module, path: str | Path, *, name: str) -> nn.Module:
    """Load a state dict from ``path`` into ``module``, every key accounted for.

    Raises:
        FileError: if the file can not be read as plain weights.
        ModelError: if keys are missing, left over, or of another shape: each named.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.files import write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_tensors(f"{folder}/w.safetensors", {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        ...     load_weights(nn.Linear(2, 1), path, name="linear").weight.tolist()
        [[1.0, 1.0]]
    """
    start_from(module, path, name=name, head=())
    return module


def start_from(module: nn.Module, path: str | Path, *, name: str, head: Sequence[str]) -> str | None:
    """Load all that fits; a head of another class count, or one that the file lacks, stays as it was made.

    Args:
        module: the model, changed in place.
        path: of the weights.
        name: of the model.
        head: names of its head's modules; empty: everything must fit.

    Returns:
        What was left out, in words, or None.

    Raises:
        FileError: if the file can not be read as plain weights.
        ModelError: if anything else does not fit: each key named.

    Example:
        >>> import tempfile
        >>> from limbeck.files import write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_tensors(f"{folder}/w.safetensors", nn.Sequential(nn.Linear(2, 5)).state_dict())
        ...     start_from(nn.Sequential(nn.Linear(2, 3)), path, name="mine", head=("0",))
        "the head '0' of mine starts anew: w.safetensors has 5 outputs there, the data 3 classes"
    """
    weights = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    own = module.state_dict()
    new = [key for key in own if _under(key, head) and _differs(own[key], weights.get(key))]
    kept = {key: value for key, value in weights.items() if key not in new}
    problems = _mismatches({key: value for key, value in own.items() if key not in new}, kept)
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise ModelError(
            f"{path} does not fit model '{name}': {'; '.join(problems[:6])}{more}",
            cure="name the architecture that these weights were trained for, with its options and class count",
        )
    module.load_state_dict({**own, **kept})
    if not new:
        return None
    there = weights.get(new[-1])
    found = f"has {len(there)} outputs there" if there is not None and there.ndim else "lacks it"
    return (
        f"the head '{', '.join(head)}' of {name} starts anew: {Path(path).name} {found}, the data "
        f"{len(own[new[-1]])} classes"
    )


def _under(key: str, head: Sequence[str]) -> bool:
    return any(key.startswith(f"{name}.") for name in head)


def _differs(own: Tensor, other: Tensor | None) -> bool:
    """Whether a head's tensor is missing, or has another number of outputs and nothing else."""
    return other is None or (own.ndim == other.ndim and own.shape != other.shape and own.shape[1:] == other.shape[1:])


def _mismatches(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    problems = [f"'{key}' is missing{nearest(key, weights)}" for key in own if key not in weights]
    problems += [f"'{key}' is not in the model" for key in weights if key not in own]
    problems += [
        f"'{key}' is {tuple(weights[key].shape)}, the model has {tuple(value.shape)}"
        for key, value in own.items()
        if key in weights and weights[key].shape != value.shape
    ]
    return problems
