"""cross_entropy and hard_labels against closed forms, numpy and the rules for missing labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import DataError, ModelError
from limbeck.losses import cross_entropy, hard_labels


def logits(*shape: int, seed: int = 1) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(z: np.ndarray, target: np.ndarray, smoothing: float, weights: np.ndarray) -> np.ndarray:
    """-Σ q log p with q written out, one row after the other."""
    found = np.zeros(len(z))
    for row, label in enumerate(target):
        if label < 0:
            continue
        log_p = z[row] - z[row].max()
        log_p = log_p - math.log(np.exp(log_p).sum())
        q = np.full(z.shape[1], smoothing / z.shape[1])
        q[label] += 1 - smoothing
        found[row] = weights[label] * -(q * log_p).sum()
    return found


def gradient(z: Tensor, target: Tensor, **hyper: object) -> Tensor:
    leaf = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(cross_entropy(leaf, target=target, **hyper).sum(), leaf)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0, 1.5]])
def test_against_numpy(smoothing: float, weights: list[float] | None) -> None:
    z, target = logits(6, 5), torch.tensor([0, 4, -1, 2, 3, 1])
    expected = by_hand(z.numpy(), target.numpy(), smoothing, np.array(weights or [1.0] * 5))
    for given in (weights, None if weights is None else torch.tensor(weights)):
        found = cross_entropy(z, target=target, label_smoothing=smoothing, class_weights=given)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_uniform_logits_give_log_c_whatever_the_smoothing() -> None:
    for smoothing in (0.0, 0.3):
        found = cross_entropy(torch.zeros(2, 7), target=torch.tensor([0, 6]), label_smoothing=smoothing)
        torch.testing.assert_close(found, torch.full((2,), math.log(7)))


def test_label_smoothing_is_torchs_without_weights() -> None:
    z, target = logits(6, 5), torch.tensor([0, 4, 1, 2, 3, 1])
    expected = functional.cross_entropy(z, target, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(z, target=target, label_smoothing=0.2), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 1.0, 1.5]])
def test_no_label_no_value_no_gradient(smoothing: float, weights: list[float] | None) -> None:
    z, target = logits(4, 5), torch.tensor([2, -1, 0, -1])
    value = cross_entropy(z, target=target, label_smoothing=smoothing, class_weights=weights)
    assert value[[1, 3]].tolist() == [0.0, 0.0]
    assert bool((value[[0, 2]] > 0).all())
    slope = gradient(z, target, label_smoothing=smoothing, class_weights=weights)
    assert bool((slope[[1, 3]] == 0).all())
    assert bool((slope[[0, 2]].abs().sum(dim=1) > 1e-3).all())


def test_no_label_at_all_gives_zero_with_a_graph() -> None:
    z = torch.randn(3, 4, requires_grad=True)
    cross_entropy(z, target=torch.full((3,), -1)).sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 0).all())


def test_the_gradient_is_the_finite_difference() -> None:
    z, target = logits(2, 3, 2, 2).requires_grad_(), torch.tensor([[[0, 1], [-1, 2]], [[2, 2], [0, -1]]])
    weights = [0.5, 1.0, 1.5]
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(x, target=target, label_smoothing=0.1, class_weights=weights), (z,)
    )


def test_maps_against_a_loop_over_pixels() -> None:
    z, target = logits(2, 5, 3, 4), torch.randint(-1, 5, (2, 3, 4), generator=torch.Generator().manual_seed(3))
    weights = np.array([0.5, 1.0, 2.0, 1.0, 1.5])
    found = cross_entropy(z, target=target, label_smoothing=0.1, class_weights=weights.tolist())
    for b, h, w in np.ndindex(2, 3, 4):
        one = by_hand(z[b, :, h, w][None].numpy(), target[b, h, w][None].numpy(), 0.1, weights)
        assert found[b, h, w].item() == pytest.approx(one[0], rel=1e-12)
    last = cross_entropy(z.movedim(1, -1), target=target, label_smoothing=0.1, class_weights=weights.tolist(), axis=-1)
    torch.testing.assert_close(last, found)


@pytest.mark.parametrize("classes", [2, 10])
def test_extreme_logits_have_finite_value_and_gradient(classes: int) -> None:
    z = torch.full((1, classes), -200.0)
    z[0, 0] = 200.0
    for smoothing, expected in ((0.0, 400.0), (0.1, 400 * (0.9 + 0.1 * (classes - 1) / classes))):
        found = cross_entropy(z, target=torch.tensor([1]), label_smoothing=smoothing)
        assert found.item() == pytest.approx(expected, rel=1e-5)
        assert bool(torch.isfinite(gradient(z, torch.tensor([1]), label_smoothing=smoothing)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    z, target = logits(64, 100).to(dtype), torch.arange(64)
    found = cross_entropy(z, target=target, label_smoothing=0.1)
    assert found.dtype == torch.float32
    exact = cross_entropy(z.double(), target=target, label_smoothing=0.1)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", [5, 255, -2, -100])
def test_a_label_outside_of_the_classes_is_named(wrong: int) -> None:
    with pytest.raises(DataError, match=rf"\[{wrong}\].*5 classes, 0 to 4"):
        cross_entropy(torch.zeros(3, 5), target=torch.tensor([0, wrong, -1]))


def test_shapes_and_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\(3,\).*\(3, 5\)"):
        cross_entropy(torch.zeros(3, 5), target=torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"torch\.int64, found torch\.float32"):
        cross_entropy(torch.zeros(3, 5), target=torch.zeros(3))
    with pytest.raises(ModelError, match="4 numbers for 5 classes"):
        cross_entropy(torch.zeros(3, 5), target=torch.zeros(3, dtype=torch.int64), class_weights=[1.0] * 4)
    with pytest.raises(ModelError, match="one logit"):
        cross_entropy(torch.zeros(3, 1), target=torch.zeros(3, dtype=torch.int64))


def test_hard_labels_take_the_truth_where_it_is_known() -> None:
    z_s = logits(4, 3, seed=5)
    z_t = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]], dtype=torch.float64)
    found = hard_labels(z_s, z_t, target=torch.tensor([2, -1, -1, 1]), label_smoothing=0.1)
    expected = by_hand(z_s.numpy(), np.array([2, 1, 2, 1]), 0.1, np.ones(3))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(hard_labels(z_s, z_t), by_hand(z_s.numpy(), np.array([0, 1, 2, 0]), 0.0, np.ones(3)))


def test_hard_labels_see_only_which_class_the_teacher_prefers() -> None:
    """Else the second control would not be one."""
    z_s, z_t, target = logits(8, 3, seed=6), logits(8, 3, seed=7), torch.full((8,), -1)
    same = hard_labels(z_s, z_t * 0.01 + 5.0, target=target)
    torch.testing.assert_close(same, hard_labels(z_s, z_t, target=target), rtol=0, atol=0)


def test_hard_labels_teach_the_student_only() -> None:
    z_s, z_t = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    hard_labels(z_s, z_t, target=torch.tensor([-1, 0, 1, -1])).sum().backward()
    assert z_t.grad is None
    assert z_s.grad is not None
    assert bool((z_s.grad.abs().sum(dim=1) > 1e-3).all())


def test_hard_labels_refuse_what_does_not_fit() -> None:
    with pytest.raises(ModelError, match=r"\(4, 3\).*\(4, 5\)"):
        hard_labels(torch.zeros(4, 3), torch.zeros(4, 5), target=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ModelError, match="target"):
        hard_labels(torch.zeros(4, 3), torch.zeros(4, 3), target=torch.zeros(3, dtype=torch.int64))
