"""Findings from what a model says about a labeled split: no better than chance, always one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from limbeck.doctor.chance import Knowledge, knowledge
from limbeck.doctor.finding import Finding, percent, spoken

CONSTANT = 0.99  # share of samples that get one class
OTHERS = 5  # samples of other classes that a constant predictor must have had the occasion to name
OTHER_PIXELS = 0.01  # the same of pixels, as a share of them
SHOWN = 5


def near_chance(counts: Tensor, role: str, split: str, *, unit: str = "samples") -> list[Finding]:
    """A model that knows nothing, or no more than the most frequent class.

    ``teacher_near_majority``: the accuracy is not above the majority's. A warning; but an info where the balanced
    accuracy is a quarter of the way from chance to 1, as it can be with a rare class. ``not_learned`` for other roles,
    a warning: the balanced accuracy is within three deviations of chance.

    Args:
        counts: of :func:`limbeck.doctor.chance.confusion`.
        role: ``teacher``, ``student``, ``control``.
        split: the split's name.
        unit: what was counted, ``samples`` or ``pixels``; see :func:`limbeck.doctor.chance.knowledge`.

    Example:
        >>> import torch
        >>> near_chance(torch.tensor([[50, 0], [50, 0]]), "teacher", "validation")[0].code
        'teacher_near_majority'
    """
    if not int(counts.sum()):
        return []
    found = knowledge(counts, unit)
    evidence = {"role": role, "split": split, **found.to_dict()}
    kind = "pixel accuracy" if unit == "pixels" else "accuracy"
    text = f"the {spoken(role)}'s {split} {kind} is {percent(found.accuracy)}, always naming the most frequent "
    text += f"class gives {percent(found.majority)}"
    if role == "teacher":
        return [] if found.beyond_majority else [_poor_teacher(found, text, evidence)]
    if found.beyond_chance:
        return []
    text += f", and its balanced accuracy of {percent(found.balanced)} is no better than chance"
    cause = "a rate that is too high or too low, too few epochs, or labels that do not belong to the images"
    cure = "try a rate ten times lower; see that a larger model learns from these data"
    return [Finding("not_learned", "warning", text, evidence, cause, cure)]


def _poor_teacher(found: Knowledge, text: str, evidence: Mapping[str, Any]) -> Finding:
    if found.beyond_chance and found.balanced > found.chance + 0.25 * (1 - found.chance):
        text += f"; its balanced accuracy is {percent(found.balanced)} (chance: {percent(found.chance)})"
        cause = "a class is so frequent that accuracy hardly tells models apart"
        cure = "judge by balanced accuracy, F1 or AUC: metric: balanced_accuracy"
        cure = "judge by the mean IoU: metric: mean_iou" if found.unit == "pixels" else cure
        return Finding("teacher_near_majority", "info", text, evidence, cause, cure)
    cause = (
        "other weights, classes, normalization or color order than in its training, or a training that was too short"
    )
    cure = "see that it reaches its published accuracy on these data before anything is distilled"
    return Finding("teacher_near_majority", "warning", f"{text}: there is little to distill", evidence, cause, cure)


def constant(
    counts: Tensor,
    role: str,
    split: str,
    classes: Sequence[str],
    logits: Tensor | None = None,
    *,
    unit: str = "samples",
) -> list[Finding]:
    """A model that answers with one class whatever it sees.

    ``constant_predictor``: an error if the logits do not depend on the input, a warning if more than 99 % of
    the answers are one class, and at least 5 of these samples are of another. Of pixels at least 1 %; or any, if all
    answers are one class.

    Args:
        counts: of :func:`limbeck.doctor.chance.confusion`.
        role: of the model.
        split: the split's name.
        classes: names.
        logits: ``[N, C]``, where they are at hand.
        unit: what was counted, ``samples`` or ``pixels``.

    Example:
        >>> import torch
        >>> constant(torch.tensor([[50, 0], [50, 0]]), "student", "test", ["cat", "dog"])[0].message
        "the student answers 'cat' for 100.0 % of the test samples"
    """
    total, answers = int(counts.sum()), counts.sum(dim=0)
    if not total:
        return []
    top = int(answers.argmax())
    share, others = float(answers[top]) / total, int(answers[top] - counts[top, top])
    evidence = {"role": role, "split": split, "class": classes[top], "share": round(share, 4), unit: total}
    evidence["share_of_labels"] = round(float(counts[top].sum()) / total, 4)
    if logits is not None and len(logits) > 1:
        logits = logits.detach()
        spread = float((logits - logits[:1]).abs().max())
        if spread <= 1e-6 * max(1.0, float(logits.abs().max())):
            text = f"the {spoken(role)} gives the same logits for every {split} sample: they do not depend on the input"
            cause = "weights that were not loaded, an input that is scaled to nothing, or units that are all dead"
            cure = "look at the weights' file and at the normalization; compare two samples' inputs by hand"
            return [Finding("constant_predictor", "error", text, {**evidence, "spread": spread}, cause, cure)]
    enough = OTHERS if unit == "samples" else OTHER_PIXELS * total if share < 1 else 1
    if share <= CONSTANT or others < enough:
        return []
    text = f"the {spoken(role)} answers '{classes[top]}' for {percent(share)} of the {split} {unit}"
    cause = "a rate that is too high, classes of very different size, or inputs in other units than in its training"
    cure = "lower the rate; balance the classes (sampling: balanced, or class_weights); check the normalization"
    return [Finding("constant_predictor", "warning", text, evidence, cause, cure)]


def never_named(counts: Tensor, role: str, split: str, classes: Sequence[str]) -> list[Finding]:
    """Classes that have pixels and that a model gives to none: ``class_never_named``, a warning.

    Args:
        counts: pixels ``[C, C]``, rows: truth, columns: answer.
        role: of the model.
        split: the split's name.
        classes: names.

    Example:
        >>> import torch
        >>> never_named(torch.tensor([[9, 0], [1, 0]]), "student", "test", ["land", "water"])[0].message
        "the student never answers 'water', which has 10.0 % of the test pixels"
    """
    support, answers = counts.sum(dim=1), counts.sum(dim=0)
    missed = ((support > 0) & (answers == 0)).nonzero().flatten()
    if not len(missed):
        return []
    missed = missed[support[missed].argsort(descending=True)]
    names, share = [classes[at] for at in missed.tolist()], float(support[missed].sum() / support.sum())
    told = ", ".join(f"'{one}'" for one in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    verb = "has" if len(names) == 1 else "together have"
    text = f"the {spoken(role)} never answers {told}, which {verb} {percent(share)} of the {split} pixels"
    cause = "rare classes that a mean over pixels hardly sees, or too few epochs"
    cure = "weigh the classes (class_weights), add a dice or focal term, or train longer"
    evidence = {"role": role, "split": split, "classes": names, "share_of_labels": round(share, 6)}
    return [Finding("class_never_named", "warning", text, evidence, cause, cure)]


__all__ = ["constant", "near_chance", "never_named"]
