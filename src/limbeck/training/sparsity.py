"""Weights that are zero and stay zero while a training goes on: masks by magnitude, at once or by a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from limbeck.errors import ModelError, RecipeError, nearest
from limbeck.models.heads import find_head
from limbeck.training.settings import Sparsity

Masks = dict[str, Tensor]  # True: the weight is kept


def thinned_weights(module: nn.Module, keep: Sequence[str] = ()) -> list[str]:
    """The tensors that weights are taken from: those of convolutions and linear layers, but for the head's.

    Args:
        module: the model.
        keep: names of modules that keep all weights.

    Raises:
        ModelError: if a name is not one of the model's, or nothing is left.

    Example:
        >>> thinned_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)))
        ['0.weight']
    """
    named = dict(module.named_modules())
    for name in keep:
        if not name or name not in named:
            raise ModelError(f"the model has no module '{name}' to keep{nearest(name, named)}")
    whole = {id(part) for name in (*find_head(module), *keep) for part in module.get_submodule(name).modules()}
    found = [
        f"{name}.weight" if name else "weight"
        for name, layer in named.items()
        if isinstance(layer, _ConvNd | nn.Linear) and id(layer) not in whole
    ]
    if not found:
        raise ModelError(f"{type(module).__name__} has no weights that could be set to zero beside its head's")
    return found


def zeros_of(module: nn.Module, names: Sequence[str]) -> Masks:
    """The masks of weights that are zero already."""
    return {name: module.get_parameter(name).detach() != 0 for name in names}


def magnitude_masks(
    module: nn.Module, sparsity: float, names: Sequence[str], *, scope: str = "global", before: Masks | None = None
) -> Masks:
    """Masks that leave the largest weights; what was masked before stays so.

    Args:
        module: with the weights.
        sparsity: share of the weights that are zero, in [0, 1).
        names: of the tensors.
        scope: ``global``: weights of all tensors are compared with each other; ``uniform``: of each tensor alone.
        before: masks that these are to be within.

    Raises:
        RecipeError: naming the layer, if it would have no weight left; or if the sparsity is not in [0, 1).

    Source: Han, Pool, Tran, Dally, 2015, arXiv:1506.02626.

    Example:
        >>> net = nn.Linear(4, 1)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[0.1, -3.0, 2.0, -0.2]]))
        >>> magnitude_masks(net, 0.5, ["weight"])
        {'weight': tensor([[False,  True,  True, False]])}
    """
    if not 0 <= sparsity < 1:
        raise RecipeError(f"expected a sparsity in [0, 1), found {sparsity:g}")
    sizes = {name: _sizes(module, name, before) for name in names}
    if scope == "uniform":
        found = {name: _largest(one, round(sparsity * len(one))) for name, one in sizes.items()}
    else:
        every = torch.cat(list(sizes.values()))
        kept = _largest(every, round(sparsity * len(every)))
        found = dict(zip(sizes, kept.split([len(one) for one in sizes.values()]), strict=True))
    for name, mask in found.items():
        if not bool(mask.any()):
            raise RecipeError(
                f"a sparsity of {sparsity:.1%} leaves nothing of '{name}'",
                cure="prune less, name the layer under 'keep', or scope: uniform",
            )
    return {name: mask.reshape(module.get_parameter(name).shape) for name, mask in found.items()}


def apply_masks(module: nn.Module, masks: Mapping[str, Tensor], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Set masked weights to zero, and what an optimizer remembers of them, so that it does not move them."""
    with torch.no_grad():
        for name, mask in masks.items():
            parameter = module.get_parameter(name)
            parameter.masked_fill_(~mask, 0.0)  # not times 0, which leaves signs
            state: dict[Any, Any] = {} if optimizer is None else optimizer.state.get(parameter, {})
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(~mask, 0.0)


def sparsity_of(module: nn.Module, names: Sequence[str]) -> float:
    """The share of the weights in these tensors that are zero.

    Example:
        >>> net = nn.Linear(4, 1)
        >>> apply_masks(net, {"weight": torch.tensor([[True, True, True, False]])})
        >>> sparsity_of(net, ["weight"])
        0.25
    """
    tensors = [module.get_parameter(name) for name in names]
    return sum(int((one == 0).sum()) for one in tensors) / sum(one.numel() for one in tensors)


