"""SimKD: the student's last map is led to the teacher's, whose classifier it keeps."""

from __future__ import annotations

from torch import Tensor

from limbeck.errors import ModelError
from limbeck.losses.declare import compares
from limbeck.losses.shapes import dimensions, mean_square, same_samples, smaller, wide


@compares("last_stage", same=True, weight=1.0, equal=0.0)
def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the student's projected last map and the teacher's last map.

    ``mean over the elements of a sample of (P(F_s) - F_t)²``. The paper trains with this alone, without labels and
    logits: the published weight 1. P belongs to the student that ships, with the teacher's classifier behind it: a run
    whose objective has this term makes such a student by itself, beside a control that stays plain. In a loop of one's
    own :func:`limbeck.models.reuse.reuse_classifier` does, whose layer ``projector`` is read with ``adapter="none"``.
    With an adapter in P's place, which does not ship, it is FitNets' hint.

    Args:
        student: feature map ``[B, C, H, W]``, after P.
        teacher: feature map of as many channels; a constant, no gradient reaches it. The larger map is average-pooled
            to the smaller.

    Returns:
        Squared units of the teacher's feature ``[B]``, not reduced over the samples, float32 (float64 for float64
        features).

    Raises:
        ModelError: if the samples or the channels differ.

    Source: Chen, Mei, Zhang, Wang, Feng, Chen, CVPR 2022, arXiv:2203.14001.

    Example:
        >>> import torch
        >>> f_s, f_t = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 5.0]]]])
        >>> simkd(f_s, f_t)  # (0 + 9) / 2
        tensor([4.5000])
    """
    same_samples("simkd", student, teacher)
    for feature in (student, teacher):
        dimensions("simkd", feature, (2, 3, 4))
    student, teacher = smaller(wide(student), wide(teacher.detach()))
    if student.shape != teacher.shape:
        raise ModelError(
            f"loss 'simkd' compares maps of one width; the student's is {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}",
            cure="make the student with limbeck.models.reuse.reuse_classifier, and read its layer 'projector'",
        )
    return mean_square(student - teacher)
