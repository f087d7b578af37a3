"""MixUp and CutMix: a sample and another one in one picture, whose label is shared between them.

Zhang et al., 2018, arXiv:1710.09412; Yun et al., 2019, arXiv:1905.04899. The partner is not another sample of the
batch but one of the split, drawn by the sample's own address, so that a picture does not depend on its batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.views.geometry import Numbers, boxes


def beta(number: Numbers, alpha: float) -> Numbers:
    """Beta(alpha, alpha) at a uniform number, by the inverse of its distribution.

    Example:
        >>> beta(np.array([0.25]), 1.0).tolist()
        [0.25]
    """
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, alpha, number), dtype=np.float64)


def blended(inputs: Tensor, partners: Tensor, share: Numbers) -> Tensor:
    """MixUp: ``share`` of each picture and the rest of its partner's, ``[B, C, H, W]``."""
    own = torch.from_numpy(share).float().reshape(-1, 1, 1, 1)
    return (inputs * own).add_(partners * (1 - own))


def box(inputs: Tensor, share: Numbers, place: tuple[Numbers, Numbers]) -> tuple[Tensor, Numbers]:
    """CutMix's rectangle, and the share of the picture outside of it.

    Its sides are ``sqrt(1 - share)`` of the picture's, in whole pixels; its middle is anywhere, and what would lie
    outside of the picture is cut off. The share that is given back is that of the pixels.

    Args:
        inputs: ``[B, C, H, W]``.
        share: wanted share of the picture itself.
        place: numbers in [0, 1) for the middle, horizontally and vertically.

    Returns:
        bool ``[B, 1, H, W]``: the pixels of the partner; and ``[B]``.
    """
    edges: list[Numbers] = []
    for size, middle in zip(inputs.shape[2:], reversed(place), strict=True):
        side, at = np.floor(size * np.sqrt(1 - share)), np.floor(middle * size)
        first = at - np.floor(side / 2)
        edges += [first.clip(0, size), (first + side).clip(0, size)]
    top, bottom, left, right = edges
    return boxes(inputs, top, left, bottom, right), 1 - (bottom - top) * (right - left) / np.prod(inputs.shape[2:])


def mixed(
    inputs: Tensor,
    partners: Tensor,
    cut: NDArray[np.bool_],
    share: Numbers,
    place: tuple[Numbers, Numbers],
) -> tuple[Tensor, Tensor]:
    """Pictures mixed with their partners.

    Args:
        inputs, partners: ``[B, C, H, W]``.
        cut: bool ``[B]``: by CutMix; else by MixUp.
        share: of the picture itself, ``[B]``.
        place: for :func:`box`.

    Returns:
        ``[B, C, H, W]``, and the shares, float32 ``[B]``; of CutMix the shares of pixels.
    """
    found = inputs
    if not cut.all():
        found = blended(inputs, partners, share)
    if cut.any():
        inside, left = box(inputs, share, place)
        chosen = torch.from_numpy(cut).reshape(-1, 1, 1, 1)
        found = torch.where(chosen, torch.where(inside, partners, inputs), found)
        share = np.where(cut, left, share)
    return found, torch.from_numpy(share).float()
