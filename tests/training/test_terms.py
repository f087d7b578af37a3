"""Training with terms that read layers: adapters and loss modules are trained, kept and put back; weights follow."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import NumericsError
from limbeck.losses import compares
from limbeck.objective import Objective, Scene, bind, supervised, term
from limbeck.objective.balance import EVERY
from limbeck.teachers import FunctionTeacher, ModuleTeacher, reading
from limbeck.training.interrupt import Interrupted
from limbeck.training.loop import Job, fit

Make = Callable[..., Any]


def wide(seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 3))


def bound(job: Job, objective: Objective) -> Job:
    """A job whose objective knows the layers of its module and of a wider teacher."""
    teacher = ModuleTeacher(wide(), job.preparation)
    inputs = job.split.fetch(torch.arange(4))[0]
    found = bind(objective, Scene(job.module, job.preparation, teacher, inputs, job.split.targets, 3, job.seed))
    return replace(job, objective=found, teacher=reading(teacher, found.layers("teacher")))


@compares("pooled", same=False)
class Remembering(nn.Module):
    """A loss with a parameter, and a memory of the steps that were taken."""

    memory: Tensor

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.map = nn.Linear(student_shape[0], teacher_shape[0])
        self.register_buffer("memory", torch.zeros(teacher_shape[0]))
        self.seen = torch.zeros(teacher_shape[0])

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        self.seen = teacher.detach().sum(dim=0)
        return (self.map(student) - teacher.detach() - 0.01 * self.memory).square().mean(dim=1)

    def after_step(self) -> None:
        self.memory += self.seen


TERMS = [supervised(0.5), term("fitnet", 1.0, at="2"), term("pkd", 0.1, at="2"), term(Remembering, 0.5, at="2")]


def test_adapters_learn_and_the_teacher_does_not(make_job: Make, same: Make) -> None:
    job = bound(make_job(epochs=2), Objective(TERMS))
    before = {name: one.clone() for name, one in job.objective.modules.state_dict().items()}
    teacher = {name: one.clone() for name, one in job.teacher.module.state_dict().items()}
    fitted = fit(job)
    assert sorted(before) == sorted(fitted.extras)
    kept = [name for name in before if torch.equal(before[name], fitted.extras[name])]
    assert kept == ["pkd0_adapter0.student.0.bias"]  # each channel is standardized: a bias changes nothing
    assert same(teacher, job.teacher.module.state_dict())
    assert not any(one.requires_grad and one.grad is not None for one in job.teacher.module.parameters())
    assert list(fitted.last) == list(job.module.state_dict())  # nothing of them is in the student


def test_one_step_by_hand(make_job: Make) -> None:
    """Plain SGD on 8 samples: student and adapter move along the gradient of the sum, computed here by autograd."""
    job = bound(make_job(batch_size=40), Objective([supervised(0.5), term("fitnet", 2.0, at="2")]))
    link = job.objective.terms[1].links[0]
    weights = [one.detach().clone().requires_grad_() for one in job.module.parameters()]
    own = [one.detach().clone().requires_grad_() for one in link.adapters[0].parameters()]
    x = job.preparation(job.split.fetch(torch.arange(40))[0]).flatten(1)
    hidden = torch.tanh(x @ weights[0].T + weights[1])
    logits = hidden @ weights[2].T + weights[3]
    theirs = torch.tanh(job.teacher.module[1](x)).detach()
    hint = (hidden @ own[0].T + own[1] - theirs).square().mean()
    (0.5 * nn.functional.cross_entropy(logits, job.split.targets) + 2.0 * hint).backward()
    expected = [one - 0.1 * one.grad for one in [*weights, *own]]
    fit(job)
    found = [*job.module.parameters(), *link.adapters[0].parameters()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach(), other.detach())


def test_a_stopped_training_goes_on_with_adapters_memory_and_balance(
    make_job: Make, same: Make, recorder: Make
) -> None:
    balance = {"supervised": 1, "fitnet": 2}

    def job(folder: str, act: Callable[[int], None] | None = None) -> Job:
        made = make_job(epochs=3, folder=folder, reporter=recorder(act), checkpoint_seconds=1e9)
        return bound(made, Objective(TERMS, balance=balance))

    def stop(step: int) -> None:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = fit(job("whole"))
    with pytest.raises(Interrupted):
        fit(job("stopped", stop))
    again = job("stopped")
    resumed = fit(again)
    assert same(whole.last, resumed.last)
    assert same(whole.extras, resumed.extras)
    assert bool(resumed.extras["Remembering0_loss.memory"].abs().sum() > 0)


def test_a_refused_step_changes_no_adapter_and_no_memory(make_job: Make) -> None:
    job = bound(
        make_job(module=nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))), Objective(TERMS)
    )
    extras = job.objective.modules
    before = {name: one.clone() for name, one in extras.state_dict().items()}

    def poisoned(inputs: Tensor, index: Tensor | None = None) -> Any:
        said = ModuleTeacher(wide(), job.preparation, ("2",))(inputs)
        return replace(said, features={"2": said.features["2"] * float("nan")})

    with pytest.raises(NumericsError, match=r"term 'fitnet' is not finite .* features '2' of the teacher"):
        fit(replace(job, teacher=poisoned))
    assert all(torch.equal(one, before[name]) for name, one in extras.state_dict().items())


def test_balanced_shares_are_reached(make_job: Make) -> None:
    """The shares that the journal shows are those that were declared, whatever the losses' scales are."""
    objective = Objective(
        [supervised(1.0), term("kl", 1e-4), term("fitnet", 1e3, at="2")],
        balance={"supervised": 2, "kl": 1, "fitnet": 1},
    )
    job = bound(make_job(epochs=6, batch_size=40), objective)
    job = replace(job, settings=replace(job.settings, optimizer=replace(job.settings.optimizer, lr=1e-12)))
    fit(job)
    gradient = job.reporter.lines[-1]["train"]["gradient"]
    assert gradient["kl"] / gradient["supervised"] == pytest.approx(0.5, rel=1e-3)
    assert gradient["fitnet"] / gradient["supervised"] == pytest.approx(0.5, rel=1e-3)
    weights = job.reporter.lines[-1]["train"]["weights"]
    assert weights["supervised"] == 1.0
    assert weights["kl"] > 1e-3
    assert EVERY > 1


