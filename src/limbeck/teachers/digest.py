"""What tells one model from another: digests of its tensors and of its structure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def weights_digest(module: nn.Module) -> str:
    """sha256 over a module's state, by name.

    Example:
        >>> weights_digest(nn.Linear(2, 1)) == weights_digest(nn.Linear(2, 1))
        False
    """
    return tensors_digest(module.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over tensors, by name.

    Example:
        >>> tensors_digest({"a": torch.ones(2)}) == tensors_digest({"b": torch.ones(2)})
        False
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def all_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of a module, also those that are no part of its state.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> norm.register_buffer("scale", torch.ones(1), persistent=False)
        >>> list(all_tensors(norm))
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked', 'scale']
    """
    named = dict(module.named_parameters(remove_duplicate=False))
    return {**named, **dict(module.named_buffers(remove_duplicate=False))}


def structure_digest(module: nn.Module) -> str:
    """sha256 over the names and kinds of a module's parts, and over what each says of itself.

    Two models of the same tensors differ here if one has another activation, stride or number of heads; of what stands
    in a ``forward`` alone it knows nothing.

    Example:
        >>> relu, gelu = (nn.Sequential(nn.Linear(2, 2), one()) for one in (nn.ReLU, nn.GELU))
        >>> structure_digest(relu) == structure_digest(gelu), structure_digest(relu) == structure_digest(relu)
        (False, True)
    """
    parts = [(name, type(one).__name__, one.extra_repr()) for name, one in module.named_modules(remove_duplicate=False)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


__all__ = ["all_tensors", "structure_digest", "tensors_digest", "weights_digest"]
