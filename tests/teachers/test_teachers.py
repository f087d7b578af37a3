"""Teachers: constants in eval mode that leave the user's module as it was; ensembles; softmax found on outputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, NumericsError
from limbeck.losses import kl
from limbeck.objective import Objective, term
from limbeck.outputs import Outputs
from limbeck.teachers import (
    Ensemble,
    FunctionTeacher,
    ModuleTeacher,
    Recorded,
    Teacher,
    as_teacher,
    check_logits,
    detect_probabilities,
    evaluating,
)


def half(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.5


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


# Modules


def test_a_module_teaches_in_eval_mode_and_is_left_as_it_was() -> None:
    module = network().train()
    module[1].eval()  # a user's choice, such as frozen batch statistics
    module[0].weight.requires_grad_(False)
    modes = [part.training for part in module.modules()]
    wants = [parameter.requires_grad for parameter in module.parameters()]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = torch.randn(6, 3)
    teacher = ModuleTeacher(module)
    said = [teacher(x).logits for _ in range(2)]
    torch.testing.assert_close(said[0], said[1], rtol=0, atol=0)  # dropout is off
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == wants
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad(), evaluating(module):
        torch.testing.assert_close(said[0], module(x), rtol=0, atol=0)


def test_modes_are_put_back_when_a_module_fails() -> None:
    module = network().train()
    with pytest.raises(RuntimeError):
        ModuleTeacher(module)(torch.randn(2, 5))
    assert all(part.training for part in module.modules())


def test_what_a_module_says_has_no_graph_but_can_be_saved_for_backward() -> None:
    """Tensors of inference_mode can not, and a student's term multiplies with them."""
    said = ModuleTeacher(network())(torch.randn(2, 3)).logits
    assert not said.requires_grad
    assert not said.is_inference()
    z = torch.randn(2, 4, requires_grad=True)
    (z * said).sum().backward()
    assert torch.equal(z.grad, said)  # type: ignore[arg-type]


def test_only_the_student_learns() -> None:
    teacher, student, x = network(), nn.Linear(3, 4), torch.randn(6, 3)
    total, _ = Objective([term("kl")])(Outputs(student(x)), ModuleTeacher(teacher)(x), target=torch.full((6,), -1))
    total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())


def test_normalization_comes_before_the_module() -> None:
    module, x = nn.Linear(3, 2), torch.rand(4, 3)
    torch.testing.assert_close(ModuleTeacher(module, half)(x).logits, module((x - 0.5) / 0.5).detach())


def test_a_placed_copy_shares_nothing() -> None:
    module = network().train()
    seen: list[nn.Module] = []
    placed = ModuleTeacher(module, half).placed(lambda one: seen.append(one) or one.double())  # type: ignore[func-returns-value]
    assert seen[0] is not module
    assert all(parameter.dtype == torch.float64 and not parameter.requires_grad for parameter in seen[0].parameters())
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in module.parameters())
    assert module.training
    assert placed(torch.rand(2, 3, dtype=torch.float64)).logits.dtype == torch.float64


# Functions


def test_functions_are_asked_without_a_graph() -> None:
    weight = torch.ones(1, requires_grad=True)
    said = FunctionTeacher(lambda x: x * weight)(torch.ones(2, 2))
    assert not said.logits.requires_grad
    assert FunctionTeacher(lambda x: {"logits": x})(torch.ones(2, 2)).logits.shape == (2, 2)


def test_a_function_that_has_an_index_is_given_it() -> None:
    teacher = as_teacher(lambda inputs, index: index[:, None] * torch.ones(1, 2))
    assert teacher(torch.zeros(2, 5), torch.tensor([3, 7])).logits.tolist() == [[3.0, 3.0], [7.0, 7.0]]


def test_a_function_without_a_signature_is_called_with_the_inputs() -> None:
    assert as_teacher(torch.neg)(torch.ones(1, 2)).logits.tolist() == [[-1.0, -1.0]]


def test_a_function_that_gives_no_logits_is_refused() -> None:
    with pytest.raises(ModelError, match="ndarray"):
        FunctionTeacher(lambda x: np.zeros(3))(torch.zeros(1))


# Ensembles


