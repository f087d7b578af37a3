"""Taps: reading what named layers give. The only file that hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.errors import ModelError, nearest


class Tap:
    """Reads the outputs of named layers of a module while it is open; afterwards the module is as it was.

    Args:
        module: any module; it is run by the caller, in the caller's mode.
        layers: names as in ``module.named_modules()``.

    Raises:
        ModelError: if the module has no such layer, or a layer gives something else than a tensor.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with Tap(net, ["1"]) as tap:
        ...     _ = net(torch.zeros(4, 2))
        >>> tap.features["1"].shape
        torch.Size([4, 3])
    """

    def __init__(self, module: nn.Module, layers: Iterable[str]) -> None:
        known = dict(module.named_modules(remove_duplicate=False))
        self._module, self._layers = module, {name: known.get(name) for name in layers}
        for name, layer in self._layers.items():
            if layer is None:
                cure = "take a name of module.named_modules()"
                raise ModelError(f"the model has no layer '{name}'{nearest(name, known)}", cure=cure)
        self._features: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def features(self) -> Mapping[str, Tensor]:
        """What each layer gave in the latest pass, graph and all; its last call counts where it is called twice."""
        return self._features

    def __enter__(self) -> Tap:
        # A layer that a pass leaves out must not keep what it gave in the pass before.
        self._handles.append(self._module.register_forward_pre_hook(lambda *_: self._features.clear()))
        for name, layer in self._layers.items():
            if layer is not None:
                self._handles.append(layer.register_forward_hook(self._keep(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"layer '{name}' gives {type(output).__name__}, expected a tensor",
                    cure="tap a layer inside of it, or the one after it",
                )
            self._features[name] = output

        return hook


def shapes(module: nn.Module, inputs: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The shape of what every layer gives, in the order of the calls; layers that give no tensor are left out.

    Args:
        module: is run once as it is; put it in eval mode first, else BatchNorm learns from these inputs.
        inputs: of the module.

    Example:
        >>> import torch
        >>> shapes(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(1, 2, 2))
        [('0', (1, 4)), ('1', (1, 3)), ('', (1, 3))]
    """
    found: list[tuple[str, tuple[int, ...]]] = []

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.append((name, tuple(output.shape)))

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in module.named_modules()]
    try:
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