def polynomial(done: float, start: float, final: float, begin: float, end: float) -> float:
    """The sparsity when a share of the training is done: steep at first, flat at the end.

    ``s = final + (start - final) · (1 - (done - begin) / (end - begin))³`` between ``begin`` and ``end``.

    Source: Zhu, Gupta, 2017, arXiv:1710.01878.

    Example:
        >>> [polynomial(done, 0.0, 0.8, 0.0, 0.5) for done in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.7000..., 0.8, 0.8]
    """
    if done >= end:
        return final
    if done < begin:
        return start
    return final + (start - final) * (1 - (done - begin) / (end - begin)) ** 3


class Thinning:
    """The masks of a training: grown by the schedule, applied after every step.

    Args:
        module: as it begins; zeros that it has stay zeros.
        asked: what is asked for.
        steps: optimizer steps of the whole training.

    Example:
        >>> net = nn.Linear(4, 1)
        >>> with torch.no_grad():
        ...     _ = net.weight.copy_(torch.tensor([[0.1, -3.0, 2.0, -0.2]]))
        >>> thinning = Thinning(nn.Sequential(net, nn.Linear(1, 2)), Sparsity(0.5, end=0.0), 10)
        >>> net.weight.tolist()
        [[0.0, -3.0, 2.0, 0.0]]
    """

    def __init__(self, module: nn.Module, asked: Sparsity, steps: int) -> None:
        self._asked, self._steps = asked, steps
        self.names = thinned_weights(module, asked.keep)
        self.masks = zeros_of(module, self.names)
        self._start = sparsity_of(module, self.names)
        self._final = self._start if asked.final is None else asked.final
        if self._final < self._start:
            raise RecipeError(
                f"a sparsity of {self._final:.1%} is asked for, and {self._start:.1%} of the weights are zero already",
                cure="give a larger sparsity, or leave it out to keep the zeros",
            )
        self._grow(module, 0)

    def after_step(self, module: nn.Module, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Grow the masks where it is time, and apply them.

        Args:
            module: whose weights were moved.
            step: how many steps were taken.
            optimizer: that moved them.
        """
        ends = {self._at(self._asked.begin), self._at(self._asked.end)}
        if step % self._asked.every == 0 or step in ends:
            self._grow(module, step)
        apply_masks(module, self.masks, optimizer)

    def settled(self, step: int) -> bool:
        """Whether no more weights will go after so many steps."""
        return self._asked.final is None or step >= self._at(self._asked.end)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {name: one.to(torch.uint8) for name, one in self.masks.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put it back."""
        self.masks = {name: tensors[name].to(one.device, torch.bool) for name, one in self.masks.items()}

    def _at(self, share: float) -> int:
        return round(share * self._steps)

    def _grow(self, module: nn.Module, step: int) -> None:
        if self._asked.final is None:
            return
        # In whole steps, so that the last growth falls on a step and reaches the final sparsity exactly.
        begin, end = self._at(self._asked.begin), self._at(self._asked.end)
        wanted = polynomial(step, self._start, self._final, begin, end)
        self.masks = magnitude_masks(module, wanted, self.names, scope=self._asked.scope, before=self.masks)
        apply_masks(module, self.masks)


def _sizes(module: nn.Module, name: str, before: Masks | None) -> Tensor:
    found = module.get_parameter(name).detach().abs().flatten().float()
    return found if before is None else torch.where(before[name].flatten().to(found.device), found, -1.0)


def _largest(sizes: Tensor, without: int) -> Tensor:
    """All but the smallest, ties by their place."""
    mask = torch.ones(len(sizes), dtype=torch.bool, device=sizes.device)
    mask[torch.argsort(sizes, stable=True)[:without]] = False
    return mask


__all__ = [
    "Masks",
    "Thinning",
    "apply_masks",
    "magnitude_masks",
    "polynomial",
    "sparsity_of",
    "thinned_weights",
    "zeros_of",
]
