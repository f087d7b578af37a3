"""Standardized logits: an option of the losses with a temperature."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.losses.logit_truth import LABELED, STANDARDIZE
from torch import Tensor

from limbeck.losses import TABLE, kl
from limbeck.losses.logits.soften import standardized
from limbeck.objective import Objective

TARGET = torch.tensor([0, 1, 2, 3])


def logits(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call(name: str, student: Tensor, teacher: Tensor, **hyper: Any) -> Tensor:
    given = {"target": TARGET} if name in LABELED else {}
    return TABLE[name](student, teacher, **given, **hyper)


def test_the_standard_deviation_is_the_populations() -> None:
    found = standardized(torch.tensor([[1.0, 2.0, 3.0, 6.0]]), 1)  # mean 3, squares 4 + 1 + 0 + 9 = 14, by 4
    torch.testing.assert_close(found, torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / 3.5**0.5)
    z = logits(4, 5, 2, 2, seed=1)
    mean, std = z.mean(1, keepdim=True), z.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(standardized(z, 1), (z - mean) / std)
    torch.testing.assert_close(standardized(z.movedim(1, -1), -1).movedim(-1, 1), (z - mean) / std)


@pytest.mark.parametrize("size", [0.0, 0.1, 333.3, 1e4, -1e4 / 3, 1e7])
def test_a_constant_row_becomes_zeros_with_a_small_gradient(size: float) -> None:
    z = torch.full((3, 7), size, requires_grad=True)
    found = standardized(z, 1)
    assert bool((found == 0).all())
    (slope,) = torch.autograd.grad(found[:, 0].sum(), z)
    torch.testing.assert_close(slope[0], torch.tensor([6.0, -1, -1, -1, -1, -1, -1]) / 7)


def test_the_gradient_is_the_finite_difference() -> None:
    assert torch.autograd.gradcheck(lambda z: standardized(z, 1), (logits(3, 4, 2, seed=2).requires_grad_(),))


@pytest.mark.parametrize("name", STANDARDIZE)
def test_the_size_of_a_row_changes_nothing_when_it_is_on(name: str) -> None:
    z_s, z_t = logits(4, 5, seed=3), logits(4, 5, seed=4)
    scale_s, scale_t = torch.tensor([[0.1], [1.0], [3.0], [50.0]]), torch.tensor([[7.0], [0.2], [1.0], [2.0]])
    if name == "wsld":  # its weight is of the logits as they are
        scale_s = scale_t = torch.ones(4, 1)
    found = call(name, z_s, z_t, standardize=True)
    scaled = call(name, z_s * scale_s + 3.0, z_t * scale_t - 2.0, standardize=True)
    torch.testing.assert_close(scaled, found, rtol=1e-9, atol=1e-12)
    off = call(name, z_s, z_t)
    assert not torch.allclose(off, found, rtol=1e-2)
    if name != "wsld":
        assert not torch.allclose(call(name, z_s * scale_s, z_t * scale_t), off, rtol=1e-2)


def test_it_comes_before_the_temperature_and_is_on_both_sides() -> None:
    z_s, z_t = logits(4, 5, seed=5), logits(4, 5, seed=6)
    expected = kl(standardized(z_s, 1), standardized(z_t, 1), temperature=2.0)
    torch.testing.assert_close(kl(z_s, z_t, temperature=2.0, standardize=True), expected)
    assert bool((kl(3 * z_t, z_t, standardize=True) < 1e-12).all())  # one relation of the logits, two sizes
    assert bool((kl(3 * z_t, z_t) > 1e-2).all())


def test_a_recipe_turns_it_on() -> None:
    objective = Objective.from_recipe({"supervised": 0.1, "kl": {"weight": 9, "temperature": 2, "standardize": True}})
    assert objective.terms[1].settings["standardize"] is True