def test_an_ensemble_by_hand() -> None:
    """(4, 0) with weight 3 and (0, 4) with weight 1, at temperature 2: .75 σ(2) + .25 σ(-2)."""
    both = Ensemble([lambda x: x, lambda x: x.flip(1)], weights=[3, 1])
    said = both(torch.tensor([[4.0, 0.0]]))
    p = 0.75 / (1 + math.exp(-2)) + 0.25 / (1 + math.exp(2))
    torch.testing.assert_close(torch.softmax(said.logits_at(2.0) / 2, dim=1), torch.tensor([[p, 1 - p]]))


def test_a_loss_sees_the_mean_of_the_softened_probabilities_at_its_temperature() -> None:
    """Neither the mean of the logits, nor the mean at temperature 1 softened afterwards."""
    z = torch.tensor([[[6.0, 0.0, 1.0]], [[0.0, 3.0, 0.0]]])
    both = Ensemble([lambda x: z[0], lambda x: z[1]])
    student, t = torch.tensor([[1.0, 0.5, 0.0]]), 4.0
    p_t = torch.softmax(z / t, dim=2).mean(dim=0)
    expected = t**2 * (p_t * (p_t.log() - torch.log_softmax(student / t, dim=1))).sum()
    objective = Objective([term("kl", 1.0, temperature=t)])
    found, _ = objective(Outputs(student), both(torch.zeros(1, 1)), target=torch.tensor([-1]))
    torch.testing.assert_close(found, expected)
    for wrong in (z.mean(dim=0), torch.softmax(z, dim=2).mean(dim=0).log()):
        assert abs(kl(student, wrong, temperature=t).item() - expected.item()) > 1e-2


def test_an_ensemble_in_an_ensemble_takes_part_with_its_members() -> None:
    a, b, c = (torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)) * 3 for seed in (1, 2, 3))
    nested = Ensemble([Ensemble([lambda x: a, lambda x: b], weights=[1, 3]), lambda x: c], weights=[2, 1])
    said = nested(torch.zeros(2, 1))
    for t in (1.0, 5.0):
        p_a, p_b, p_c = (torch.softmax(z / t, dim=1) for z in (a, b, c))
        torch.testing.assert_close(torch.softmax(said.logits_at(t) / t, 1), (p_a / 4 + p_b * 3 / 4) * 2 / 3 + p_c / 3)


def test_members_of_other_class_counts_are_refused_by_their_shapes() -> None:
    with pytest.raises(ModelError, match=r"\(2, 4\), \(2, 5\)"):
        Ensemble([lambda x: torch.zeros(2, 4), lambda x: torch.zeros(2, 5)])(torch.zeros(2, 1))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf], [0.0, 0.0], [1, 1, 1]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ModelError, match="2 takes as many positive weights"):
        Ensemble([nn.Linear(2, 2), nn.Linear(2, 2)], weights=weights)


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a member"):
        Ensemble([])


