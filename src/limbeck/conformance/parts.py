"""Batches and their parts: masks, samples without labels, order, chunks, and several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.conformance.subject import BATCH, Given, Outcome, Subject, differs, finite, largest
from limbeck.losses.shapes import UNLABELED

EXACT = 1e-9
KEPT = torch.tensor([True, False, True, True, False, True])
CUT = slice(1, 3)  # rows of a map


def takes_mask(subject: Subject) -> Iterator[str]:
    """A relational loss takes a mask: what is masked has to be left out before samples are compared."""
    if subject.relational and "mask" not in subject.takes:
        yield "it compares samples with each other and takes no mask"


def masked(subject: Subject) -> Iterator[str]:
    """A masked sample changes nothing, whatever it holds, as if it were dropped; it gets no gradient."""
    if "mask" not in subject.takes:
        return
    given = subject.given()
    for training in (False, True):
        dropped = subject.outcome(given.rows(KEPT), training=training)
        for name, content in (("what it holds", None), ("1e4", 1e4), ("NaN", float("nan")), ("inf", float("inf"))):
            sent = given if content is None else given.map(lambda one, c=content: _filled(one, c))  # type: ignore[misc]
            found = subject.outcome(subject.masked(sent, KEPT), training=training)
            yield from (f"masked samples hold {name}: {said}" for said in _as_dropped(found, dropped, subject))
    if subject.labels:
        unknown = replace(given, target=torch.where(_rows(KEPT, given.target), given.target, -1))
        found, dropped = subject.outcome(subject.masked(unknown, KEPT)), subject.outcome(given.rows(KEPT))
        yield from (f"masked samples without labels: {said}" for said in _as_dropped(found, dropped, subject))


def _filled(one: Tensor, content: float) -> Tensor:
    return torch.where(_rows(KEPT, one), one, content)


def _rows(kept: Tensor, one: Tensor) -> Tensor:
    return kept.view(-1, *[1] * (one.ndim - 1))


def _as_dropped(found: Outcome, dropped: Outcome, subject: Subject) -> Iterator[str]:
    if said := finite(found):
        yield said
        return
    value = found.value if subject.relational else found.value[KEPT]
    if said := differs(value, dropped.value, EXACT):
        yield f"values with and without them {said}"
    tiny = EXACT * max(1.0, largest([dropped.value]))  # of a loss, 0 may be a difference that rounds
    if not subject.relational and largest([found.value[~KEPT]]) > tiny:
        yield f"their values are up to {largest([found.value[~KEPT]]):.3g}, expected 0"
    for one, other in zip(found.student, dropped.student, strict=True):
        if said := differs(one[KEPT], other, EXACT):
            yield f"gradients with and without them {said}"
        if largest([one[~KEPT]]) > 0:
            yield f"they get a gradient up to {largest([one[~KEPT]]):.3g}, expected 0"


def all_masked(subject: Subject) -> Iterator[str]:
    """All masked: 0, with a graph, and a gradient of 0."""
    if "mask" in subject.takes:
        for training in (False, True):
            given = subject.masked(subject.given(), torch.zeros(BATCH, dtype=torch.bool))
            yield from _nothing(subject.outcome(given, training=training), "all masked")


def _nothing(outcome: Outcome, when: str) -> Iterator[str]:
    if said := finite(outcome):
        yield f"{when}: {said}"
    elif largest([outcome.value, *outcome.student]) > EXACT:
        yield f"{when}: value up to {largest([outcome.value]):.3g}, gradient {largest(outcome.student):.3g}, expected 0"


def unlabeled(subject: Subject) -> Iterator[str]:
    """Without a label (-1) value and gradient are 0, and the others stay what they are."""
    if not subject.labels or subject.relational:
        return
    given = subject.given()
    whole = subject.outcome(given)
    target = torch.where(_rows(KEPT, given.target), given.target, -1)
    some = subject.outcome(replace(given, target=target))
    yield from (f"some labels are -1: {said}" for said in _as_dropped(some, _only(whole), subject))
    yield from _nothing(subject.outcome(replace(given, target=torch.full_like(target, -1))), "all labels are -1")


def _only(whole: Outcome) -> Outcome:
    return replace(whole, value=whole.value[KEPT], student=tuple(one[KEPT] for one in whole.student))


def order(subject: Subject) -> Iterator[str]:
    """Another order of the batch: the values in that order, or the same scalar."""
    given = subject.given()
    other = torch.tensor([3, 0, 5, 1, 4, 2])
    whole, moved = subject.outcome(given), subject.outcome(given.rows(other))
    expected = whole.value if subject.relational else whole.value[other]
    if said := differs(moved.value, expected, EXACT):
        yield f"values in two orders of the batch {said}"
    for one, was in zip(moved.student, whole.student, strict=True):
        if said := differs(one, was[other], EXACT):
            yield f"gradients in two orders of the batch {said}"


def twice(subject: Subject) -> Iterator[str]:
    """A batch that is there twice has the same value for each sample."""
    if subject.relational:
        return
    given = subject.given()
    both = subject(given.rows(torch.arange(BATCH).repeat(2)))
    value = subject(given)
    if said := differs(both, torch.cat([value, value]), EXACT):
        yield f"values of a batch and of the batch twice {said}"


def chunks(subject: Subject) -> Iterator[str]:
    """Values and gradients of parts are those of the whole: accumulated, or one in each process."""
    if subject.relational:
        return
    given = subject.given()
    whole = subject.outcome(given)
    for sizes in ((3, 3), (5, 1), (1, 2, 3)):
        parts = [subject.outcome(one) for one in _split(given, sizes)]
        if said := differs(torch.cat([one.value for one in parts]), whole.value, EXACT):
            yield f"values of parts {sizes} and of the whole {said}: does the loss compare samples (relational)?"
        for number, expected in enumerate(whole.student):
            if said := differs(torch.cat([one.student[number] for one in parts]), expected, EXACT):
                yield f"gradients of parts {sizes} and of the whole {said}"
        for name, one in whole.parameters.items():
            shares = [part.parameters[name] for part in parts]
            total = sum((share for share in shares if share is not None), torch.zeros(()))
            if one is not None and (said := differs(total.expand_as(one), one, 1e-7)):
                yield f"gradients of '{name}', added over parts {sizes} and of the whole, {said}"


def joined(subject: Subject) -> Iterator[str]:
    """Gathered over processes, each of which has the others' samples as constants, the gradient is the whole one."""
    if not subject.relational:
        return
    given = subject.given()
    whole = subject.outcome(given)
    for own in (slice(0, 2), slice(2, BATCH)):
        leaves = tuple(one[own].clone().requires_grad_() for one in given.student)
        student = tuple(
            torch.cat([one[: own.start], leaf, one[own.stop :]])
            for one, leaf in zip(given.student, leaves, strict=True)
        )
        value = subject(replace(given, student=student))
        if said := differs(value, whole.value, EXACT):
            yield f"values in one process and gathered {said}"
        for found, expected in zip(torch.autograd.grad(value, leaves), whole.student, strict=True):
            if said := differs(found, expected[own], EXACT):
                yield f"gradients in one process and gathered {said}"


