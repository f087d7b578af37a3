"""Findings about the positive class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from limbeck.doctor.finding import Finding, percent

RARE = 0.35  # share of a class, below which it is probably the one that is looked for


def undeclared(targets: Tensor, classes: Sequence[str], positive: str | None) -> list[Finding]:
    """Two classes, one of them rare, and no word on which is looked for.

    Args:
        targets: int64 ``[N]`` of the training split, -1 for no label.
        classes: names.
        positive: the declared positive class.

    Example:
        >>> import torch
        >>> undeclared(torch.tensor([0, 0, 0, 0, 1]), ["benign", "malignant"], None)[0].code
        'no_positive_class'
        >>> undeclared(torch.tensor([0, 0, 0, 0, 1]), ["benign", "malignant"], "malignant")
        []
    """
    labels = targets[targets >= 0]
    if positive is not None or len(classes) != 2 or not len(labels):
        return []
    shares = (labels.bincount(minlength=2).double() / len(labels)).tolist()
    if min(shares) >= RARE:
        return []
    rare = classes[shares.index(min(shares))]
    text = f"of two classes '{rare}' is the rare one ({percent(min(shares))} of the training labels), and no positive "
    text += "class is declared: F1, sensitivity and specificity are not told"
    cause = "accuracy hides how few of a rare class are found; which class is looked for is never guessed"
    cure = f"if it is what you look for, set positive: {rare}, and perhaps metric: auc and specificity: 0.9"
    return [
        Finding("no_positive_class", "info", text, {"shares": dict(zip(classes, shares, strict=True))}, cause, cure)
    ]