def test_the_normalization_reaches_an_ensembles_modules_and_leaves_teachers_alone() -> None:
    x, raw, own = torch.rand(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    both = as_teacher(Ensemble([raw, ModuleTeacher(own, lambda x: -x)]), half)
    expected = (torch.softmax(raw(half(x)), 1) + torch.softmax(own(-x), 1)) / 2
    torch.testing.assert_close(both(x).logits.softmax(1), expected.detach())
    again = as_teacher(both, lambda x: x * 100)  # it has one already
    torch.testing.assert_close(again(x).logits, both(x).logits)
    listed = as_teacher([raw, ModuleTeacher(own, lambda x: -x)], half)
    torch.testing.assert_close(listed(x).logits, both(x).logits)


def test_a_placed_ensemble_says_the_same() -> None:
    both, x = Ensemble([network(), network()], weights=[1, 2], normalization=half), torch.rand(4, 3)
    torch.testing.assert_close(both.placed(lambda one: one)(x).logits_at(3.0), both(x).logits_at(3.0))


# Recorded


def test_recorded_logits_are_addressed_by_sample() -> None:
    kept = Recorded(torch.arange(12.0).reshape(6, 2))
    assert kept(torch.zeros(2, 9), torch.tensor([5, 1])).logits.tolist() == [[10.0, 11.0], [2.0, 3.0]]


def test_recorded_ensembles_stay_ensembles() -> None:
    members = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    kept = Recorded(Outputs.ensemble(members, torch.tensor([0.5, 0.25, 0.25])))
    index = torch.tensor([4, 0])
    expected = Outputs.ensemble(members[:, index], torch.tensor([0.5, 0.25, 0.25]))
    torch.testing.assert_close(kept(torch.zeros(2, 1), index).logits_at(6.0), expected.logits_at(6.0))


@pytest.mark.parametrize(("index", "named"), [([0, -1], r"\[-1\]"), ([6, 2], r"\[6\]"), (None, "none")])
def test_samples_without_an_address_are_refused(index: list[int] | None, named: str) -> None:
    """-1 would silently be the last sample."""
    kept = Recorded(torch.zeros(6, 2))
    with pytest.raises(ModelError, match=named):
        kept(torch.zeros(2, 1), None if index is None else torch.tensor(index))


# What can teach


class Own:
    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        return Outputs(inputs)

    def placed(self, place: object) -> Own:
        return self


def test_what_can_teach() -> None:
    module, own = nn.Linear(2, 2), Own()
    assert isinstance(as_teacher(module), ModuleTeacher)
    assert isinstance(as_teacher(lambda x: x), FunctionTeacher)
    assert isinstance(as_teacher([module, module]), Ensemble)
    assert isinstance(as_teacher((module, lambda x: x)), Ensemble)
    assert as_teacher(own, half) is own
    for teacher in (ModuleTeacher(module), FunctionTeacher(len), Ensemble([module]), Recorded(torch.zeros(1, 2))):
        assert isinstance(teacher, Teacher)
        assert as_teacher(teacher) is teacher


@pytest.mark.parametrize("value", [None, 3, "resnet18", Path("t.pth"), {"a": 1}, nn.Linear, Own, np.zeros(3)])
def test_what_can_not_teach_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match="no teacher"):
        as_teacher(value)


# Softmax found on outputs

PIXELS = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1)) * 3
ROWS = torch.randn(32, 5, generator=torch.Generator().manual_seed(2)) * 3


@pytest.mark.parametrize("z", [ROWS, PIXELS, ROWS.bfloat16(), ROWS.half(), ROWS.double(), ROWS * 20, ROWS * 1e-3])
def test_a_softmax_is_found_and_logits_and_log_probabilities_are_not(z: Tensor) -> None:
    with pytest.raises(ModelError, match="the teacher ends in a softmax") as error:
        check_logits(torch.softmax(z, dim=1), "the teacher", 5)
    assert "remove the last softmax" in str(error.value.cure)
    for fine in (z, torch.log_softmax(z, dim=1), z.relu(), torch.sigmoid(z)):
        check_logits(fine, "the teacher", 5)
    check_logits(Outputs(z), "the teacher", 5)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_log_probabilities_are_as_good_as_logits(temperature: float) -> None:
    z_s = torch.randn(32, 5, generator=torch.Generator().manual_seed(3))
    found = kl(z_s, torch.log_softmax(ROWS, dim=1), temperature=temperature)
    torch.testing.assert_close(found, kl(z_s, ROWS, temperature=temperature), rtol=1e-4, atol=1e-4)


def test_few_rows_or_one_hot_rows_are_no_evidence() -> None:
    one_hot = torch.eye(5).repeat(4, 1)
    for fine in (torch.tensor([[0.25, 0.75]]), torch.softmax(ROWS[:3], dim=1), one_hot, torch.zeros(8, 5)):
        assert not detect_probabilities(fine)
    assert detect_probabilities(torch.softmax(ROWS[:4], dim=1))
    almost = torch.softmax(ROWS, dim=1)
    almost[7] += 0.01  # one row that sums to 1.05
    assert not detect_probabilities(almost)
    almost[7] = torch.tensor([0.6, 0.5, -0.1, 0.0, 0.0])  # one row that sums to 1 with a negative value
    assert not detect_probabilities(almost)


@pytest.mark.parametrize("shape", [(8, 4), (8, 6), (8,), (5, 8)])
def test_another_class_count_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected \[B, 5\]"):
        check_logits(torch.randn(shape), "the student", 5)


def test_logits_that_are_not_finite_are_refused() -> None:
    z = ROWS.clone()
    z[3, 1], z[9] = math.nan, math.inf
    with pytest.raises(NumericsError, match="the teacher gives NaN or infinite logits for 2 of 32"):
        check_logits(z, "the teacher", 5)
