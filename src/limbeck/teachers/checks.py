"""Whether a teacher says what distillation can use, seen on real samples."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import ModelError, NumericsError
from limbeck.outputs import Outputs


def detect_probabilities(logits: Tensor) -> bool:
    """Whether a model's outputs are probabilities: no row has a negative value and each sums to 1.

    Needs at least 4 rows to say so, of which one is not one-hot. Log-probabilities are logits: their softmax at any
    temperature is that of the logits that they came from.

    Args:
        logits: ``[B, C]`` or ``[B, C, H, W]`` of real samples.

    Example:
        >>> z = torch.randn(8, 3)
        >>> detect_probabilities(z), detect_probabilities(z.softmax(1)), detect_probabilities(z.log_softmax(1))
        (False, True, False)
    """
    rows = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1])
    if len(rows) < 4 or logits.shape[1] < 2:
        return False
    rows = rows.float()
    sums = bool(((rows.sum(dim=1) - 1).abs() < 1e-2).all())  # as far off as a softmax in bfloat16 can be
    return sums and bool((rows >= 0).all()) and bool(((rows > 0) & (rows < 1)).any())


def check_logits(outputs: Outputs | Tensor, who: str, classes: int) -> None:
    """See on real data that a model gives logits for every class.

    Args:
        outputs: of several real samples, logits ``[B, C]`` or ``[B, C, H, W]``.
        who: the model's name for the message.
        classes: number of classes of the data.

    Raises:
        ModelError: if the shape is wrong, or the model ends in a softmax: every row is then a probability vector and
            softening it again would flatten what the teacher knows.
        NumericsError: if a logit is not finite.

    Example:
        >>> check_logits(torch.randn(8, 3), "the teacher", 3)
    """
    logits = Outputs.of(outputs).logits
    if logits.ndim < 2 or logits.shape[1] != classes:
        raise ModelError(
            f"{who} gives outputs of shape {tuple(logits.shape)}, expected [B, {classes}]: one logit for each class",
            cure="match the model's last layer to the classes of the data",
        )
    if not bool(torch.isfinite(logits).all()):
        bad = (~torch.isfinite(logits.flatten(1)).all(dim=1)).sum().item()
        raise NumericsError(
            f"{who} gives NaN or infinite logits for {bad} of {len(logits)} samples",
            cure="check its weights, and that its inputs are normalized as in its training",
        )
    if detect_probabilities(logits):
        raise ModelError(
            f"{who} ends in a softmax: on {len(logits)} samples its outputs are never negative and sum to 1",
            cure="remove the last softmax layer; distillation needs logits (log-probabilities are fine too)",
        )
