"""What a loss says it needs of the teacher's logits: groups of classes, or the largest alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.conformance.subject import CLASSES, Given, Subject, differs, largest
from limbeck.losses.shapes import UNLABELED
from limbeck.outputs import Top

EXACT = 1e-9


def grouped(subject: Subject) -> Iterator[str]:
    """Between the teacher's largest classes and the rest it is at most what it is between all classes.

    It is the same, value and gradient, where the rest is one class, or where student and teacher share it out in the
    same way: then nothing is lost with what the classes of the rest are.
    """
    if not subject.compares.grouped or subject.dense or subject.hyper.get("standardize"):
        return
    if "target" in subject.takes or "teacher" not in subject.takes or not subject.logits:
        yield "it says grouped=True, and takes a target or no teacher's logits: a label's class may be in the rest"
        return
    given = subject.given()
    for count in range(1, CLASSES):
        ids = given.teacher[0].topk(count).indices
        alike = _alike(given, ids)
        for name, one in (("random logits", given), ("a rest that both share out alike", alike)):
            dense, groups = subject(one), subject(_groups(one, ids, subject))
            scale = largest([dense])
            if dense.shape != groups.shape:
                yield f"it returns {tuple(dense.shape)} of all classes and {tuple(groups.shape)} of {count + 1} groups"
            elif (count == CLASSES - 1 or one is alike) and (said := differs(groups, dense, 1e-6, scale=scale)):
                yield f"of {name}, values of all {CLASSES} classes and of {count + 1} groups {said}"
            elif float((groups - dense).max()) > 1e-6 * scale:
                more = f"larger by {float((groups - dense).max()):.3g} than of all {CLASSES} classes"
                yield f"of {name}, its value of {count + 1} groups is {more}"
    ids = given.teacher[0].topk(CLASSES - 1).indices
    own = given.student[0].clone().requires_grad_()
    (found,) = torch.autograd.grad(subject(_groups(replace(given, student=(own,)), ids, subject)).sum(), own)
    if said := differs(found, subject.outcome(given).student[0], 1e-6):
        yield f"the student's gradients of all {CLASSES} classes and of as many groups {said}"


def largest_only(subject: Subject) -> Iterator[str]:
    """A loss that says it only looks which of the teacher's logits is the largest does not see the others change."""
    if not subject.compares.largest:
        return
    given = subject.given()
    given = replace(given, target=torch.full_like(given.target, UNLABELED))  # a label would be taken instead
    (teacher,) = given.teacher
    lower = torch.where(teacher == teacher.amax(1, keepdim=True), teacher, -3.0 * teacher.abs() - 10.0)
    if said := differs(subject(replace(given, teacher=(lower,))), subject(given), EXACT):
        yield f"values before and after a change of the teacher's smaller logits {said}"


def _temperature(subject: Subject) -> float:
    """At which the loss softens: its default if it is given none."""
    default = subject.takes["temperature"].default if "temperature" in subject.takes else 1.0
    return float(subject.hyper.get("temperature", default))


def _groups(given: Given, ids: Tensor, subject: Subject) -> Given:
    """Both sides' logits in K + 1 groups."""
    temperature = _temperature(subject)
    teacher = given.teacher[0]
    rest = teacher.scatter(1, ids, float("-inf")).div(temperature).logsumexp(1)
    top = Top(ids, teacher.gather(1, ids), {temperature: rest})
    return replace(given, student=(top.group(given.student[0], temperature),), teacher=(top.grouped(temperature),))


def _alike(given: Given, ids: Tensor) -> Given:
    """With a student whose logits of the rest are the teacher's and a number of the sample."""
    student, teacher = given.student[0], given.teacher[0]
    inside = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, ids, True)
    number = torch.linspace(-2.0, 2.0, len(teacher), dtype=teacher.dtype).unsqueeze(1)
    return replace(given, student=(torch.where(inside, student, teacher + number),))


CHECKS = (grouped, largest_only)
