"""Schedules of a term's weight, against numbers by hand, and their way through recipe, objective and training."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.objective import Objective, supervised, term
from limbeck.objective.schedule import Schedule
from limbeck.outputs import Outputs


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule(), {0: 1, 7.5: 1, 1000: 1}),
        (Schedule(warmup=20), {0: 0, 5: 0.25, 20: 1, 21: 1}),
        (Schedule(linear=(10, 30)), {0: 1, 10: 1, 20: 0.5, 25: 0.25, 30: 0, 31: 0}),
        (Schedule(linear=(0, 4), to=3.0), {0: 1, 2: 2, 4: 3, 9: 3}),
        (Schedule(cosine=(0, 6), to=0.2), {0: 1, 2: 0.2 + 0.8 * 0.75, 3: 0.6, 6: 0.2}),
        (Schedule(off=3), {2.999: 1, 3: 0, 4: 0}),
        (Schedule(off=0), {0: 0}),
        (Schedule(warmup=2, linear=(2, 4)), {1: 0.5, 2: 1, 3: 0.5}),
    ],
)
def test_factors(schedule: Schedule, factors: dict[float, float]) -> None:
    for epoch, factor in factors.items():
        assert schedule.factor(epoch) == pytest.approx(factor, abs=1e-12)
    again = Schedule.of(json.loads(json.dumps(schedule.to_recipe()))) if schedule.to_recipe() else Schedule()
    assert again == schedule


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"warm": 3}, r"objective.kl.a schedule has no 'warm'; did you mean 'warmup'"),
        ({"warmup": -1}, "schedule.warmup is -1"),
        ({"warmup": math.nan}, "schedule.warmup is nan"),
        ({"linear": 3}, r"schedule.linear is 3, expected \[start, end\]"),
        ({"linear": [4, 4]}, "a start below the end"),
        ({"linear": [0, 4], "cosine": [0, 4]}, "not both"),
        ({"off": True}, "schedule.off is True"),
        ("cosine", "schedule is 'cosine', expected a mapping"),
        ({}, "expected a mapping"),
    ],
)
def test_mistakes(given: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        term("kl", schedule=given)


def test_a_weight_that_is_off_leaves_no_gradient_and_the_value_is_told() -> None:
    objective = Objective([supervised(0.5), term("kl", 2.0, schedule={"warmup": 4, "off": 6})])
    z_t, target = Outputs(torch.tensor([[2.0, 0.0]])), torch.tensor([0])
    gradients = {}
    for epoch in (0.0, 1.0, 5.0, 6.0):
        z = torch.zeros(1, 2, requires_grad=True)
        total, parts = objective(Outputs(z), z_t, target=target, weights=objective.weights_at(epoch))
        total.backward()
        assert z.grad is not None
        gradients[epoch] = z.grad[0, 0].item()
        kl = 16 * (p := torch.tensor([0.5, 0.0]).softmax(0)).mul((2 * p).log()).sum()
        assert parts["kl"].item() == pytest.approx(kl.item(), rel=1e-5)
    soft = 4 * (0.5 - p[0].item())  # T · (softmax(0) - p_t)
    assert gradients == pytest.approx({0.0: -0.25, 1.0: -0.25 + 0.5 * soft, 5.0: -0.25 + 2 * soft, 6.0: -0.25})


def test_all_weights_off_is_a_zero_with_a_graph() -> None:
    objective = Objective([term("kl", 1.0, schedule={"off": 1})])
    z = torch.ones(1, 2, requires_grad=True)
    total, _ = objective(Outputs(z), Outputs(torch.zeros(1, 2)), weights=objective.weights_at(2))
    total.backward()
    assert total.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_the_control_has_weight_1_on_labels_all_the_time() -> None:
    objective = Objective([supervised(0.1, label_smoothing=0.1), term("kl", 0.9)])
    scheduled = Objective([term("cross_entropy", 0.1, name="supervised", schedule={"warmup": 5}), term("kl", 0.9)])
    assert [one.weights_at(0) for one in (objective.without_teacher(), scheduled.without_teacher())] == [
        {"supervised": 1.0},
        {"supervised": 1.0},
    ]