def ignored(subject: Subject) -> Iterator[str]:
    """Of dense logits, a masked pixel changes nothing, whatever it and its label hold, and gets no gradient."""
    if not subject.places or "mask" not in subject.takes:
        return
    given = subject.given()
    kept = torch.arange(given.target.numel()).reshape(given.target.shape) % 3 > 0
    expected = subject.outcome(replace(given, mask=kept))
    for name, content in (("1e4", 1e4), ("NaN", float("nan")), ("inf", float("inf"))):
        sent = given.map(lambda one, c=content: torch.where(kept.unsqueeze(1), one, c))  # type: ignore[misc]
        found = subject.outcome(replace(sent, target=torch.where(kept, given.target, UNLABELED), mask=kept))
        if said := finite(found):
            yield f"masked pixels hold {name}: {said}"
            continue
        if said := differs(found.value, expected.value, EXACT):
            yield f"masked pixels hold {name}: values with their own content and this one {said}"
        for one, other in zip(found.student, expected.student, strict=True):
            if said := differs(one, other, EXACT):
                yield f"masked pixels hold {name}: gradients with their own content and this one {said}"
            if largest([one * ~kept.unsqueeze(1)]) > 0:
                yield f"masked pixels hold {name}: they get a gradient, expected 0"


def pixels(subject: Subject) -> Iterator[str]:
    """A part of a map has the values and gradients that it has in the whole, if the loss says so."""
    if not (subject.compares.pixels and subject.places):
        return
    given = subject.given()
    whole, part = subject.outcome(given), subject.outcome(_cropped(given))
    if whole.value.shape != given.target.shape:
        yield f"it says pixels=True and returns {tuple(whole.value.shape)}, expected {tuple(given.target.shape)}"
        return
    if said := differs(part.value, whole.value[:, CUT], EXACT):
        yield f"values of a part of a map and of the whole {said}"
    for one, other in zip(part.student, whole.student, strict=True):
        if said := differs(one, other[:, :, CUT], EXACT):
            yield f"gradients of a part of a map and of the whole {said}"


def _cropped(given: Given) -> Given:
    return replace(given.map(lambda one: one[:, :, CUT]), target=given.target[:, CUT])


def _split(given: Given, sizes: tuple[int, ...]) -> list[Given]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [given.rows(slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


CHECKS = (takes_mask, masked, all_masked, unlabeled, order, twice, chunks, joined, ignored, pixels)
