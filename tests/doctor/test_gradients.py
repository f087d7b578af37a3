"""What each term gives the student: closed forms of the gradients, a detached term, a drowned one, healthy ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.doctor.gradients import about_terms, pulls
from limbeck.objective import Objective, supervised, term
from limbeck.outputs import Outputs


def measured(objective: Objective, *, target: Tensor | None = None, temperature_of_teacher: float = 5.0) -> Any:
    torch.manual_seed(0)
    student, inputs = nn.Linear(4, 3), torch.randn(16, 4)
    target = torch.arange(16) % 3 if target is None else target
    teacher = Outputs(temperature_of_teacher * torch.nn.functional.one_hot(torch.arange(16) % 3, 3).float())
    return pulls(objective, Outputs(student(inputs)), teacher, list(student.parameters()), target=target)


def test_the_norms_are_those_of_the_closed_form() -> None:
    """d/dz of w · mean CE is w (p - y) / B; of w · T² KL at T it is w T (p_T - q_T) / B; d/dW is xᵀ times that."""
    torch.manual_seed(0)
    student, inputs, target = nn.Linear(4, 3), torch.randn(16, 4), torch.arange(16) % 3
    heard, temperature = torch.randn(16, 3), 4.0
    objective = Objective([supervised(0.1), term("kl", 0.9, temperature=temperature)])
    z = student(inputs)
    found = pulls(objective, Outputs(z), Outputs(heard), list(student.parameters()), target=target)
    z = z.detach()
    hard = 0.1 * (z.softmax(1) - torch.nn.functional.one_hot(target, 3)) / 16
    soft = 0.9 * temperature * ((z / temperature).softmax(1) - (heard / temperature).softmax(1)) / 16
    for name, expected in (("supervised", hard), ("kl", soft)):
        assert found[name].logits == pytest.approx(float(expected.norm()), rel=1e-5)
        whole = torch.cat([(expected.T @ inputs).flatten(), expected.sum(0)])
        assert found[name].parameters == pytest.approx(float(whole.norm()), rel=1e-5)


def detached(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.detach() - teacher).square().mean(dim=1)


def by_argmax(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.argmax(dim=1) != teacher.argmax(dim=1)).float() + 0 * student.sum(dim=1)


@pytest.mark.parametrize("loss", [detached, by_argmax])
def test_a_term_without_gradient_is_an_error(loss: Any) -> None:
    found = about_terms(measured(Objective([supervised(0.1), term(loss, 0.9)])))
    assert [(one.code, one.severity) for one in found] == [("no_gradient", "error")]
    assert found[0].evidence["term"] == loss.__name__
    assert f"'{loss.__name__}'" in found[0].message


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 8.0, 20.0])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_the_usual_objectives_are_left_alone(temperature: float, weight: float) -> None:
    objective = Objective.from_alpha_on_hard(1 - weight, temperature)
    assert about_terms(measured(objective)) == []


def test_a_soft_term_drowned_by_a_high_temperature_is_told_with_the_ratio() -> None:
    found = about_terms(measured(Objective([supervised(0.5), term("kl", 0.5, temperature=30.0, square=False)])))
    assert [(one.code, one.severity) for one in found] == [("term_drowned", "warning")]
    assert found[0].evidence["terms"] == ["supervised", "kl"]
    assert found[0].evidence["ratio"] > 100
    assert "'kl' is drowned" in found[0].message
    assert "square" in found[0].cure


def test_a_supervised_term_drowned_by_its_weight_is_told_too() -> None:
    found = about_terms(measured(Objective([supervised(1e-4), term("kl", 1.0)])))
    assert found[0].evidence["terms"] == ["kl", "supervised"]


def test_terms_of_weight_zero_or_without_a_label_are_left_out() -> None:
    objective = Objective([supervised(0.5), term("kl", 0.5), term("kl", 0.0, name="watched")])
    assert set(measured(objective)) == {"supervised", "kl"}
    assert set(measured(objective, target=torch.full((16,), -1))) == {"kl"}


def test_a_student_that_is_the_teachers_copy_learns_nothing_yet_and_that_is_no_error() -> None:
    z = torch.randn(8, 3, requires_grad=True)
    found = pulls(Objective([term("kl", 1.0)]), Outputs(z), Outputs(z.detach()), [], target=torch.zeros(8).long())
    assert found["kl"].learned
    assert about_terms(found) == []


def test_the_global_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    z = torch.ones(8, 3, requires_grad=True)
    pulls(Objective([term("kl", 1.0)]), Outputs(z), Outputs(z.detach()), [], target=torch.zeros(8).long())
    assert torch.equal(before, torch.get_rng_state())
