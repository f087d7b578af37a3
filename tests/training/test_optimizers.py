"""Optimizers against their published update rules, and rates against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.objective import Objective, term
from limbeck.training.loop import Job, fit
from limbeck.training.optimizers import build_optimizer, build_schedule, rate_factor
from limbeck.training.settings import Optimizer, Schedule

GRADIENTS = [torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, 4.0, -1.0]), torch.tensor([-2.0, 0.1, 0.2])]


def run(settings: Optimizer) -> Tensor:
    weight = nn.Parameter(torch.tensor([1.0, 2.0, -3.0]))
    optimizer = build_optimizer(settings, [weight])
    for gradient in GRADIENTS:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    w, v = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in GRADIENTS:
        g = gradient.double() + 0.01 * w
        v = 0.8 * v + g
        w = w - 0.1 * (g + 0.8 * v if nesterov else v)
    found = run(Optimizer("sgd", lr=0.1, weight_decay=0.01, momentum=0.8, nesterov=nesterov))
    torch.testing.assert_close(found.double(), w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw(name: Any) -> None:
    """Kingma and Ba, 2015; Loshchilov and Hutter, 2019: the decay beside the gradient, not in it."""
    w = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    m = v = torch.zeros(3, dtype=torch.float64)
    for t, gradient in enumerate(GRADIENTS, start=1):
        g = gradient.double() + (0.05 * w if name == "adam" else 0)
        if name == "adamw":
            w = w * (1 - 0.1 * 0.05)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(run(Optimizer(name, lr=0.1, weight_decay=0.05)).double(), w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "rate", "decay"), [("sgd", 0.05, 5e-4), ("adam", 1e-3, 0.0), ("adamw", 1e-3, 1e-2)])
def test_defaults_are_those_that_the_settings_promise(name: Any, rate: float, decay: float) -> None:
    defaults = build_optimizer(Optimizer(name), nn.Linear(1, 1).parameters()).defaults
    assert (defaults["lr"], defaults["weight_decay"], defaults["fused"]) == (rate, decay, True)
    assert build_optimizer(Optimizer(name, lr=0.0, weight_decay=0.0), nn.Linear(1, 1).parameters()).defaults["lr"] == 0


def test_frozen_parameters_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    assert [len(group["params"]) for group in build_optimizer(Optimizer(), module.parameters()).param_groups] == [2]


def test_cosine_with_warmup() -> None:
    epochs, steps, warm = 5, 7, 10.5  # one epoch and a half
    factor = rate_factor(Schedule("cosine", warmup=1.5), epochs, steps)
    for step in range(epochs * steps + 1):
        expected = (
            min((step + 1) / warm, 1) if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (35 - warm)))
        )
        assert factor(step) == pytest.approx(expected), step
    assert factor(35) == pytest.approx(0)
    assert factor(99) == pytest.approx(0)
    assert max(map(factor, range(35))) <= 1


def test_steps_and_constant() -> None:
    factor = rate_factor(Schedule("step", milestones=(2, 3), gamma=0.1), epochs=4, steps=10)
    found = [factor(step) for step in (0, 19, 20, 29, 30, 39)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warmed = rate_factor(Schedule("step", warmup=1, milestones=(2,)), epochs=4, steps=10)
    assert [warmed(step) for step in (0, 4, 9, 10, 19, 20)] == pytest.approx([0.1, 0.5, 1, 1, 1, 0.1])
    constant = rate_factor(Schedule("constant", warmup=0.5), epochs=2, steps=4)
    assert [constant(step) for step in range(8)] == [0.5, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("schedule", [Schedule("cosine", warmup=5), Schedule("cosine", warmup=0.1), Schedule("cosine")])
def test_no_schedule_divides_by_zero(schedule: Schedule) -> None:
    factor = rate_factor(schedule, epochs=5, steps=1)
    assert all(0 <= factor(step) <= 1 for step in range(10))


def test_torchs_schedule_gives_these_rates() -> None:
    settings = Schedule("cosine", warmup=1)
    optimizer = build_optimizer(Optimizer("sgd", lr=0.2), nn.Linear(1, 1).parameters())
    schedule, factor = build_schedule(optimizer, settings, 3, 4), rate_factor(settings, 3, 4)
    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * factor(step))
        optimizer.step()
        schedule.step()


def test_a_training_takes_these_rates(make_job: Callable[..., Job]) -> None:
    """With a constant gradient and no momentum the distance gone is the sum of the rates."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.w.expand(len(x), 3)

    def loss(student: Tensor) -> Tensor:
        return student.mean(dim=1)

    job = make_job(
        Slope(),
        objective=Objective([term(loss)]),
        optimizer=Optimizer("sgd", lr=0.3, momentum=0.0, weight_decay=0.0),
        schedule=Schedule("cosine", warmup=1),
        epochs=4,
    )
    rates = [0.3 * (t + 1) / 5 for t in range(5)] + [0.15 * (1 + math.cos(math.pi * t / 15)) for t in range(15)]
    assert float(fit(job).last["w"]) == pytest.approx(-sum(rates), rel=1e-5)
