"""Who gets a gradient, and that it is the right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from limbeck.conformance.subject import Subject, differs, largest

FAR = (1e3, 1e4)  # temperatures


def student_learns(subject: Subject) -> Iterator[str]:
    """Every tensor of the student gets a gradient, and every parameter of the loss."""
    outcome = subject.outcome(subject.given().to(torch.float32), training=True)
    for number, one in enumerate(outcome.student):
        if not largest([one]) > 0:
            yield f"the student's tensor {number} gets no gradient"
    for name, gradient in outcome.parameters.items():
        if gradient is None:
            yield f"parameter '{name}' gets no gradient"


def teacher_constant(subject: Subject) -> Iterator[str]:
    """No gradient reaches the teacher."""
    outcome = subject.outcome(subject.given().to(torch.float32))
    for number, one in enumerate(outcome.teacher):
        if one is not None:
            yield f"a gradient up to {largest([one]):.3g} reaches the teacher's tensor {number}: detach the teacher"


def gradient(subject: Subject) -> Iterator[str]:
    """The gradient, of the student and of parameters, is the numerical one, in float64."""
    if subject.compares.held:
        return
    given = subject.given(batch=4)
    module = subject.module(given)
    names = [] if module is None else [name for name, _ in module.named_parameters()]
    start = [] if module is None else [one.detach().clone().requires_grad_() for one in module.parameters()]
    own = [one.clone().requires_grad_() for one in given.student]

    def value(*inputs: Tensor) -> Tensor:
        sent = replace(given, student=tuple(inputs[: len(own)]))
        if module is None:
            return subject(sent)
        parameters = dict(zip(names, inputs[len(own) :], strict=True))

        def call(*args: Any, **kwargs: Any) -> Any:
            return torch.func.functional_call(module, parameters, args, kwargs)

        return subject.through(call, sent)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # gradcheck draws the directions that it looks in
        try:
            torch.autograd.gradcheck(value, (*own, *start), eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True)
        except GradcheckError as error:
            yield f"in float64: {' '.join(str(error).split())[:300]}"


def descent(subject: Subject) -> Iterator[str]:
    """A small step against the gradient lowers the loss."""
    given = subject.given()
    outcome = subject.outcome(given)
    steep = largest(outcome.student)
    if not steep > 0:
        yield "there is no gradient to step against"
        return
    rate = 1e-4 * largest(given.student) / steep
    moved = tuple(one - rate * slope for one, slope in zip(given.student, outcome.student, strict=True))
    after = float(subject(replace(given, student=moved)).detach().sum())
    before = float(outcome.value.sum())
    if not after < before:
        yield f"a step of {rate:.3g} times the gradient leads from {before:.12g} to {after:.12g}"


def large_temperature(subject: Subject) -> Iterator[str]:
    """With T² the gradient of softened logits tends to a limit as T grows."""
    if not subject.logits or subject.relational or "temperature" not in subject.takes:
        return
    near, far = (subject.with_hyper(temperature=one).outcome(subject.given()) for one in FAR)
    if said := differs(near.student[0], far.student[0], 2e-2):
        sizes = f"{largest(near.student):.3g} and {largest(far.student):.3g}"
        yield f"gradients at T = {FAR[0]:g} and {FAR[1]:g}, up to {sizes}, {said}: is T² missing?"


CHECKS = (student_learns, teacher_constant, gradient, descent, large_temperature)
