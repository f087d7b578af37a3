"""kl against closed forms, a second implementation in numpy, limits, and the faults of popular code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import ModelError, RecipeError
from limbeck.losses import kl


def logits(*shape: int, seed: int, scale: float = 3.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale).to(dtype)


def by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float, square: bool = True) -> np.ndarray:
    """Float64, from probabilities and Python's sums; classes on the last axis."""
    found = np.empty(student.shape[:-1])
    for place in np.ndindex(found.shape):
        z_s, z_t = student[place] / temperature, teacher[place] / temperature
        e_s, e_t = np.exp(z_s - z_s.max()), np.exp(z_t - z_t.max())
        p_s, p_t = e_s / e_s.sum(), e_t / e_t.sum()
        terms = [t * (math.log(t) - math.log(s)) for t, s in zip(p_t, p_s, strict=True)]
        found[place] = math.fsum(terms) * (temperature**2 if square else 1)
    return found


def gradient(student: Tensor, teacher: Tensor, **hyper: object) -> Tensor:
    leaf = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(kl(leaf, teacher, **hyper).sum(), leaf)  # type: ignore[arg-type]
    return found


def test_two_classes_in_closed_form() -> None:
    """Bernoulli: p = sigmoid(difference / T)."""
    z_s, z_t, t = torch.tensor([[0.3, -1.1]]), torch.tensor([[-0.4, 2.0]]), 3.0
    p, q = 1 / (1 + math.exp(2.4 / t)), 1 / (1 + math.exp(-1.4 / t))  # teacher's and student's share of class 0
    expected = t**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert kl(z_s, z_t, temperature=t).item() == pytest.approx(expected, rel=1e-5)


