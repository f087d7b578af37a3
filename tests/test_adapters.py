"""Adapters: two features of one shape, at a cost that is told; only the student's side learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from limbeck.adapters import KINDS, Adapter, adapter, checked, estimate
from limbeck.errors import ModelError

Shape = tuple[int, ...]

# student, teacher, kind, steps, shape of both afterwards, parameters, MACs: counted by hand
CASES: list[tuple[Shape, Shape, str, str, Shape, int, int]] = [
    ((8, 4, 4), (8, 4, 4), "auto", "none", (8, 4, 4), 0, 0),
    ((8, 4, 4), (8, 4, 4), "none", "none", (8, 4, 4), 0, 0),
    ((3, 2, 5, 5), (3, 2, 5, 5), "auto", "none", (3, 2, 5, 5), 0, 0),
    ((8, 4, 4), (8, 4, 4), "conv", "conv", (8, 4, 4), 64 + 16, 64 * 16),
    ((8, 4, 4), (16, 4, 4), "auto", "conv", (16, 4, 4), 128 + 32, 128 * 16),
    ((8, 8, 8), (8, 4, 4), "auto", "resize", (8, 4, 4), 0, 0),
    ((8, 4, 4), (8, 8, 8), "resize", "resize", (8, 4, 4), 0, 0),
    ((8, 8, 8), (16, 4, 4), "conv", "resize + conv", (16, 4, 4), 128 + 32, 128 * 16),
    ((8, 4, 6), (16, 8, 3), "auto", "resize + conv", (16, 4, 3), 128 + 32, 128 * 12),
    ((8,), (12,), "auto", "linear", (12,), 96 + 12, 96),
    ((8,), (8,), "linear", "linear", (8,), 64 + 8, 64),
    ((7, 8), (7, 12), "auto", "linear", (7, 12), 96 + 12, 96 * 7),
    ((17, 8), (16, 12), "auto", "tokens + linear", (16, 12), 96 + 12, 96 * 16),
    ((65, 8), (16, 12), "linear", "tokens + resize + linear", (16, 12), 96 + 12, 96 * 16),
    ((8, 4, 4), (17, 12), "auto", "tokens + conv", (12, 4, 4), 96 + 24, 96 * 16),
    ((17, 8), (12, 4, 4), "auto", "tokens + conv", (12, 4, 4), 96 + 24, 96 * 16),
    ((8, 4, 4), (16, 12), "tokens", "tokens + linear", (16, 12), 96 + 12, 96 * 16),
    ((16, 8), (12, 4, 4), "tokens", "tokens + linear", (16, 12), 96 + 12, 96 * 16),
    ((8, 4, 4), (69, 12), "tokens", "tokens + resize + linear", (16, 12), 96 + 12, 96 * 16),
    ((16, 8), (17, 12), "conv", "tokens + conv", (12, 4, 4), 96 + 24, 96 * 16),
    ((8, 3, 6), (33, 12), "auto", "tokens + resize + conv", (12, 3, 6), 96 + 24, 96 * 18),  # 4 · 8 and a class token
    ((8, 4, 4), (12,), "auto", "pooled + linear", (12,), 96 + 12, 96),
    ((7, 8), (8,), "auto", "pooled", (8,), 0, 0),
    ((8, 4, 4), (12, 2, 2), "pooled", "pooled + linear", (12,), 96 + 12, 96),
    ((8, 4, 4), (9, 12), "pooled", "pooled + linear", (12,), 96 + 12, 96),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}".replace(" ", ""))
def test_both_get_one_shape_at_the_cost_that_is_told(case: tuple[Any, ...]) -> None:
    student_shape, teacher_shape, kind, steps, shape, parameters, macs = case
    made = adapter(student_shape, teacher_shape, kind)
    told = made.report
    assert (told.kind, told.shape, told.parameters, told.macs) == (steps, shape, parameters, macs)
    assert estimate(student_shape, teacher_shape, kind) == made.report
    assert sum(one.numel() for one in made.parameters()) == parameters
    assert not list(made.teacher.parameters())
    student, teacher = made(torch.randn(3, *student_shape), torch.randn(3, *teacher_shape))
    assert student.shape == teacher.shape == (3, *shape)


def test_the_values_are_those_of_a_second_way() -> None:
    """The example of a ViT that teaches a CNN: by hand, with einsum and BatchNorm's formula."""
    torch.manual_seed(0)
    made = adapter((3, 2, 2), (17, 5)).double()
    student, teacher = torch.randn(4, 3, 2, 2).double(), torch.randn(4, 17, 5).double()
    one, other = made(student, teacher)
    weight = made.get_parameter("student.0.weight")[:, :, 0, 0]
    wide = torch.einsum("oc,bchw->bohw", weight, student)
    mean, variance = wide.mean(dim=(0, 2, 3), keepdim=True), wide.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(one, (wide - mean) / (variance + 1e-5).sqrt())
    patches = teacher[:, 1:].reshape(4, 2, 2, 2, 2, 5).mean(dim=(2, 4))  # rows of pairs, columns of pairs
    torch.testing.assert_close(other, patches.permute(0, 3, 1, 2))
    vectors = adapter((3, 2, 2), (6, 3), "pooled")(student, other_tokens := torch.randn(4, 6, 3).double())
    torch.testing.assert_close(vectors[0], student.sum(dim=(2, 3)) / 4)
    torch.testing.assert_close(vectors[1], other_tokens.sum(dim=1) / 6)


def test_a_map_becomes_tokens_row_by_row() -> None:
    features = torch.arange(12.0).reshape(1, 2, 2, 3)
    one, _ = adapter((2, 2, 3), (6, 2), "tokens")(features, torch.zeros(1, 6, 2))
    assert one.tolist() == [[[0.0, 6.0], [1.0, 7.0], [2.0, 8.0], [3.0, 9.0], [4.0, 10.0], [5.0, 11.0]]]