def test_the_gradient_that_is_told_is_the_terms_own(make_job: Make) -> None:
    """Of a linear model on one batch: |∂CE/∂W| by hand."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    job = make_job(module, batch_size=40, objective=Objective([supervised(0.5), term("kl", 0.0)]))
    job = replace(job, teacher=FunctionTeacher(lambda x: torch.zeros(len(x), 3)))
    inputs = job.preparation(job.split.fetch(torch.arange(40))[0]).flatten(1)
    p = torch.softmax(inputs @ module[1].weight.T + module[1].bias, dim=1).detach()
    slope = (p - nn.functional.one_hot(job.split.targets, 3)) / 40
    norm = torch.cat([(slope.T @ inputs).flatten(), slope.sum(dim=0)]).norm().item()
    fit(job)
    assert job.reporter.lines[0]["train"]["gradient"] == pytest.approx({"supervised": 0.5 * norm, "kl": 0.0}, rel=1e-4)


def test_weights_follow_their_schedules_in_the_journal(make_job: Make) -> None:
    objective = Objective([supervised(1.0), term("kl", 0.5, schedule={"linear": [0, 4]})])
    job = make_job(objective=objective, teacher=FunctionTeacher(lambda x: torch.ones(len(x), 3)), epochs=4)
    fit(job)
    lines = job.reporter.lines
    assert [line["train"]["weights"]["kl"] for line in lines] == pytest.approx([0.375, 0.25, 0.125, 0.0])
    assert all(line["train"]["gradient"]["kl"] > 0 for line in lines)


def test_a_compiled_student_trains_as_the_plain_one(make_job: Make) -> None:
    """After a control of the same class, which was compiled without a tap and must not be taken for it."""
    objective = Objective([supervised(0.5), term("fitnet", 1.0, at="2")])
    fit(make_job(folder="control", compile=True))
    plain, compiled = (bound(make_job(folder=name), objective) for name in ("plain", "compiled"))
    one, other = fit(plain), fit(replace(compiled, settings=replace(compiled.settings, compile=True)))
    for name, value in one.last.items():
        torch.testing.assert_close(other.last[name], value, rtol=1e-4, atol=1e-5)
    for name, value in one.extras.items():
        torch.testing.assert_close(other.extras[name], value, rtol=1e-4, atol=1e-5)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in compiled.module.modules())