def test_the_direction_is_from_the_teacher() -> None:
    """A teacher that is sure, a student that is uniform: ln C; the other way round it is far larger."""
    sure, uniform = torch.tensor([[30.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    assert kl(uniform, sure, temperature=1.0).item() == pytest.approx(math.log(4), rel=1e-5)
    assert kl(sure, uniform, temperature=1.0).item() == pytest.approx(0.75 * 30 - math.log(4), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (3, 100)])
def test_against_numpy(shape: tuple[int, int], temperature: float, square: bool) -> None:
    z_s, z_t = logits(*shape, seed=1), logits(*shape, seed=2)
    found = kl(z_s, z_t, temperature=temperature, square=square)
    assert found.dtype == torch.float64
    assert found.shape == shape[:1]
    np.testing.assert_allclose(found, by_hand(z_s.numpy(), z_t.numpy(), temperature, square), rtol=1e-10, atol=1e-13)
    narrow = kl(z_s.float(), z_t.float(), temperature=temperature, square=square)
    np.testing.assert_allclose(narrow, found, rtol=2e-4, atol=1e-5)


def test_the_gradient_is_the_difference_of_the_softened_probabilities() -> None:
    """d/dz of T² KL is T (p_s - p_t): no factor 1/C, none of the batch size."""
    z_s, z_t, t = logits(5, 10, seed=3), logits(5, 10, seed=4), 4.0
    expected = t * (torch.softmax(z_s / t, 1) - torch.softmax(z_t / t, 1))
    torch.testing.assert_close(gradient(z_s, z_t, temperature=t), expected)


@pytest.mark.parametrize("square", [True, False])
def test_the_gradient_is_the_finite_difference(square: bool) -> None:
    z_s, z_t = logits(3, 4, 2, 2, seed=5).requires_grad_(), logits(3, 4, 2, 2, seed=6)
    mask = torch.tensor([[[True, False], [True, True]]]).expand(3, 2, 2)
    for options in ({}, {"axis": -1}, {"mask": mask}):
        assert torch.autograd.gradcheck(
            lambda z, options=options: kl(z, z_t, temperature=2.5, square=square, **options), (z_s,)
        )


def test_temperature_to_infinity() -> None:
    """T² KL tends to |centered difference|² / 2C, and so does the gradient; without T² it tends to 0."""
    z_s, z_t = logits(6, 5, seed=7), logits(6, 5, seed=8)
    difference = (z_s - z_s.mean(1, keepdim=True)) - (z_t - z_t.mean(1, keepdim=True))
    found = kl(z_s, z_t, temperature=1e4)
    torch.testing.assert_close(found, difference.square().sum(1) / 10, rtol=3e-3, atol=1e-4)
    torch.testing.assert_close(gradient(z_s, z_t, temperature=1e4), difference / 5, rtol=3e-3, atol=1e-3)
    assert kl(z_s, z_t, temperature=1e4, square=False).max() < 1e-6


@pytest.mark.parametrize("temperature", [2.0, 8.0])
def test_square_is_a_factor_of_t_squared(temperature: float) -> None:
    z_s, z_t = logits(4, 6, seed=9), logits(4, 6, seed=10)
    ratio = kl(z_s, z_t, temperature=temperature) / kl(z_s, z_t, temperature=temperature, square=False)
    torch.testing.assert_close(ratio, torch.full_like(ratio, temperature**2))


@given(
    shift_s=st.floats(-50, 50), shift_t=st.floats(-50, 50), temperature=st.floats(0.5, 30), seed=st.integers(0, 1000)
)
def test_a_constant_added_to_a_row_changes_nothing(
    shift_s: float, shift_t: float, temperature: float, seed: int
) -> None:
    z_s, z_t = logits(2, 5, seed=seed), logits(2, 5, seed=seed + 1)
    found = kl(z_s + shift_s, z_t + shift_t, temperature=temperature)
    torch.testing.assert_close(found, kl(z_s, z_t, temperature=temperature), rtol=1e-8, atol=1e-9)
    assert bool((found >= -1e-12).all())


def test_equal_logits_give_zero_and_no_gradient() -> None:
    z = logits(4, 7, seed=11, dtype=torch.float32)
    torch.testing.assert_close(kl(z, z + 2.0), torch.zeros(4), rtol=0, atol=1e-5)
    assert bool((kl(z, z) == 0).all())
    torch.testing.assert_close(gradient(z, z), torch.zeros(4, 7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 64.0])
def test_extreme_logits_have_finite_value_and_gradient(classes: int, temperature: float) -> None:
    """log(softmax) is -inf at such gaps, and 0 · -inf is NaN."""
    z_s, z_t = torch.full((1, classes), -200.0), torch.full((1, classes), -200.0)
    z_s[0, 0], z_t[0, 1] = 200.0, 200.0
    value = kl(z_s, z_t, temperature=temperature)
    expected = by_hand_log(z_s.double(), z_t.double(), temperature)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    slope = gradient(z_s, z_t, temperature=temperature)
    assert bool(torch.isfinite(slope).all())
    assert slope[0, 0] > 0 > slope[0, 1]


def by_hand_log(z_s: Tensor, z_t: Tensor, temperature: float) -> float:
    """One row, from log-sum-exp in float64."""
    rows = [[value / temperature for value in row[0].tolist()] for row in (z_s, z_t)]
    log_s, log_t = ([v - max(r) - math.log(math.fsum(math.exp(x - max(r)) for x in r)) for v in r] for r in rows)
    return temperature**2 * math.fsum(math.exp(t) * (t - s) for s, t in zip(log_s, log_t, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype, temperature: float) -> None:
    z_s, z_t = logits(64, 100, seed=12).to(dtype), logits(64, 100, seed=13).to(dtype)
    found, exact = kl(z_s, z_t, temperature=temperature), kl(z_s.double(), z_t.double(), temperature=temperature)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(kl(z_s, z_t, temperature=temperature), exact.float(), rtol=1e-3, atol=1e-4)
    slope = gradient(z_s, z_t, temperature=temperature)
    assert slope.dtype == dtype
    exact_slope = gradient(z_s.double(), z_t.double(), temperature=temperature)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-2, atol=1e-4)


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    z_s, z_t = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    kl(z_s, z_t).sum().backward()
    assert z_t.grad is None
    assert z_s.grad is not None
    assert z_s.grad.abs().sum() > 0.1


def test_classes_on_axis_1_of_maps_against_a_loop_over_pixels() -> None:
    z_s, z_t = logits(2, 5, 3, 4, seed=14), logits(2, 5, 3, 4, seed=15)
    found = kl(z_s, z_t, temperature=3.0)
    assert found.shape == (2, 3, 4)
    for b, h, w in np.ndindex(2, 3, 4):
        one = kl(z_s[b, :, h, w][None], z_t[b, :, h, w][None], temperature=3.0)
        assert found[b, h, w].item() == pytest.approx(one.item(), rel=1e-12)
        hand = by_hand(z_s[b, :, h, w].numpy(), z_t[b, :, h, w].numpy(), 3.0)
        assert found[b, h, w].item() == pytest.approx(float(hand), rel=1e-9)
    last = kl(z_s.movedim(1, -1), z_t.movedim(1, -1), temperature=3.0, axis=-1)
    torch.testing.assert_close(last, found)


def test_layouts_in_memory_change_nothing() -> None:
    z_s, z_t = logits(2, 5, 3, 4, seed=16), logits(2, 5, 3, 4, seed=17)
    found = kl(z_s.contiguous(memory_format=torch.channels_last), z_t)
    torch.testing.assert_close(found, kl(z_s, z_t))


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e38])
def test_what_is_masked_may_hold_anything(rubbish: float) -> None:
    z_s, z_t = logits(3, 4, 2, 2, seed=18), logits(3, 4, 2, 2, seed=19)
    mask = torch.ones(3, 2, 2, dtype=torch.bool)
    mask[0, 1, 1] = mask[2] = False
    plain, slope = kl(z_s, z_t), gradient(z_s, z_t)
    for side in (z_s, z_t):
        side[0, :, 1, 1], side[2] = rubbish, rubbish
    found, found_slope = kl(z_s, z_t, mask=mask), gradient(z_s, z_t, mask=mask)
    torch.testing.assert_close(found, torch.where(mask, plain, 0.0))
    torch.testing.assert_close(found_slope, torch.where(mask[:, None], slope, 0.0))


