"""Losses in two real processes give the values and gradients of one; this file is also what torchrun runs in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck import losses
from limbeck.conformance.subject import BATCH, Given, Subject, differs
from limbeck.training.distributed import processes, world
from limbeck.training.gather import Joined

PARTS = (slice(0, 2), slice(2, BATCH))  # of two lengths
NAMES = list(losses.TABLE)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[str]]]:
    """What each process has found, by loss; one launch for all."""
    folder = tmp_path_factory.mktemp("losses")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, env=environment, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_the_gradient_of_one(told: list[dict[str, list[str]]], name: str) -> None:
    assert [found[name] for found in told] == [[], []]


def test_samples_that_are_not_joined_are_found(told: list[dict[str, list[str]]]) -> None:
    for found in told:
        assert found["not joined"], "a relational loss of a part is not that of the whole"


def joined(given: Given, gather: Joined) -> Given:
    """The samples of both processes."""
    mask = None if given.mask is None else gather(given.mask)
    return replace(given.map(gather), target=gather(given.target), index=gather(given.index), mask=mask)


def difference(subject: Subject, given: Given, *, gathers: bool) -> list[str]:
    """How this process's part of the gradient differs from that of one process."""
    here = world()
    whole = subject.outcome(given)
    own = PARTS[here.rank]
    part = given.rows(own)
    part = part if given.mask is None else replace(part, mask=given.mask[own])
    leaves = tuple(one.clone().requires_grad_() for one in part.student)
    sent = replace(part, student=leaves)
    module = subject.module(given)
    value = subject(joined(sent, Joined(BATCH, True)) if gathers else sent, module=module)
    parameters = {} if module is None else dict(module.named_parameters())
    gradients = torch.autograd.grad(value.sum(), [*leaves, *parameters.values()], allow_unused=True)
    expected = whole.value if subject.relational else whole.value[own]
    said = [differs(value, expected, 1e-9)]
    said += [differs(_there(one), other[own], 1e-9) for one, other in zip(gradients, whole.student, strict=False)]
    for (name, _), one in zip(parameters.items(), gradients[len(leaves) :], strict=True):
        other = whole.parameters[name]
        if one is not None and other is not None:
            total = torch.tensor(here.summed(one.flatten().tolist())).reshape(one.shape)
            said.append(differs(total, other, 1e-6))
    return [one for one in said if one]


def _there(one: Tensor | None) -> Tensor:
    return torch.zeros(()) if one is None else one


def main(folder: Path) -> None:
    found: dict[str, list[str]] = {}
    with processes() as here:
        for name in NAMES:
            subject = Subject(name, {})
            given = subject.given()
            found[name] = difference(subject, given, gathers=subject.relational)
            if "mask" in subject.takes:
                masked = subject.masked(given, torch.tensor([True, False, True, True, False, True]))
                found[name] += difference(subject, masked, gathers=subject.relational)
        found["not joined"] = difference(Subject("dist", {}), Subject("dist", {}).given(), gathers=False)
        (folder / f"{here.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    main(Path(arguments[0]))
