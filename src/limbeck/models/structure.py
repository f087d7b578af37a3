"""The structure of a model whose channels were cut, as plain data: what rebuilds it without unpickling.

A pruned model is the architecture it came from with smaller layers. The sizes of the layers that differ are kept, in
the words of their constructors; the weights lie in a safetensors file beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from limbeck.errors import ModelError, nearest

Sizes = dict[str, dict[str, int]]

# What of a layer its channels decide, by kind; the first kind that fits counts.
_KINDS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_ConvNd, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_NormBase, ("num_features",)),
    (nn.GroupNorm, ("num_channels", "num_groups")),
    (nn.LayerNorm, ("normalized_shape",)),  # of one axis
    (nn.PReLU, ("num_parameters",)),
)


def sizes_of(module: nn.Module) -> Sizes:
    """The sizes of every layer whose kind is known, by its name.

    Args:
        module: any; nothing of it is changed.

    Example:
        >>> sizes_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)))
        {'0': {'in_channels': 3, 'out_channels': 8, 'groups': 1}, '2': {'num_features': 8}}
    """
    return {
        name: {key: _size(layer, key) for key in _kind(layer)} for name, layer in module.named_modules() if _kind(layer)
    }


def changed_sizes(module: nn.Module, base: nn.Module) -> Sizes:
    """The sizes of the layers that are smaller than they were.

    Args:
        module: the pruned model.
        base: the same architecture, whole.

    Raises:
        ModelError: if the two differ in more than the sizes of known layers: then sizes would not rebuild it.

    Example:
        >>> changed_sizes(nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 3)))
        {'0': {'in_features': 4, 'out_features': 2}}
    """
    now, before = sizes_of(module), sizes_of(base)
    own, other = ([name for name, _ in one.named_modules()] for one in (module, base))
    if own != other:
        raise ModelError(f"{type(module).__name__} has other modules than it had before it was pruned")
    found = {name: one for name, one in now.items() if one != before[name]}
    shapes = {name: one.shape for name, one in module.state_dict().items()}
    for name, whole in base.state_dict().items():
        layer = name.rpartition(".")[0]
        if shapes[name] != whole.shape and layer not in found:
            kind, was = type(module.get_submodule(layer)).__name__, list(whole.shape)
            raise ModelError(
                f"'{name}' became {list(shapes[name])} from {was}, and the sizes of a {kind} are not known",
                cure="keep that layer whole: name it under 'keep'",
            )
    return found


def resize(module: nn.Module, sizes: Mapping[str, Mapping[str, int]], *, where: str = "structure") -> nn.Module:
    """Give layers other sizes, in place, with weights of zeros: for a model whose weights are loaded next.

    Args:
        module: the whole architecture.
        sizes: by layer, as :func:`changed_sizes` gives them. They may come from anyone's file: nothing is made larger
            than it is in ``module``.
        where: the file they come from, for messages.

    Raises:
        ModelError: naming the layer, if it is not there or sizes are not such as pruning leaves.

    Example:
        >>> net = resize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        ...              {"0": {"in_channels": 3, "out_channels": 5, "groups": 1}, "1": {"num_features": 5}})
        >>> net[0].weight.shape, net[1].running_mean.shape
        (torch.Size([5, 3, 3, 3]), torch.Size([5]))
    """
    named = dict(module.named_modules())
    for name, wanted in sizes.items():
        if name not in named:
            raise ModelError(f"{where}: the model has no layer '{name}'{nearest(name, named)}")
        _check(named[name], wanted, f"{where}: layer '{name}'")
    for name, wanted in sizes.items():
        layer = named[name]
        for key, value in wanted.items():
            setattr(layer, key, (value,) if key == "normalized_shape" else value)
        for key, shape in _shapes(layer).items():
            _replace(layer, key, shape)
    return module


def _kind(layer: nn.Module) -> tuple[str, ...]:
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1:
        return ()
    return next((keys for kind, keys in _KINDS if isinstance(layer, kind)), ())


def _size(layer: nn.Module, key: str) -> int:
    found: Any = getattr(layer, key)
    return int(found[0] if isinstance(found, tuple) else found)


def _check(layer: nn.Module, wanted: Any, what: str) -> None:
    keys = _kind(layer)
    if not keys:
        raise ModelError(f"{what}: sizes of a {type(layer).__name__} are not known")
    if not isinstance(wanted, Mapping) or set(wanted) != set(keys):
        raise ModelError(f"{what}: expected {', '.join(keys)}, found {wanted!r:.200}")
    for key in keys:
        value, most = wanted[key], _size(layer, key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ModelError(f"{what}: expected {key} of 1 to {most}, found {value!r:.80}")
    parts = wanted.get("groups", 1)
    if any(wanted[key] % parts for key in ("in_channels", "out_channels") if key in wanted):
        raise ModelError(f"{what}: its channels do not divide into {parts} groups")
    if "num_groups" in wanted and wanted["num_channels"] % wanted["num_groups"]:
        raise ModelError(f"{what}: its channels do not divide into {wanted['num_groups']} groups")


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes that a layer's tensors have by its sizes."""
    own: Any = layer
    if isinstance(layer, _ConvNd):
        one, other = own.out_channels, own.in_channels
        first, second = (other, one) if layer.transposed else (one, other)
        return {"weight": (first, second // own.groups, *layer.kernel_size), "bias": (own.out_channels,)}
    if isinstance(layer, nn.Linear):
        return {"weight": (own.out_features, own.in_features), "bias": (own.out_features,)}
    count = _size(layer, _kind(layer)[0])
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (count,))


def _replace(layer: nn.Module, key: str, shape: tuple[int, ...]) -> None:
    before = getattr(layer, key, None)
    if not isinstance(before, Tensor) or before.shape == shape:
        return
    new = torch.zeros(shape, dtype=before.dtype, device=before.device)
    setattr(layer, key, nn.Parameter(new, requires_grad=before.requires_grad) if key in layer._parameters else new)


__all__ = ["Sizes", "changed_sizes", "resize", "sizes_of"]