def test_everything_masked_gives_zero_with_a_graph() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    value = kl(z, torch.randn(4, 3), mask=torch.zeros(4, dtype=torch.bool))
    assert value.tolist() == [0.0] * 4
    value.sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 0).all())


def test_the_gradient_of_what_is_masked_is_exactly_zero() -> None:
    z_s, z_t = logits(64, 11, seed=24, dtype=torch.float32), logits(64, 11, seed=25, dtype=torch.float32)
    mask = torch.arange(64) % 2 == 0
    slope = gradient(z_s, z_t, mask=mask, temperature=3.0)
    assert bool((slope[~mask] == 0).all())
    assert bool((slope[mask].abs().sum(dim=1) > 1e-3).all())


def test_permuting_the_batch_permutes_the_losses() -> None:
    z_s, z_t, order = logits(6, 4, seed=20), logits(6, 4, seed=21), torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(kl(z_s[order], z_t[order]), kl(z_s, z_t)[order], rtol=0, atol=0)


def test_a_small_step_along_the_gradient_lowers_it() -> None:
    z_s, z_t = logits(8, 10, seed=22), logits(8, 10, seed=23)
    assert bool((kl(z_s - 1e-4 * gradient(z_s, z_t), z_t) < kl(z_s, z_t)).all())


@pytest.mark.parametrize(
    ("student", "teacher", "cure"),
    [
        ((4, 10), (4, 100), "same classes"),
        ((4, 10, 8, 8), (4, 10, 16, 16), "resize"),
        ((4, 10), (5, 10), "same samples"),
        ((4, 10), (4, 10, 2, 2), "same kind"),
        ((4, 1), (4, 10), "same classes"),  # would broadcast
    ],
)
def test_other_shapes_are_refused_with_both_named(
    student: tuple[int, ...], teacher: tuple[int, ...], cure: str
) -> None:
    with pytest.raises(ModelError) as error:
        kl(torch.zeros(student), torch.zeros(teacher))
    assert str(student) in error.value.what
    assert str(teacher) in error.value.what
    assert cure in str(error.value.cure)


def test_one_logit_is_refused() -> None:
    """Its softmax is 1: the loss would be 0 and teach nothing."""
    with pytest.raises(ModelError, match="one logit"):
        kl(torch.zeros(4, 1), torch.ones(4, 1))


def test_a_mask_that_does_not_fit_is_refused() -> None:
    z = torch.zeros(4, 3, 2, 2)
    with pytest.raises(ModelError, match=r"\(4, 2, 2\).*\(4,\)"):
        kl(z, z, mask=torch.ones(4, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"torch\.bool"):
        kl(z, z, mask=torch.ones(4, 2, 2))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(RecipeError, match="temperature"):
        kl(torch.zeros(2, 3), torch.zeros(2, 3), temperature=temperature)
