"""Finding a model whose classes are in another order than the data's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.doctor.chance import confusion, sign_test
from limbeck.doctor.finding import Finding, percent

SHOWN = 10


def label_order(
    logits: Tensor,
    targets: Tensor,
    classes: Sequence[str],
    who: str = "teacher",
    declared: Sequence[str] | None = None,
) -> list[Finding]:
    """A model whose classes are in another order than the data's: a permutation of its outputs would be right.

    The permutation that gives most right answers (the assignment problem) is found on one half of the samples and tried
    on the other, and the other way round, so that chance does not look like an order. It is told (``label_order``, an
    error) if it gains at least 5 points there, more often than one in a thousand by chance (sign test), and the classes
    that it moves are then recognized more often than not.

    Args:
        logits: ``[N, C]``.
        targets: int64 ``[N]``, -1 for no label.
        classes: names, in the order of the data.
        who: for the message.
        declared: the order that the model's classes were said to have, by which ``logits`` were mapped already.

    Example:
        >>> targets = torch.arange(90) % 3
        >>> wrong = torch.nn.functional.one_hot((targets + 1) % 3).float()
        >>> label_order(wrong, targets, ["a", "b", "c"])[0].evidence["class_order"]
        ['c', 'a', 'b']
    """
    labeled = targets >= 0
    answers, truth, count = logits.argmax(dim=1)[labeled].cpu(), targets[labeled], len(classes)
    if logits.shape[1] != count or len(truth) < 20:
        return []
    meant = _assignment(confusion(logits, targets, count))
    moved = (meant != torch.arange(count)).nonzero().flatten()
    if not len(moved):
        return []
    gained, lost = _held_out(answers, truth, count)
    before, after = float((answers == truth).double().mean()), float((meant[answers] == truth).double().mean())
    recall = _recall(meant[answers], truth, moved)
    clear = (gained - lost) / len(truth) >= 0.05 and sign_test(gained, lost) < 1e-3
    if not (clear and recall > 0.5 and len(answers.unique()) > 1):
        return []
    order = [classes[one] for one in meant.tolist()]
    pairs = [f"'{classes[at]}' means '{order[at]}'" for at in moved.tolist()]
    text = f"the {who}'s classes are in another order than the data's: its accuracy is {percent(before)}, and would "
    text += f"be {percent(after)} if its {', its '.join(pairs[:SHOWN])}{', …' if len(pairs) > SHOWN else ''}"
    evidence: dict[str, Any] = {"accuracy": round(before, 4), "accuracy_in_that_order": round(after, 4)}
    evidence |= {"samples": len(truth), "gained": gained, "lost": lost}
    cause = "classes in the order of os.listdir, or sorted as text (1, 10, 2) here and as numbers there"
    cause = "a class_order that is not the model's" if declared else named_order(order) or cause
    meaning = dict(zip(classes, order, strict=True))
    own = [meaning.get(name, name) for name in declared] if declared else order
    evidence["class_order"] = own
    listed = ", ".join(own[:20]) + ", …" * (len(own) > 20)
    cure = f"say the order that it was trained with: class_order: [{listed}] in the {who}"
    return [Finding("label_order", "error", text, evidence, cause, cure)]


def _assignment(counts: Tensor) -> Tensor:
    """For each output the class that it means: most right answers over all permutations; in doubt its own."""
    from scipy.optimize import linear_sum_assignment

    truth, output = linear_sum_assignment(counts.double().numpy() + 0.5 * torch.eye(len(counts)).numpy(), maximize=True)
    meant = torch.empty(len(counts), dtype=torch.int64)
    meant[torch.as_tensor(output)] = torch.as_tensor(truth)
    return meant


def _held_out(answers: Tensor, truth: Tensor, count: int) -> tuple[int, int]:
    """Samples that come out right by the permutation found on the other half and wrong without, and the reverse."""
    gained = lost = 0
    halves = torch.empty(len(truth), dtype=torch.int64)
    halves[truth.argsort(stable=True)] = torch.arange(len(truth)) % 2  # every class in both
    for half in (0, 1):
        own, other = halves == half, halves != half
        table = torch.bincount(truth[own] * count + answers[own], minlength=count * count).reshape(count, count)
        right = _assignment(table)[answers[other]] == truth[other]
        plain = answers[other] == truth[other]
        gained, lost = gained + int((right & ~plain).sum()), lost + int((plain & ~right).sum())
    return gained, lost


def _recall(answers: Tensor, truth: Tensor, classes: Tensor) -> float:
    """Mean recall over the classes among ``classes`` that occur."""
    found = [(answers[truth == one] == one).double().mean() for one in classes.tolist() if bool((truth == one).any())]
    return float(torch.stack(found).mean()) if found else 0.0


def named_order(order: Sequence[str]) -> str | None:
    """A usual order in words, if this is one."""
    if list(order) == sorted(order):
        return "sorted as text, so that '10' comes before '2'; the data's are not"
    if list(order) == sorted(
        order, key=lambda one: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", one)]
    ):
        return "sorted as numbers; the data's are not"
    return None
