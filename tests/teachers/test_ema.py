"""The moving average of a student, against its sum written out, and through a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.teachers import EmaTeacher, Teacher
from limbeck.training.state import Follower


def student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def steps(module: nn.Module, teacher: EmaTeacher, count: int) -> list[torch.Tensor]:
    """What the first weight was at each step."""
    seen, parameters = [], list(module.parameters())
    for number in range(count):
        module(torch.randn(8, 3, generator=torch.Generator().manual_seed(number)))
        with torch.no_grad():
            for one in parameters:
                one.add_(0.1 * (number + 1))
        teacher.follow(module)
        seen.append(parameters[0].detach().clone())
    return seen


def test_it_is_the_plain_mean_until_the_decay_is_reached_and_then_forgets() -> None:
    module, teacher = student(), EmaTeacher(0.75)
    teacher.begin(module)
    seen = [next(module.parameters()).detach().clone(), *steps(module, teacher, 5)]
    assert teacher.module is not None
    expected = sum(seen[:4]) / 4  # after step 3, 1 - 1/4 is the decay
    for one in seen[4:]:
        expected = 0.75 * expected + 0.25 * one
    torch.testing.assert_close(next(teacher.module.parameters()), expected)


def test_averages_of_batch_norm_follow_and_counts_are_copied() -> None:
    module, teacher = student(), EmaTeacher(0.5)
    teacher.begin(module)
    start = module[1].running_mean.clone()
    steps(module, teacher, 1)
    assert teacher.module is not None
    copied = dict(teacher.module.named_buffers())
    torch.testing.assert_close(copied["1.running_mean"], (start + module[1].running_mean) / 2)
    assert copied["1.num_batches_tracked"].item() == 1


def test_the_student_is_left_in_training_and_the_teacher_has_no_graph() -> None:
    module, teacher = student().train(), EmaTeacher(0.9)
    teacher.begin(module)
    said = teacher(torch.ones(5, 3)).logits
    assert isinstance(teacher, Teacher)
    assert isinstance(teacher, Follower)
    assert not said.requires_grad
    assert torch.equal(said, teacher(torch.ones(5, 3)).logits)  # no dropout
    assert module.training
    assert all(part.training for part in module.modules())
    assert all(one.requires_grad for one in module.parameters())
    assert module[1].num_batches_tracked.item() == 0


def test_it_goes_on_from_what_was_kept_as_if_never_stopped() -> None:
    whole, first = EmaTeacher(0.8), EmaTeacher(0.8)
    module = student()
    whole.begin(module)
    steps(module, whole, 6)
    module = student()
    first.begin(module)
    steps(module, first, 3)
    kept = {name: value.clone() for name, value in first.tensors().items()}
    second = EmaTeacher(0.8)
    second.begin(student())
    second.load(kept)
    for number in range(3, 6):
        module(torch.randn(8, 3, generator=torch.Generator().manual_seed(number)))
        with torch.no_grad():
            for one in module.parameters():
                one.add_(0.1 * (number + 1))
        second.follow(module)
    for name, value in whole.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name


def test_it_reads_layers() -> None:
    teacher = EmaTeacher(0.9)
    teacher.begin(student())
    assert teacher.reading(["0"])(torch.ones(2, 3)).features["0"].shape == (2, 4)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), True, "0.9"])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ModelError, match="decay"):
        EmaTeacher(decay)


def test_it_is_not_asked_before_a_training_begins() -> None:
    with pytest.raises(ModelError, match="before the student's training began"):
        EmaTeacher()(torch.ones(1, 3))
