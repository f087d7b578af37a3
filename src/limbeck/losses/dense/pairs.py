"""Pair-wise distillation: how similar the places of an image are to each other."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool2d

from limbeck.losses.declare import compares
from limbeck.losses.logits.soften import above_zero
from limbeck.losses.shapes import by_channel, dimensions, gram, same_positions, same_samples, smaller, unit, wide


@compares("last_stage", same=False, weight=0.5, equal=0.0, invariant=("scale",))
def pairwise(student: Tensor, teacher: Tensor, *, scale: float = 0.5) -> Tensor:
    """Squared difference of the cosine similarities between all places of a feature map, after max-pooling.

    ``mean over i, j of (a_s - a_t)²``, ``a_ij = f_i·f_j / (|f_i| |f_j|)``, f the channels at a place. Widths may
    differ; of two sizes the larger map is average-pooled to the smaller first. The pooling's window is ``scale`` times
    the map's height and width (rounded down, at least 1), so that the default leaves 2 x 2 places of an even map, and
    a scale of 1/W all of them: the matrix has (places)² numbers for each sample.

    The norm is part of the gradient, which so has no part along a place's own vector; the paper's code detaches the
    student's norm, with the same value and another gradient.

    Args:
        student: feature map ``[B, C, H, W]``.
        teacher: feature map of the same samples; a constant, no gradient reaches it.
        scale: the window's side by the map's, above 0.

    Returns:
        A pure number ``[B]``, from 0 to 4, not reduced over the samples, float32 (float64 for float64 maps). A place
        without activation has the similarity 0 to all.

    Raises:
        ModelError: if these are no maps of the same samples, or a single place is left.
        RecipeError: if the scale is not above 0.

    Source: Liu, Chen, Liu, Qin, Luo, Wang, CVPR 2019, arXiv:1903.04197; there weight 0.5.

    Example:
        >>> import torch
        >>> f_s = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # (1, 0) and (0, 1): similarity 0
        >>> f_t = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])  # (1, 0) and (3, 0): 1
        >>> pairwise(f_s, f_t)  # (0 + 1 + 1 + 0) / 4
        tensor([0.5000])
    """
    above_zero("pairwise.scale", scale)
    for maps in (student, teacher):
        dimensions("pairwise", maps, (4,))
    same_samples("pairwise", student, teacher)
    student, teacher = smaller(wide(student), wide(teacher.detach()))
    window = [max(1, int(side * scale)) for side in student.shape[2:]]
    ours, theirs = (by_channel(max_pool2d(maps, window, window, ceil_mode=True)) for maps in (student, teacher))
    same_positions("pairwise", ours, theirs, least=2)
    return (gram(unit(ours.mT)) - gram(unit(theirs.mT))).square().mean((1, 2))
