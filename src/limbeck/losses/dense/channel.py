"""Channel-wise distillation: where in the image a channel is active."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.losses.declare import compares
from limbeck.losses.dense.resized import at_students_size
from limbeck.losses.logits.soften import above_zero
from limbeck.losses.shapes import same_positions


@compares("logits", weight=3.0, equal=0.0, invariant=("shift",), classes=1, dense=True)
def cwd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0, mask: Tensor | None = None) -> Tensor:
    """Divergence of where each channel is active: a softmax over positions, not over classes.

    ``(T²/C) Σ_c KL(q_t(c) || q_s(c))``, ``q(c) = softmax`` over the H·W positions of channel c, divided by T. Of
    logits, or with ``at`` of feature maps, which an adapter brings to one width. If sizes differ, the teacher's maps
    are resized to the student's (bilinear). The paper's T is 4, with weight 3 on logits, which is the default, and 50
    on features.

    Args:
        student: logits or feature map ``[B, C, H, W]``, H·W ≥ 2.
        teacher: maps of the same channels; a constant, no gradient reaches it.
        temperature: T > 0.
        mask: bool ``[B, H, W]`` of the positions that count, or ``[B]`` of the samples: the softmax is over these only.

    Returns:
        Nats (times T²) ``[B]``, mean over the channels, float32 (float64 for float64 maps). 0, with a graph, for a
        sample without a position that counts.

    Raises:
        ModelError: if shapes do not fit, or there is one position only.
        RecipeError: if the temperature is not above 0.

    Source: Shu, Liu, Gao, Yan, Shen, ICCV 2021, arXiv:2011.13256.

    Example:
        >>> z_s, z_t = torch.zeros(1, 1, 1, 2), torch.tensor([[[[2.0, 0.0]]]])
        >>> cwd(z_s, z_t, temperature=2.0)  # q_t = (.7311, .2689): 4 (ln 2 - .5822)
        tensor([0.4438])
    """
    above_zero("cwd.temperature", temperature)
    student, teacher = at_students_size("cwd", student, teacher)
    kept = None if mask is None else _positions(mask, student)
    student, teacher = student.flatten(2), teacher.flatten(2)
    same_positions("cwd", student, teacher, least=2)
    if kept is not None:
        student, teacher = _only(student, kept), _only(teacher, kept)
    log_s, log_t = (torch.log_softmax(maps / temperature, dim=2) for maps in (student, teacher))
    terms = log_t.exp() * (log_t - log_s if kept is None else torch.where(kept, log_t - log_s, 0.0))
    return terms.sum(2).mean(1) * temperature**2


def _positions(mask: Tensor, maps: Tensor) -> Tensor:
    """A mask of samples or positions as ``[B, 1, H·W]``."""
    samples, _, height, width = maps.shape
    if mask.dtype != torch.bool or tuple(mask.shape) not in ((samples,), (samples, height, width)):
        raise ModelError(
            f"loss 'cwd' takes a mask of bools {(samples, height, width)} or {(samples,)} for maps "
            f"{tuple(maps.shape)}; it is {tuple(mask.shape)} of {mask.dtype}",
            cure="give True for the positions that count, at the size of the student's map",
        )
    return mask.reshape(samples, 1, -1).expand(samples, 1, height * width)


def _only(maps: Tensor, kept: Tensor) -> Tensor:
    """Maps with -inf where they do not count; 0 in a sample where nothing does."""
    return torch.where(kept, maps, 0.0).masked_fill(~kept & kept.any(2, keepdim=True), -torch.inf)
