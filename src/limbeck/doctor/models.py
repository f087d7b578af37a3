"""Findings about the models themselves: a student that is not smaller, or that starts from weights for this task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.doctor.chance import confusion, knowledge
from limbeck.doctor.finding import Finding, percent, spoken

FRESH = 3  # starts with fresh weights that a suspicious start is compared with
Predict = Callable[[nn.Module], tuple[Tensor, Tensor]]


def not_smaller(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[Finding]:
    """A student that does not make anything smaller or faster.

    ``student_not_smaller``, a warning: as many parameters as the teacher, or more. ``student_not_faster``, an info: as
    many multiply-accumulates a sample.

    Args:
        student: ``parameters`` and ``macs``, as far as they are known.
        teacher: likewise.

    Example:
        >>> [one.message for one in not_smaller({"parameters": 10, "macs": 9}, {"parameters": 10, "macs": 90})]
        ['the student has 10 parameters, the teacher 10: nothing is made smaller']
    """
    evidence = {"student": _sizes(student), "teacher": _sizes(teacher)}
    small, large = student.get("parameters"), teacher.get("parameters")
    if small and large and small >= large:
        text = f"the student has {small:,} parameters, the teacher {large:,}: nothing is made smaller"
        cause = "teacher and student were exchanged, or the student's layers are wider than they look"
        cure = "choose a narrower or shallower student"
        return [Finding("student_not_smaller", "warning", text, evidence, cause, cure)]
    few, many = student.get("macs"), teacher.get("macs")
    if few and many and few >= many:
        text = f"the student takes {few:,} multiply-accumulates a sample, the teacher {many:,}: smaller, but not faster"
        cause = "convolutions at full resolution cost much though they have few weights"
        cure = "reduce the resolution earlier in the student, if speed matters"
        return [Finding("student_not_faster", "info", text, evidence, cause, cure)]
    return []


def not_between(chain: Sequence[tuple[str, int | None]]) -> list[Finding]:
    """Assistants that do not lie between their neighbors in size: ``assistant_not_between``, a warning.

    Args:
        chain: role and parameters of teacher, assistants and student, in this order; None: not known.

    Example:
        >>> not_between([("teacher", 90), ("assistant", 95), ("student", 10)])[0].message
        'the teacher has 90 parameters, the assistant that it teaches 95: the assistant is not intermediate in size'
        >>> not_between([("teacher", 90), ("assistant", 40), ("student", 10)])
        []
    """
    found = []
    known = [(role, size) for role, size in chain if size is not None]
    for (larger, large), (smaller, small) in pairwise(known):
        if large > small:
            continue
        role = larger if larger.startswith("assistant") else smaller
        text = f"the {spoken(larger)} has {large:,} parameters, the {spoken(smaller)} that it teaches {small:,}: "
        text += f"the {spoken(role)} is not intermediate in size"
        cause = "models in another order, or an assistant that is hardly smaller than its teacher"
        cure = "order them from large to small; take an assistant of middle size, or leave it out"
        evidence = {"role": role, "teacher": {larger: large}, "student": {smaller: small}}
        found.append(Finding("assistant_not_between", "warning", text, evidence, cause, cure))
    return found


def grown(parameters: Mapping[str, int]) -> list[Finding]:
    """A student that distillation makes larger than its control: ``student_grew``, a warning.

    Args:
        parameters: of ``student`` and ``control``, and of what the student has more: ``projector``, ``classifier``.

    Example:
        >>> grown({"student": 30, "control": 20, "projector": 9, "classifier": 6})[0].message
        'the student has 30 parameters, 9 in its projector and 6 in the classifier of the teacher; its control has 20'
        >>> grown({"student": 20, "control": 20})
        []
    """
    student, control = parameters["student"], parameters["control"]
    if student <= control:
        return []
    text = f"the student has {student:,} parameters, {parameters.get('projector', 0):,} in its projector and "
    text += f"{parameters.get('classifier', 0):,} in the classifier of the teacher; its control has {control:,}"
    cause = "simkd makes the projector and the teacher's classifier part of the student; the control is the plain one"
    cure = "tell both sizes beside the difference, which is not at one size; or compare with a wider control too"
    return [Finding("student_grew", "warning", text, dict(parameters), cause, cure)]


def warm_start(module: nn.Module, predict: Predict, classes: int, role: str = "student") -> list[Finding]:
    """A student whose starting weights have learned this task already.

    ``warm_start``, a warning: before any training its accuracy is more than half of the way from the majority's to 1,
    and the same architecture with fresh weights, drawn three times, stays 10 points or more below. Pretrained weights
    under a new head pass.

    Args:
        module: with its starting weights; it is left as it is.
        predict: gives logits and targets of a module on samples that were not trained on.
        classes: number of them.
        role: of the model.
    """
    found = knowledge(confusion(*predict(module), classes))
    if found.accuracy <= found.majority + 0.5 * (1 - found.majority) or not found.beyond_majority:
        return []
    fresh = [knowledge(confusion(*predict(_fresh(module, seed)), classes)).accuracy for seed in range(FRESH)]
    if found.accuracy < max(fresh) + 0.1:
        return []
    text = f"before any training the {spoken(role)} is right for {percent(found.accuracy)} of the validation samples "
    text += f"(with fresh weights: {percent(max(fresh))} at most): what it knows is not distilled"
    evidence = {"role": role, **found.to_dict(), "fresh": [round(one, 4) for one in fresh]}
    cause = "its weights are those of an earlier training on this task"
    cure = (
        "start from fresh weights, or from weights trained on other data; give limbeck.distill a function that makes it"
    )
    return [Finding("warm_start", "warning", text, evidence, cause, cure)]


def class_count(given: int, classes: int, who: str) -> list[Finding]:
    """A model that has more or fewer outputs than the data have classes: ``class_count``, an error.

    Example:
        >>> class_count(12, 10, "teacher")[0].message
        'the teacher gives 12 logits, the data have 10 classes'
    """
    if given == classes:
        return []
    text = f"the {spoken(who)} gives {given} logits, the data have {classes} classes"
    cause = "a model for another data set, a class without a folder, or a class for the background"
    cure = "give the data of all its classes, or train its last layer for these"
    return [Finding("class_count", "error", text, {"logits": given, "classes": classes}, cause, cure)]


def _fresh(module: nn.Module, seed: int) -> nn.Module:
    """A copy with fresh weights, wherever a layer knows how to draw them."""
    copied = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in copied.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    return copied


def _sizes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found.get(key) for key in ("parameters", "macs")}


__all__ = ["class_count", "grown", "not_between", "not_smaller", "warm_start"]
