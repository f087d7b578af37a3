"""A compiled loss is the loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from limbeck.conformance.subject import Subject, differs


def compiled(subject: Subject, backend: str = "aot_eager") -> Iterator[str]:
    """Value and gradients of ``torch.compile`` are those without it."""
    given = subject.given().to(torch.float32)
    torch._dynamo.reset()
    try:
        module = subject.module(given)
        call = torch.compile(subject.loss if module is None else module, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own while it compiles: of breaks in the graph, not of the loss
            found = subject.outcome(given, call=call)
    finally:
        torch._dynamo.reset()
    expected = subject.outcome(given)
    if said := differs(found.value, expected.value, 1e-5):
        yield f"values with and without compiling ({backend}) {said}"
    for one, other in zip(found.student, expected.student, strict=True):
        if said := differs(one, other, 1e-4):
            yield f"gradients with and without compiling ({backend}) {said}"


CHECKS = (compiled,)
