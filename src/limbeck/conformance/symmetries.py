"""Stated invariances: what a loss says changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.conformance.subject import Given, Subject, differs, largest


def _drawn(one: Tensor, low: float, high: float, *, sample: bool = False) -> Tensor:
    """A number for each row of logits, the classes on axis 1, or for each sample."""
    random = torch.Generator().manual_seed(8)
    rows = (len(one), *[1] * (one.ndim - 1)) if sample else one[:, :1].shape
    return low + (high - low) * torch.rand(rows, generator=random, dtype=one.dtype)


def _rotated(one: Tensor) -> Tensor:
    width = one.shape[1]
    random = torch.Generator().manual_seed(9)
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=random, dtype=one.dtype))
    return torch.einsum("bc...,cd->bd...", one, turn)


CHANGES = {
    "shift": lambda one, sample: one + _drawn(one, -50.0, 50.0, sample=sample),
    "scale_row": lambda one, sample: one * _drawn(one, 0.2, 5.0, sample=sample),
    "scale": lambda one, sample: 3.7 * one,
    "rotation": lambda one, sample: _rotated(one),
}


def invariances(subject: Subject) -> Iterator[str]:
    """Each stated change, of the student or of the teacher, leaves the value as it is."""
    given: Given = subject.given()
    value = subject(given)
    sample = subject.compares.dense  # a dense loss may take its softmax over places
    for name in subject.compares.invariant:
        for side in subject.sides:
            changed = given.map(lambda one, name=name: CHANGES[name](one, sample), side)  # type: ignore[misc]
            if said := differs(subject(changed), value, 1e-6, scale=largest([value])):
                yield f"'{name}' of the {side} is said to change nothing; values before and after it {said}"


CHECKS = (invariances,)
