"""Division by group: samples of one group (a patient, a tile) are never on both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.order import hashed
from limbeck.errors import DataError

_CHANGES = 1000  # of side


def grouped(targets: Tensor, groups: Sequence[str], share: float | int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Divide whole groups so that every class keeps its share as nearly as groups allow.

    Groups are met in an order drawn by the seed; each is taken if that brings the counts of the classes nearer to
    their share: smaller sum over classes of ((taken - wanted) / size)²; after that single groups change sides as long
    as that helps. A class that none was taken of gives the group that costs least.

    Args:
        targets: int64 ``[N]``; samples without label (-1) follow their group and are left out of what is taken.
        groups: of each sample.
        share: a fraction below 1, or a count.
        seed: of the choice.

    Returns:
        Addresses of the rest and of those taken, both sorted.

    Raises:
        DataError: if a class lies in one group only, or the share is not possible.

    Example:
        >>> rest, taken = grouped(torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]), list("aabbccdd"), 0.5, seed=0)
        >>> len(rest), len({"aabbccdd"[at] for at in rest} & {"aabbccdd"[at] for at in taken})
        (4, 0)
    """
    labels = targets.numpy()
    labeled = labels >= 0
    if isinstance(share, bool) or not math.isfinite(share):
        raise DataError(f"a split of {share} is not possible", cure="give a fraction below 1, or a count")
    part = share / labeled.sum() if isinstance(share, int) else share
    if not 0 < part < 1:
        raise DataError(f"a split of {share} of {int(labeled.sum())} samples is not possible")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    classes = int(labels.max()) + 1
    counts = np.zeros((len(names), classes))
    np.add.at(counts, (member[labeled], labels[labeled]), 1)
    size = np.maximum(counts.sum(0), 1)
    chosen = _choose(counts / size, part, np.argsort(hashed(seed, np.arange(len(names))), kind="stable"))
    inside = chosen[member]
    for where, what in ((inside, "those set aside"), (~inside, "the rest")):
        missing = sorted(set(labels[labeled].tolist()) - set(labels[labeled & where].tolist()))
        if missing:
            held = int((counts[:, missing[0]] > 0).sum())
            raise DataError(
                f"class {missing[0]} lies in {held} groups, and {what} can not have one of them at a share of {share}",
                cure="give a larger or smaller share, or splits of your own",
            )
    taken, rest = (inside & labeled).nonzero()[0], (~inside).nonzero()[0]
    return torch.from_numpy(rest), torch.from_numpy(taken)


def _choose(shares: NDArray[np.float64], part: float, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which groups are taken: bool ``[G]``; ``shares`` ``[G, C]`` is each group's part of each class."""
    chosen = np.zeros(len(shares), dtype=bool)
    missing = np.full(shares.shape[1], part)
    for group in order:
        after = missing - shares[group]
        if (after**2).sum() < (missing**2).sum():
            chosen[group], missing = True, after
    square = (shares**2).sum(1)
    for _ in range(_CHANGES):  # then the one group whose change of side helps most, as long as one does
        more = square - 2 * np.where(chosen, -1, 1) * (shares @ missing)  # in the sum of squares, for each group
        best = int(np.argmin(more))
        if more[best] >= -1e-12:
            break
        missing = missing + (shares[best] if chosen[best] else -shares[best])
        chosen[best] = not chosen[best]
    for one in np.flatnonzero(shares.any(0)):
        having = order[shares[order, one] > 0]
        if not chosen[having].any() and len(having) > 1:
            best = having[np.argmin([((missing - shares[group]) ** 2).sum() for group in having])]
            chosen[best], missing = True, missing - shares[best]
    return chosen