def test_a_module_that_loses_the_samples_is_refused() -> None:
    with pytest.raises(ModelError, match="makes 8 and 8 of a batch of two"):
        checked(Adapter(nn.Flatten(0), nn.Flatten(0), adapter((4,), (4,)).report), (4,), (4,))


def test_the_larger_side_is_averaged_whichever_it_is() -> None:
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    one, other = adapter((3, 2, 2), (3, 4, 4))(small, large)
    assert torch.equal(one, small)
    torch.testing.assert_close(other, adaptive_avg_pool2d(large, 2))
    one, other = adapter((3, 4, 4), (3, 2, 2))(large, small)
    torch.testing.assert_close(one, adaptive_avg_pool2d(large, 2))
    assert torch.equal(other, small)


def test_the_gradient_reaches_the_student_and_the_adapter() -> None:
    made = adapter((3, 4, 4), (5, 2, 2))
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 5, 2, 2)
    one, other = made(student, teacher)
    (one - other).square().sum().backward()
    assert student.grad is not None
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in made.parameters())
    assert not other.requires_grad


@pytest.mark.parametrize("beside", [0, 1, 2, 4, 5])
def test_class_and_register_tokens_before_the_grid_are_dropped(beside: int) -> None:
    tokens = torch.cat([torch.full((1, beside, 2), 9.0), torch.arange(98.0).reshape(1, 49, 2)], dim=1)
    _, found = adapter((2, 7, 7), (49 + beside, 2))(torch.zeros(1, 2, 7, 7), tokens)
    assert found[0, :, 0].tolist() == [[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0], [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0]]


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "message"),
    [
        (
            (8, 4, 4),
            (16, 4, 4),
            "none",
            r"student's 8×4×4 \(map\) and the teacher's 16×4×4 \(map\): they are not eq",
        ),
        ((8, 4, 4), (16, 4, 4), "resize", "of equally many channels; conv"),
        ((8, 4, 4), (16, 4, 4), "linear", "conv is for maps"),
        ((8,), (16, 4, 4), "conv", "a vector has no positions; pooled"),
        ((8,), (16, 4), "resize", "it changes the size of maps"),
        ((8, 4, 4), (19, 12), "auto", "19 tokens are no grid of 4×4 proportions"),
        ((8, 4, 4), (12, 12), "conv", "12 tokens are no grid"),
        ((10, 8), (12, 8), "auto", "12 tokens are no grid of 1×1 proportions"),
        ((2, 8, 4, 4), (8, 4, 4), "auto", r"2×8×4×4 is no map \(C, H, W\)"),
        ((7, 7, 768), (512, 7, 7), "auto", "7×7×768 looks like a map whose channels come last"),
        ((7, 7, 768), (50, 384), "auto", "7×7×768 looks like a map whose channels come last"),
        ((64, 56, 56), (56, 56, 96), "auto", "56×56×96 looks like a map whose channels come last"),
        ((), (8,), "auto", "scalar is no map"),
        ((8,), (9,), "liner", "no adapter 'liner'; did you mean 'linear'"),
    ],
)
def test_what_can_not_be_bridged_is_refused(student: Shape, teacher: Shape, kind: str, message: str) -> None:
    for make in (adapter, estimate):
        with pytest.raises(ModelError, match=message) as caught:
            make(student, teacher, kind)
        assert caught.value.cure


def test_every_kind_is_tested() -> None:
    assert {case[2] for case in CASES} == set(KINDS)


def test_an_estimate_draws_nothing() -> None:
    torch.manual_seed(0)
    estimate((64, 8, 8), (128, 8, 8))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


class Both(nn.Module):
    def __init__(self, teacher: int = 4) -> None:
        super().__init__()
        self.layer, self.norm, self.teacher = nn.Linear(3, 4), nn.BatchNorm1d(4), teacher

    def forward(self, student: Tensor, teacher: Tensor) -> Any:
        return self.norm(self.layer(student)), teacher[:, : self.teacher]


def test_a_module_of_the_user_is_tried_and_left_as_it_was() -> None:
    given = Both()
    made = checked(given, (3,), (4,))
    assert (made.report.kind, made.report.parameters, made.report.shape) == ("Both", 16 + 8, (4,))
    assert given.training
    assert given.norm.num_batches_tracked == 0
    student, teacher = torch.randn(5, 3), torch.randn(5, 4)
    one, other = made(student, teacher)
    torch.testing.assert_close(one, given(student, teacher)[0])
    assert torch.equal(other, teacher)
    alone = nn.Sequential(nn.Linear(3, 4))
    one, other = checked(alone, (3,), (4,))(student, teacher)
    torch.testing.assert_close(one, alone(student))
    assert other is teacher
    ready = adapter((3,), (4,))
    assert checked(ready, (3,), (4,)) is ready


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Both(teacher=2), r"the adapter Both, given the student's 3 and the teacher's 4, makes 2×4 and 2×2 of a batch"),
        (nn.Linear(5, 4), "the adapter Linear, given the student's 3 and the teacher's 4, fails: RuntimeError: "),
        (nn.Linear(3, 5), "makes 2×5 and 2×4"),
        (nn.LSTM(3, 4), "gives tuple"),
        (Adapter(nn.Flatten(0), nn.Flatten(0), adapter((3,), (4,)).report), "makes 6 and 8"),
        (Adapter(nn.Linear(3, 4), nn.Linear(4, 4), adapter((3,), (3,)).report), "parameters on the teacher's side"),
    ],
)
def test_a_module_of_the_user_that_does_not_fit_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        checked(module, (3,), (4,))
    assert all(part.training for part in module.modules())
