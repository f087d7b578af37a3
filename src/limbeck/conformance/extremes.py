"""Finite values and gradients where formulas break: huge, constant, equal and zero inputs, few classes and samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from limbeck import losses
from limbeck.conformance.subject import Given, Subject, finite, largest
from limbeck.errors import ModelError

SIZES = ((torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0))


def huge(subject: Subject) -> Iterator[str]:
    """Finite at ±1e4 in float32 and bfloat16, ±200 in float16: signs at random, one against all, and opposed."""
    for kind, size in SIZES:
        given = subject.given().to(kind)
        signs = given.map(lambda one, size=size: size * one.sign())  # type: ignore[misc]
        peaks = given.map(lambda one, size=size: _peak(one, size))  # type: ignore[misc]
        cases = {"±": signs, "one class or channel at +": peaks}
        if signs.student[0].shape == signs.teacher[0].shape:
            cases["the teacher's opposite at "] = replace(signs, student=tuple(-one for one in signs.teacher))
        for name, one in cases.items():
            if said := finite(subject.outcome(one)):
                yield f"at {name}{size:g} in {kind}: {said}"


def _peak(one: Tensor, size: float) -> Tensor:
    out = torch.full_like(one, -size)
    out[:, 0] = size
    return out


def degenerate(subject: Subject) -> Iterator[str]:
    """Finite of constant rows, of samples that are all the same, and of zeros, of the student, the teacher or both."""
    given = subject.given().to(torch.float32)
    changes = {
        "constant rows": lambda one: one[:, :1].expand_as(one).contiguous(),
        "samples that are all constant": lambda one: torch.full_like(one, 0.3),
        "samples that are all the same": lambda one: one[:1].expand_as(one).contiguous(),
        "two samples that are the same": lambda one: torch.cat([one[:1], one[:-1]]),
        "zeros": torch.zeros_like,
    }
    for name, change in changes.items():
        for side in (*subject.sides, "both"):
            for training in (False, True):
                if said := finite(subject.outcome(given.map(change, side), training=training)):
                    yield f"{name} of {'the ' if side != 'both' else ''}{side}: {said}"
                    break


def few_classes(subject: Subject) -> Iterator[str]:
    """As few classes as declared are finite; fewer are refused, with a word on what to use."""
    if not subject.logits:
        return
    least = subject.compares.classes
    for classes in range(min(least, 2), max(least, 2) + 1):
        given = subject.given(classes=classes).to(torch.float32)
        if classes >= least:
            if said := finite(subject.outcome(given)):
                yield f"of {classes} classes: {said}"
            continue
        try:
            subject(given)
        except ModelError as error:
            if not any(name in (error.cure or "") for name in losses.TABLE):
                yield f"it refuses {classes} classes and its cure names no loss to use: {error.cure!r}"
        else:
            yield f"it is declared for {least} classes and takes {classes} without a word (ModelError expected)"


def few_samples(subject: Subject) -> Iterator[str]:
    """As few samples as declared give a gradient; fewer give 0 with a graph."""
    least = subject.compares.batch
    for batch in range(1, least + 1):
        for training in (False, True):
            outcome = subject.outcome(subject.given(batch=batch).to(torch.float32), training=training)
            if said := finite(outcome):
                yield f"of {batch} samples: {said}"
            elif batch < least and largest([outcome.value, *outcome.student]) > 1e-6:
                yield f"it is declared for {least} samples, and not 0 of {batch}: {float(outcome.value.sum()):.6g}"
            elif batch == least and not training and not largest(outcome.student) > 0:
                yield f"it is declared for {least} samples, which give no gradient"


def other_forms(subject: Subject) -> Iterator[str]:
    """Features of other sizes and kinds are taken, or refused by name."""
    if subject.logits or subject.compares.site == "all_stages":
        return
    given = subject.given()
    width, their = given.student[0].shape[1], given.teacher[0].shape[1]
    forms = {
        "vectors": ((width,), (their,)), "tokens": ((3, width), (3, their)), "maps of 1 x 1": ((width, 1, 1),) * 2,
        "maps of two sizes": ((width, 8, 8), (their, 4, 4)), "maps of odd sizes": ((width, 3, 5), (their, 7, 2)),
    }  # fmt: skip
    for name, (own, theirs) in forms.items():
        random = torch.Generator().manual_seed(5)
        sent = Given(
            (torch.randn(len(given.index), *own, generator=random),),
            (torch.randn(len(given.index), *theirs, generator=random),), given.target, given.index,
        )  # fmt: skip
        try:
            outcome = subject.outcome(sent)
        except ModelError:
            continue
        if said := finite(outcome):
            yield f"of {name}: {said}"
        elif outcome.value.shape not in ((), (len(given.index),)):
            yield f"of {name} it returns {tuple(outcome.value.shape)}"


CHECKS = (huge, degenerate, few_classes, few_samples, other_forms)
