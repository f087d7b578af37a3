"""What every loss between logits keeps: a second implementation, its gradient, extremes, masks, labels, refusals."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.losses.logit_truth import LABELED, STANDARDIZE, TRUTH, dist, truth
from torch import Tensor

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses import TABLE, declared
from limbeck.losses.logits import TABLE as LOGITS

EACH = sorted(TRUTH)  # a value for each sample
ALL = [*EACH, "dist"]
STEADY = [name for name in ALL if name != "wsld"]  # its weight moves with the student and is a constant for gradients
STEADY_ROWS = [name for name in STEADY if name in STANDARDIZE]
WITH_TEACHER = [name for name in ALL if name != "teacher_free"]
TARGET = torch.tensor([0, 2, -1, 1, 2, 3])
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in EACH),
    *((name, {"temperature": t}) for name in EACH if name != "logit_mse" for t in (0.5, 1.0, 3.0, 20.0)),
    *(
        (name, {"standardize": True, "temperature": t})
        for name in STANDARDIZE
        if name not in ("dist", "logit_mse")
        for t in (1.0, 2.0)
    ),
    ("logit_mse", {"standardize": True}),
    *(("jsd", {"beta": beta}) for beta in (0.0, 0.1, 0.9, 1.0)),
    *(("dkd", {"alpha": a, "beta": b}) for a, b in ((0.0, 1.0), (1.0, 0.0), (2.0, 0.5))),
    *(("nkd", {"gamma": gamma}) for gamma in (0.0, 3.5)),
    *(("teacher_free", {"correct": correct}) for correct in (0.1, 0.5, 0.9)),
]


def logits(*shape: int, seed: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale).to(dtype)


def call(name: str, student: Tensor, teacher: Tensor, target: Tensor = TARGET, **hyper: Any) -> Tensor:
    """The loss by its name, given what it takes."""
    if name in LABELED:
        hyper["target"] = target
    return TABLE[name](student, *([] if name == "teacher_free" else [teacher]), **hyper)


def gradient(name: str, student: Tensor, teacher: Tensor, target: Tensor = TARGET, **hyper: Any) -> Tensor:
    leaf = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(call(name, leaf, teacher, target, **hyper).sum(), leaf)
    return found


def test_the_names_are_all_here() -> None:
    assert list(LOGITS) == sorted(ALL)
    takes = {name: inspect.signature(TABLE[name]).parameters for name in ALL}
    assert {name for name in ALL if "target" in takes[name]} == set(LABELED)
    assert {name for name in ALL if "standardize" in takes[name]} == set(STANDARDIZE)
    assert all("mask" in one and one["axis"].default == 1 for one in takes.values())


@pytest.mark.parametrize(("name", "hyper"), OPTIONS)
def test_against_numpy(name: str, hyper: dict[str, Any]) -> None:
    z_s, z_t = logits(6, 5, seed=1), logits(6, 5, seed=2)
    expected = truth(name, z_s.numpy(), z_t.numpy(), TARGET.numpy(), **hyper)
    found = call(name, z_s, z_t, **hyper)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    narrow = call(name, z_s.float(), z_t.float(), **hyper)
    assert narrow.dtype == torch.float32
    np.testing.assert_allclose(narrow, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", EACH)
def test_maps_against_numpy(name: str) -> None:
    z_s, z_t = logits(2, 4, 3, 2, seed=3), logits(2, 4, 3, 2, seed=4)
    target = torch.randint(-1, 4, (2, 3, 2), generator=torch.Generator().manual_seed(5))
    expected = truth(name, z_s.numpy(), z_t.numpy(), target.numpy())
    np.testing.assert_allclose(call(name, z_s, z_t, target), expected, rtol=1e-9, atol=1e-11)
    last = call(name, z_s.movedim(1, -1), z_t.movedim(1, -1), target, axis=-1)
    np.testing.assert_allclose(last, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("hyper", [{}, {"beta": 0.5, "gamma": 2.0}, {"temperature": 1.0}, {"temperature": 0.5}])
def test_dist_against_numpy(rows: int, hyper: dict[str, Any]) -> None:
    z_s, z_t = logits(rows, 5, seed=6), logits(rows, 5, seed=7)
    assert call("dist", z_s, z_t, **hyper).item() == pytest.approx(dist(z_s.numpy(), z_t.numpy(), **hyper), rel=1e-9)


def test_dist_takes_the_pixels_as_rows() -> None:
    z_s, z_t = logits(2, 5, 3, 4, seed=8), logits(2, 5, 3, 4, seed=9)
    rows = [np.moveaxis(z.numpy(), 1, -1).reshape(-1, 5) for z in (z_s, z_t)]
    assert call("dist", z_s, z_t).item() == pytest.approx(dist(*rows), rel=1e-9)
    last = call("dist", z_s.movedim(1, -1), z_t.movedim(1, -1), axis=-1)
    assert last.item() == pytest.approx(dist(*rows), rel=1e-9)
    mask = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    kept = [one[mask.flatten().numpy()] for one in rows]
    assert call("dist", z_s, z_t, mask=mask).item() == pytest.approx(dist(*kept), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "hyper"), [(name, {}) for name in STEADY] + [(name, {"standardize": True}) for name in STEADY_ROWS]
)
def test_the_gradient_is_the_finite_difference(name: str, hyper: dict[str, Any]) -> None:
    z_s, z_t = logits(6, 4, seed=10).requires_grad_(), logits(6, 4, seed=11)
    mask = torch.tensor([True, True, True, False, True, True])
    assert torch.autograd.gradcheck(lambda z: call(name, z, z_t, mask=mask, **hyper), (z_s,))


@pytest.mark.parametrize("name", STEADY)
def test_a_small_step_along_the_gradient_lowers_it(name: str) -> None:
    target = TARGET.clamp(min=0)
    z_s, z_t = logits(6, 5, seed=12), logits(6, 5, seed=13)
    slope = gradient(name, z_s, z_t, target)
    assert bool((slope.abs().sum(dim=1) > 1e-4).all())
    after = call(name, z_s - 1e-5 * slope, z_t, target)
    assert bool((after < call(name, z_s, z_t, target)).all())


@pytest.mark.parametrize("name", [name for name in ALL if declared(TABLE[name]).equal == 0])
def test_equal_logits_give_zero_and_no_gradient(name: str) -> None:
    z = logits(6, 5, seed=14, dtype=torch.float32)
    torch.testing.assert_close(call(name, z, z).sum(), torch.tensor(0.0), rtol=0, atol=2e-5)
    torch.testing.assert_close(gradient(name, z, z), torch.zeros(6, 5), rtol=0, atol=1e-5)
    assert call(name, logits(6, 5, seed=15), logits(6, 5, seed=16)).sum() > 0.1


@pytest.mark.parametrize("name", ALL)
def test_a_constant_added_to_a_row_changes_nothing_where_it_is_declared(name: str) -> None:
    z_s, z_t = logits(6, 5, seed=17), logits(6, 5, seed=18)
    shift_s, shift_t = logits(6, 1, seed=19, scale=20.0), logits(6, 1, seed=20, scale=20.0)
    found, shifted = call(name, z_s, z_t), call(name, z_s + shift_s, z_t + shift_t)
    invariant = torch.allclose(shifted, found, rtol=1e-8, atol=1e-10)
    assert invariant == ("shift" in declared(TABLE[name]).invariant)
    assert invariant == (name != "bernoulli_kl")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 64.0])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0)])
@pytest.mark.parametrize(
    ("name", "classes"), [(name, n) for name in ALL for n in (2, 3, 10) if n >= declared(TABLE[name]).classes]
)
def test_extreme_logits_have_finite_value_and_gradient(
    name: str, dtype: torch.dtype, size: float, temperature: float, classes: int
) -> None:
    generator = torch.Generator().manual_seed(classes)
    z_s, z_t = (torch.randint(-1, 2, (8, classes), generator=generator) * size for _ in range(2))
    z_s[0], z_t[0] = size, -size  # no class is preferred
    z_s[1, 0], z_s[1, 1:], z_t[1, 0], z_t[1, 1:] = size, -size, -size, size  # opposites
    target = torch.tensor([0, 1, -1, 0, 1, 0, 1, 0])
    for standardize in (False, True) if name in STANDARDIZE else (False,):
        hyper: dict[str, Any] = {"standardize": True} if standardize else {}
        if name != "logit_mse":
            hyper["temperature"] = temperature
        value = call(name, z_s.to(dtype), z_t.to(dtype), target, **hyper)
        slope = gradient(name, z_s.to(dtype), z_t.to(dtype), target, **hyper)
        assert value.dtype == torch.float32
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(slope).all())
        exact = call(name, z_s.to(dtype).double(), z_t.to(dtype).double(), target, **hyper)
        torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_half_precision_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    z_s, z_t = logits(6, 50, seed=21).to(dtype), logits(6, 50, seed=22).to(dtype)
    found, exact = call(name, z_s, z_t), call(name, z_s.double(), z_t.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_gets_no_gradient_and_the_student_does(name: str) -> None:
    z_s, z_t = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    call(name, z_s, z_t).sum().backward()
    assert z_t.grad is None
    assert z_s.grad is not None
    assert bool((z_s.grad.abs().sum(dim=1)[TARGET >= 0] > 1e-4).all())


@pytest.mark.parametrize("name", LABELED)
def test_no_label_no_value_no_gradient(name: str) -> None:
    z_s, z_t = logits(6, 5, seed=23), logits(6, 5, seed=24)
    whole = call(name, z_s, z_t, TARGET.clamp(min=0))
    for rubbish in (None, math.nan, math.inf):
        if rubbish is not None:
            z_s[2], z_t[2] = rubbish, rubbish
        value, slope = call(name, z_s, z_t), gradient(name, z_s, z_t)
        torch.testing.assert_close(value, torch.where(TARGET >= 0, whole, 0.0))
        assert bool((slope[2] == 0).all())
        assert bool((slope[TARGET >= 0].abs().sum(dim=1) > 1e-4).all())
    z = torch.randn(6, 5, requires_grad=True)
    call(name, z, torch.randn(6, 5), torch.full((6,), -1)).sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 0).all())


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("name", ALL)
def test_what_is_masked_may_hold_anything(name: str, rubbish: float) -> None:
    z_s, z_t = logits(3, 4, 2, 2, seed=25), logits(3, 4, 2, 2, seed=26)
    target = torch.randint(0, 4, (3, 2, 2), generator=torch.Generator().manual_seed(27))
    mask = torch.ones(3, 2, 2, dtype=torch.bool)
    mask[0, 1, 1] = mask[2] = False
    plain, plain_slope = call(name, z_s, z_t, target, mask=mask), gradient(name, z_s, z_t, target, mask=mask)
    if name != "dist":
        torch.testing.assert_close(plain, torch.where(mask, call(name, z_s, z_t, target), 0.0))
    for side in (z_s, z_t):
        side[0, :, 1, 1], side[2] = rubbish, rubbish
    target[~mask] = 255  # as pixels to be ignored often are labeled
    torch.testing.assert_close(call(name, z_s, z_t, target, mask=mask), plain)
    slope = gradient(name, z_s, z_t, target, mask=mask)
    torch.testing.assert_close(slope, plain_slope)
    assert bool((slope.movedim(1, -1)[~mask] == 0).all())
    assert bool((slope.movedim(1, -1)[mask].abs().sum(dim=-1) > 1e-6).all())


@pytest.mark.parametrize("name", ALL)
def test_everything_masked_gives_zero_with_a_graph(name: str) -> None:
    z = torch.randn(6, 5, requires_grad=True)
    value = call(name, z, torch.randn(6, 5), mask=torch.zeros(6, dtype=torch.bool))
    assert bool((value == 0).all())
    value.sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 0).all())


@pytest.mark.parametrize("name", ALL)
def test_permuting_the_batch_permutes_the_losses(name: str) -> None:
    z_s, z_t, order = logits(6, 5, seed=28), logits(6, 5, seed=29), torch.tensor([3, 0, 5, 1, 2, 4])
    found = call(name, z_s[order], z_t[order], TARGET[order])
    whole = call(name, z_s, z_t)
    torch.testing.assert_close(found, whole if name == "dist" else whole[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_rows_that_say_nothing_have_a_finite_gradient(name: str) -> None:
    """A head that starts at zero, a teacher that is uniform, samples that are alike."""
    flat, z = torch.zeros(6, 5), logits(1, 5, seed=30, dtype=torch.float32).expand(6, 5)
    for z_s, z_t in ((flat, z), (z, flat), (flat, flat), (z, z), (z, z.flip(1)), (flat + 1e4, z)):
        for hyper in ({}, {"standardize": True}) if name in STANDARDIZE else ({},):
            assert bool(torch.isfinite(call(name, z_s, z_t, **hyper)).all())
            slope = gradient(name, z_s, z_t, **hyper)
            assert bool(torch.isfinite(slope).all())
            assert slope.abs().max() < 1e3


@pytest.mark.parametrize("name", WITH_TEACHER)
@pytest.mark.parametrize(("student", "teacher"), [((6, 5), (6, 10)), ((6, 5), (5, 5)), ((6, 5), (6, 5, 2, 2))])
def test_other_shapes_are_refused_with_both_named(
    name: str, student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError) as error:
        call(name, torch.zeros(student), torch.zeros(teacher))
    assert f"'{name}'" in error.value.what
    assert str(student) in error.value.what
    assert str(teacher) in error.value.what


@pytest.mark.parametrize("name", [name for name in ALL if name != "bernoulli_kl"])
def test_one_logit_is_sent_to_bernoulli_kl(name: str) -> None:
    for shape in ((6, 1), (6,)):
        with pytest.raises(ModelError) as error:
            call(name, torch.zeros(shape), torch.zeros(shape))
        assert "bernoulli_kl" in str(error.value.cure)


@pytest.mark.parametrize("name", ["dkd", "nkd"])
def test_two_classes_are_refused_with_what_to_use(name: str) -> None:
    with pytest.raises(ModelError, match=r"\(6, 2\)") as error:
        call(name, torch.zeros(6, 2), torch.zeros(6, 2), TARGET.clamp(max=1))
    assert "kl" in str(error.value.cure)
    assert "bernoulli_kl" in str(error.value.cure)
    assert declared(TABLE[name]).classes == 3


@pytest.mark.parametrize("name", LABELED)
def test_labels_that_do_not_fit_are_refused(name: str) -> None:
    z = torch.zeros(6, 5)
    for wrong in (5, 255, -2, -100):
        with pytest.raises(DataError, match=rf"\[{wrong}\].*5 classes, 0 to 4"):
            call(name, z, z, torch.tensor([0, 1, wrong, -1, 2, 3]))
    with pytest.raises(ModelError, match=r"target of shape \(6,\)"):
        call(name, z, z, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"torch\.int64, found torch\.float32"):
        call(name, z, z, torch.zeros(6))


@pytest.mark.parametrize("name", ALL)
def test_a_mask_that_does_not_fit_is_refused(name: str) -> None:
    z = torch.zeros(6, 5)
    with pytest.raises(ModelError, match=r"mask of shape \(6,\).*\(5,\)"):
        call(name, z, z, mask=torch.ones(5, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"torch\.bool"):
        call(name, z, z, mask=torch.ones(6))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in ALL if name != "logit_mse"])
def test_a_temperature_that_is_none_is_refused(name: str, temperature: float) -> None:
    with pytest.raises(RecipeError, match=rf"{name}\.temperature"):
        call(name, torch.zeros(6, 5), torch.zeros(6, 5), temperature=temperature)


def test_shares_out_of_range_are_refused() -> None:
    z = torch.zeros(6, 5)
    for beta in (-0.1, 1.1, math.nan):
        with pytest.raises(RecipeError, match=r"jsd\.beta"):
            call("jsd", z, z, beta=beta)
    for correct in (0.0, 1.0, math.nan):
        with pytest.raises(RecipeError, match=r"teacher_free\.correct"):
            call("teacher_free", z, z, correct=correct)
