"""Relational knowledge distillation: distances between samples, and angles of three."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss
from torch.utils.checkpoint import checkpoint

from limbeck.errors import RecipeError
from limbeck.losses.declare import compares
from limbeck.losses.relations.rows import both, sized
from limbeck.losses.shapes import gram


@compares("pooled", same=False, relational=True, weight=25.0, equal=0.0, invariant=("scale", "rotation"), batch=3)
def rkd_distance(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Huber loss of the distances between samples, each network's in units of its own mean distance.

    ``(1/B²) Σ_ij Huber(d_s - d_t)``, ``d_ij = |x_i - x_j| / μ``, μ the mean of that network's positive distances,
    ``Huber(a) = a²/2`` below 1, else ``|a| - 1/2``. Rows are not normalized. Gradients flow through μ too. Widths may
    differ. With two samples d is 1 whatever they are: a gradient takes three.

    Distances come from differences (``torch.cdist`` without its product form): ``|x|² + |y|² - 2xy`` has no digit left
    where rows nearly agree, and subtracting in torch would hold B²·D numbers. At equal rows the gradient is 0.

    Args:
        student: pooled vectors ``[B, D]``; maps and tokens are flattened.
        teacher: feature of the same samples; a constant, no gradient reaches it.
        mask: bool ``[B]``; samples where it is False are left out, of μ and of the mean too.

    Returns:
        A scalar without a unit, float32 (float64 for float64 features). 0, with a graph, if no pair is left.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.

    Source: Park, Kim, Lu, Cho, CVPR 2019, arXiv:1904.05068. Published weight 25, beside 50 of :func:`rkd_angle`.

    Example:
        >>> x_s = torch.tensor([[0.0], [1.0], [3.0]])  # 1, 2, 3: μ = 2, d = .5, 1, 1.5
        >>> x_t = torch.tensor([[0.0], [1.0], [2.0]])  # 1, 1, 2: μ = 4/3, d = .75, .75, 1.5
        >>> rkd_distance(x_s, x_t)  # each pair twice: 2 (.25²/2 + .25²/2) / 9
        tensor(0.0139)
    """
    ours, theirs = both("rkd_distance", student, teacher, mask)
    if len(ours) == 0:
        return ours.sum()
    return smooth_l1_loss(_distances(ours), _distances(theirs))


@compares("pooled", same=False, relational=True, weight=50.0, equal=0.0, invariant=("scale", "rotation"), batch=3)
def rkd_angle(student: Tensor, teacher: Tensor, *, chunk: int = 256, mask: Tensor | None = None) -> Tensor:
    """Huber loss of the angles that three samples form.

    ``(1/B³) Σ_ijk Huber(a_s - a_t)``, ``a_ijk = cos`` of the angle at vertex i between j and k, 0 where j or k equals
    the vertex. With two samples no angle depends on them: a gradient takes three.

    Args:
        student: pooled vectors ``[B, D]``; maps and tokens are flattened.
        teacher: feature of the same samples; a constant.
        chunk: no tensor holds more than about chunk³ numbers (256: 64 MiB in float32, so for D up to 256 all of a batch
            of 256 at once). Larger batches go vertex by vertex, in pieces that are computed again in the backward pass:
            slower, the same value.
        mask: bool ``[B]``; samples where it is False are left out.

    Returns:
        A scalar without a unit, from 0 to below 1.5, float32 (float64 for float64 features). 0, with a graph, if no
        sample is left.

    Raises:
        ModelError: if there are not the same samples on both sides, or the mask does not fit.
        RecipeError: if chunk is not above 0.

    Source: Park, Kim, Lu, Cho, CVPR 2019, arXiv:1904.05068. Published weight 50, beside 25 of :func:`rkd_distance`.

    Example:
        >>> x_s = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cos: 0, .7071, .7071
        >>> x_t = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # cos: 1, -1, 1
        >>> rkd_angle(x_s, x_t)  # each angle twice: 2 (.5 + (1.7071 - .5) + .2929²/2) / 27
        tensor(0.1296)
    """
    if chunk < 1:
        raise RecipeError(f"rkd_angle.chunk is {chunk}, expected a whole number above 0")
    ours, theirs = both("rkd_angle", student, teacher, mask)
    count = len(ours)
    if count == 0:
        return ours.sum()
    ours, theirs = sized(ours), sized(theirs)
    piece = max(1, chunk**3 // (count * max(count, ours.shape[1], theirs.shape[1], 1)))
    if piece >= count:
        return _of_vertices(ours, theirs, 0, count) / count**3
    parts = [
        checkpoint(
            _of_vertices, ours, theirs, start, min(start + piece, count), use_reentrant=False, preserve_rng_state=False
        )
        for start in range(0, count, piece)
    ]
    return torch.stack(parts).sum() / count**3


def _distances(rows: Tensor) -> Tensor:
    """Distances ``[B, B]`` in units of the mean of the positive ones."""
    rows = sized(rows)
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / (distances.sum() / (distances > 0).sum().clamp(min=1)).clamp(min=1e-30)


def _of_vertices(student: Tensor, teacher: Tensor, start: int, stop: int) -> Tensor:
    """The summed Huber loss of all angles at some of the vertices."""
    return smooth_l1_loss(_cosines(student, start, stop), _cosines(teacher, start, stop), reduction="sum")


def _cosines(rows: Tensor, start: int, stop: int) -> Tensor:
    """Cosines ``[vertices, B, B]``; equal rows have the direction 0, and no gradient."""
    differences = rows[start:stop, None] - rows[None]
    squares = differences.square().sum(-1, keepdim=True)
    apart = squares > 0
    return gram(differences * torch.where(apart, torch.where(apart, squares, 1.0).rsqrt(), 0.0))
