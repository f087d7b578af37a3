"""Balance: weights such that each term has its declared share of the gradient, or each class the same say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import DataError, RecipeError, nearest

EVERY = 50  # steps between two looks at the gradient
KEPT = 0.5  # part of a factor that a new look leaves


@dataclass(frozen=True)
class Balance:
    """Declared shares of the gradient's norm.

    The first of the terms keeps its weight; those of the others are such that the norm of each weighted term's gradient
    with respect to the student's parameters is to that of the first as their shares are. Shares need not sum to 1.

    Args:
        shares: of two terms or more, above 0.

    Raises:
        RecipeError: if a share is not a number above 0.

    Example:
        >>> balance = Balance({"supervised": 1, "kl": 3})
        >>> balance.factors({"supervised": 2.0, "kl": 0.5}, {})  # 12 times as much kl: 6.0 is 3 times 2.0
        {'supervised': 1.0, 'kl': 12.0}
    """

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.shares, Mapping) or len(self.shares) < 2:
            raise RecipeError(
                f"objective.balance is {self.shares!r}, expected a share for each of two terms or more",
                cure="such as balance: {supervised: 1, kl: 3}",
            )
        for name, share in self.shares.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < float("inf"):
                raise RecipeError(f"objective.balance.{name} is {share!r}, expected a number above 0")

    def check(self, names: Sequence[str], weights: Mapping[str, float]) -> None:
        """See that each share is of a term with a weight.

        Raises:
            RecipeError: naming the share.
        """
        for name in self.shares:
            if name not in names:
                raise RecipeError(f"objective.balance has no term '{name}'{nearest(name, names)}")
            if not weights[name]:
                raise RecipeError(f"objective.balance.{name} has a share and weight 0", cure="give it a weight")

    def factors(self, norms: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
        """Factors on the weights, from the norms of the gradients of the weighted terms without these factors.

        Args:
            norms: of this look; a term whose gradient is 0 now keeps its factor.
            before: factors of the look before, of which the mean (of their logarithms) is taken: gradients are noisy.
        """
        first, *rest = self.shares
        found = {first: 1.0}
        for name in rest:
            old = before.get(name)
            if not norms.get(name) or not norms.get(first):
                found[name] = 1.0 if old is None else old
                continue
            new = norms[first] * self.shares[name] / (self.shares[first] * norms[name])
            found[name] = new if old is None else old**KEPT * new ** (1 - KEPT)
        return found


def gradient_norms(means: Mapping[str, Tensor], parameters: Sequence[Tensor], summed: Any = None) -> dict[str, float]:
    """Norm of each term's gradient with respect to parameters; the graph is kept.

    Args:
        means: of each term, a scalar with a graph, or without: its norm is 0.
        parameters: of the student.
        summed: adds a tensor over processes; None: there is one.

    Example:
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> gradient_norms({"square": (w**2).sum(), "none": torch.tensor(1.0)}, [w])
        {'square': 6.0, 'none': 0.0}
    """
    found = {}
    for name, mean in means.items():
        flat = torch.zeros(sum(one.numel() for one in parameters), device=mean.device)
        if mean.requires_grad:
            gradients = torch.autograd.grad(mean, parameters, retain_graph=True, allow_unused=True)
            pairs = zip(gradients, parameters, strict=True)
            flat = torch.cat([(torch.zeros_like(p) if g is None else g).float().reshape(-1) for g, p in pairs])
        found[name] = float((flat if summed is None else summed(flat)).norm())
    return found


def balanced_weights(counts: Tensor, classes: Sequence[str]) -> tuple[float, ...]:
    """n / (C · n_c) for each class c of C, n labels being there.

    Raises:
        DataError: if a class has no sample.

    Example:
        >>> balanced_weights(torch.tensor([1, 3]), ("a", "b"))
        (2.0, 0.6666666666666666)
    """
    missing = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if missing:
        raise DataError(
            f"class '{missing[0]}' has no labeled training sample, so no balanced weight",
            cure="leave the class out, or give class_weights as a list of numbers",
        )
    every = sum(counts.tolist())
    return tuple(every / (len(classes) * count) for count in counts.tolist())
