"""Attention transfer: where a layer is active, not with which channels."""

from __future__ import annotations

from torch import Tensor

from limbeck.losses.declare import compares
from limbeck.losses.shapes import by_channel, dimensions, mean_square, same_positions, same_samples, smaller, unit, wide


@compares("each_stage", same=False, weight=1000.0, equal=0.0, invariant=("scale", "rotation"))
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two normalized maps of activity.

    ``mean over the positions of (Q_s - Q_t)²`` with ``Q = A / |A|``, ``A = mean over the channels of F²``. The larger
    feature map is average-pooled to the smaller *before* squaring. The numbers of channels may differ: no adapter. The
    published weight 1000 belongs to this mean of squares; the paper's equation has the *norm* ``β/2 |Q_s - Q_t|``,
    whose gradient is undefined where the maps are equal.

    Args:
        student: feature map ``[B, C, H, W]``, or tokens ``[B, N, D]``, which count as N positions.
        teacher: feature map of any size and number of channels, or N tokens; a constant, no gradient reaches it.

    Returns:
        A pure number ``[B]``, from 0 to 2 / positions, not reduced over the samples, float32 (float64 for float64
        features). A feature that is 0 everywhere has the map 0.

    Raises:
        ModelError: if the samples or the numbers of positions differ, or there is one position only: its map is 1.

    Source: Zagoruyko, Komodakis, ICLR 2017, arXiv:1612.03928.

    Example:
        >>> import torch
        >>> f_s = torch.tensor([[[[3.0, 0.0]]]])  # A = (9, 0), Q = (1, 0)
        >>> f_t = torch.tensor([[[[3.0, 4.0]], [[3.0, 2.0]]]])  # A = (9, 10), Q = (.6690, .7433)
        >>> attention_transfer(f_s, f_t)  # (.3310² + .7433²) / 2
        tensor([0.3310])
    """
    same_samples("attention_transfer", student, teacher)
    for feature in (student, teacher):
        dimensions("attention_transfer", feature, (3, 4))
    student, teacher = (by_channel(feature) for feature in smaller(wide(student), wide(teacher.detach())))
    same_positions("attention_transfer", student, teacher, least=2)
    return (_activity(student) - _activity(teacher)).square().mean(1)


def _activity(feature: Tensor) -> Tensor:
    return unit(mean_square(feature, (1,)), tiny=1e-24)  # squares: a feature of 1e-12 is still one
