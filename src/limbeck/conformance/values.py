"""What a loss returns: its form, its value at equality, and that it depends on what it is given alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from limbeck.conformance.subject import BATCH, Subject, differs, largest


def shape(subject: Subject) -> Iterator[str]:
    """One element for each sample, or each row of logits; a scalar if and only if the loss is relational."""
    given = subject.given()
    found, rows = tuple(subject(given).shape), tuple(given.target.shape)
    if subject.relational and found != ():
        yield f"it is declared relational and returns {found}, expected a scalar"
    elif not subject.relational and found not in ((BATCH,), rows):
        allowed = f"{(BATCH,)}" if rows == (BATCH,) else f"{(BATCH,)} or {rows}"
        yield f"it returns {found}, expected {allowed}; a loss that compares samples says relational=True"


def dtype(subject: Subject) -> Iterator[str]:
    """float32 of any narrower inputs, float64 of float64."""
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        expected = torch.promote_types(kind, torch.float32)
        found = subject(subject.given().to(kind)).dtype
        if found != expected:
            yield f"of {kind} inputs it returns {found}, expected {expected}"


def half_precision(subject: Subject) -> Iterator[str]:
    """Of inputs in half precision the value and the gradient are within 1e-2 of those in float32."""
    for kind in (torch.float16, torch.bfloat16):
        given = subject.given().to(kind)
        found, expected = subject.outcome(given), subject.outcome(given.to(torch.float32))
        for name, one, other in (
            ("values", [found.value], [expected.value]),
            ("the student's gradients", found.student, expected.student),
        ):
            for a, b in zip(one, other, strict=True):
                if said := differs(a, b, 1e-2):
                    yield f"{name} in {kind} and float32 {said}"


def equal(subject: Subject) -> Iterator[str]:
    """The stated value where student and teacher are equal; where it is 0, nothing pulls there and nothing is below."""
    expected = subject.compares.equal
    if expected is None or "teacher" not in subject.takes:
        return
    for kind, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-7)):
        given = subject.given(same=True).to(kind)
        apart, together = subject.outcome(given), subject.outcome(replace(given, student=given.teacher))
        scale = max(largest([apart.value]), abs(expected))
        if said := differs(together.value, torch.full_like(together.value, expected), tolerance, scale=scale):
            yield f"values at student = teacher, {float(together.value.flatten()[0]):.6g}, and the stated {said}"
        if expected != 0:
            continue
        pull, usual = largest(together.student), largest(apart.student)
        if pull > 10 * tolerance * usual:
            yield f"at student = teacher the gradient is {pull:.3g} (elsewhere {usual:.3g}), expected 0"
        if float(apart.value.min()) < -tolerance * scale:
            yield f"it is 0 at student = teacher and less, {float(apart.value.min()):.6g}, elsewhere"


def deterministic(subject: Subject) -> Iterator[str]:
    """The same twice, whatever torch's generator holds, which is left as it was."""
    given = subject.given().to(torch.float32)
    with torch.random.fork_rng(devices=[]):
        values = []
        for seed in (1, 2, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            values.append(subject(given))
            if subject.module(given) is None and not torch.equal(before, torch.get_rng_state()):
                yield "it draws from torch's global generator"
                return
    if not all(torch.equal(values[0], one) for one in values):
        yield "two calls with the same inputs give different values"


def inputs_kept(subject: Subject) -> Iterator[str]:
    """What it is given is not changed."""
    given = subject.given().to(torch.float32)
    if "mask" in subject.takes:
        given = subject.masked(given, torch.arange(BATCH) > 1)
    before = given.copied()
    target, index, mask = (None if one is None else one.clone() for one in (given.target, given.index, given.mask))
    with torch.no_grad():
        subject(given)
    for name in ("student", "teacher"):
        pairs = zip(getattr(given, name), getattr(before, name), strict=True)
        if not all(torch.equal(one, other) for one, other in pairs):
            yield f"it changes the {name}'s tensor in place"
    for name, one, other in (
        ("target", target, given.target),
        ("index", index, given.index),
        ("mask", mask, given.mask),
    ):
        if one is not None and other is not None and not torch.equal(one, other):
            yield f"it changes the {name} in place"


CHECKS = (shape, dtype, half_precision, equal, deterministic, inputs_kept)
