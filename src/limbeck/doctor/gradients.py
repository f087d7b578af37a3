"""Findings about the terms of an objective: what each gives the student to learn from, on one real batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.doctor.finding import Finding
from limbeck.objective import Objective, Term
from limbeck.outputs import Outputs

APART = 100.0


@dataclass(frozen=True)
class Pull:
    """Norms of a weighted term's gradient with respect to the student's outputs (``logits``) and its parameters.

    ``learned`` is False if the term gives the student none, whatever its logits are.
    """

    logits: float
    parameters: float
    learned: bool = True

    @property
    def norm(self) -> float:
        """The parameters' norm, which is what the optimizer sees; the logits' for a model without parameters."""
        return self.parameters or self.logits


def pulls(
    objective: Objective,
    student: Outputs,
    teacher: Outputs | None,
    parameters: Sequence[Tensor],
    *,
    target: Tensor,
    index: Tensor | None = None,
) -> dict[str, Pull]:
    """The gradient norms of each weighted term on a batch; terms without weight, or without a label here, are left out.

    Args:
        objective: of the student.
        student: outputs with a graph.
        teacher: outputs on the same batch.
        parameters: of the student.
        target: int64 labels, -1 for none.
        index: addresses of the samples.

    Example:
        >>> from limbeck.objective import supervised
        >>> z = torch.zeros(1, 2, requires_grad=True)
        >>> found = pulls(Objective([supervised(2.0)]), Outputs(z), None, [], target=torch.tensor([0]))
        >>> round(found["supervised"].logits, 4)  # 2 · |(1/2 - 1, 1/2)|
        1.4142
    """
    found = {}
    for one in objective.terms:
        needs = one.needs_label and not bool((target >= 0).any())
        if one.weight == 0 or needs or (one.needs_teacher and teacher is None):
            continue
        logits, weights = _norms(one, student, teacher, parameters, target, index)
        learned = True
        if logits == weights == 0:  # a student that is the teacher's copy has no gradient either: ask elsewhere
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                learned = any(_norms(one, _moved(student), teacher, [], target, index))
        found[one.name] = Pull(logits, weights, learned)
    return found


def about_terms(found: dict[str, Pull]) -> list[Finding]:
    """Terms that give the student nothing, or that are drowned by another.

    ``no_gradient``, an error: the term's gradient is zero, on the batch and on random logits. ``term_drowned``, a
    warning: the gradients of two terms, weights included, are more than 100 times apart.

    Args:
        found: what :func:`pulls` gave.

    Example:
        >>> [one.code for one in about_terms({"supervised": Pull(1.0, 1.0), "kl": Pull(0.001, 0.001)})]
        ['term_drowned']
    """
    evidence = {
        name: {"logits": _short(pull.logits), "parameters": _short(pull.parameters)} for name, pull in found.items()
    }
    findings = [
        Finding(
            "no_gradient",
            "error",
            f"the term '{name}' gives the student no gradient: nothing is learned from it",
            {"term": name, "gradient_norms": evidence},
            "the loss detaches the student's logits, or goes through argmax, rounding or numpy",
            "compute the loss from the student's logits by torch's functions alone, and detach the teacher's only",
        )
        for name, pull in found.items()
        if not pull.learned
    ]
    pulling = {name: pull.norm for name, pull in found.items() if pull.norm > 0}
    if len(pulling) < 2:
        return findings
    least, most = min(pulling, key=pulling.__getitem__), max(pulling, key=pulling.__getitem__)
    ratio = pulling[most] / pulling[least]
    if ratio > APART:
        text = f"at the student's start, the gradient of '{most}' is {ratio:,.0f} times that of '{least}': "
        findings.append(
            Finding(
                "term_drowned",
                "warning",
                text + f"'{least}' is drowned",
                {"terms": [most, least], "ratio": _short(ratio), "gradient_norms": evidence},
                "weights far apart, or a high temperature without its square (square: false)",
                f"raise the weight of '{least}', leave square: true, or let objective: auto choose on validation",
            )
        )
    return findings


def _norms(
    one: Term,
    student: Outputs,
    teacher: Outputs | None,
    parameters: Sequence[Tensor],
    target: Tensor,
    index: Tensor | None,
) -> tuple[float, float]:
    total, _ = Objective([one])(student, teacher, target=target, index=index)
    if not total.requires_grad:
        return 0.0, 0.0
    said = [student.logits, *student.features.values()]
    gradients = torch.autograd.grad(total, [*said, *parameters], retain_graph=True, allow_unused=True)
    norms = [0.0 if one is None else float(one.detach().float().norm()) for one in gradients]
    return math.hypot(*norms[: len(said)]), math.hypot(*norms[len(said) :])


def _moved(outputs: Outputs) -> Outputs:
    """Outputs with noise, which have a gradient of their own."""

    def move(value: Tensor) -> Tensor:
        return (value.detach() + torch.randn(value.shape).to(value)).requires_grad_()

    return Outputs(move(outputs.logits), {name: move(one) for name, one in outputs.features.items()})


def _short(value: float) -> float:
    return float(f"{value:.4g}")


__all__ = ["Pull", "about_terms", "pulls"]
