"""What losses check about features, and how they bring them to one size and one length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.losses import shapes


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def window_means(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean over the window from floor(i H / h) to ceil((i + 1) H / h), place by place."""
    (high, wide), (h, w) = maps.shape[2:], size
    found = np.empty((*maps.shape[:2], h, w))
    for i in range(h):
        for j in range(w):
            rows = slice(i * high // h, -(-(i + 1) * high // h))
            columns = slice(j * wide // w, -(-(j + 1) * wide // w))
            found[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ((8, 8), (4, 4), (4, 4)),  # whole windows
        ((4, 4), (8, 12), (4, 4)),
        ((7, 7), (4, 3), (4, 3)),  # windows that overlap
        ((8, 3), (4, 6), (4, 3)),  # each is the larger along one axis
        ((5, 5), (1, 1), (1, 1)),
    ],
)
def test_the_larger_map_is_averaged_to_the_smaller_along_each_axis(
    ours: tuple[int, int], theirs: tuple[int, int], size: tuple[int, int]
) -> None:
    student, teacher = drawn(2, 3, *ours), drawn(2, 5, *theirs, seed=1)
    for before, after in zip((student, teacher), shapes.smaller(student, teacher), strict=True):
        np.testing.assert_allclose(after.numpy(), window_means(before.numpy(), size), rtol=1e-12)


def test_what_has_one_size_or_no_size_is_given_back_as_it_is() -> None:
    for one, other in (
        (drawn(2, 3, 4, 4), drawn(2, 5, 4, 4)),
        (drawn(2, 5, 8), drawn(2, 7, 8)),
        (drawn(2, 8), drawn(2, 3)),
        (drawn(2, 3, 4, 4), drawn(2, 16, 8)),
    ):
        pooled = shapes.smaller(one, other)
        assert pooled[0] is one
        assert pooled[1] is other


def test_axes_of_channels_and_positions() -> None:
    maps, tokens, vectors = drawn(2, 3, 4, 5), drawn(2, 6, 7), drawn(2, 8)
    assert torch.equal(shapes.by_channel(maps)[1, 2], maps[1, 2].flatten())
    assert torch.equal(shapes.by_channel(tokens)[1, 2], tokens[1, :, 2])
    assert torch.equal(shapes.by_channel(vectors)[1, 2], vectors[1, 2:3])


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (
            lambda: shapes.same_samples("it", drawn(2, 3), drawn(4, 3)),
            r"'it' compares the same samples.*\(2, 3\).*\(4, 3\)",
        ),
        (lambda: shapes.same_samples("it", torch.tensor(0.0), torch.tensor(0.0)), r"the same samples.*\(\)"),
        (lambda: shapes.same_features("it", drawn(2, 3), drawn(2, 4)), r"features of one shape.*\(2, 3\).*\(2, 4\)"),
        (lambda: shapes.same_features("it", drawn(2, 3), drawn(2, 3, 1, 1)), r"one shape.*\(2, 3, 1, 1\)"),
        (lambda: shapes.dimensions("it", drawn(2, 3), (4, 3)), r"tokens \[B, N, D\] or feature maps.*given \(2, 3\)"),
        (lambda: shapes.dimensions("it", drawn(2), (2,)), r"takes vectors \[B, D\]; it was given \(2,\)"),
        (
            lambda: shapes.same_positions("it", drawn(2, 3, 4), drawn(2, 3, 5)),
            "student's feature has 4, the teacher's 5",
        ),
        (lambda: shapes.same_positions("it", drawn(2, 3, 1), drawn(2, 3, 1), least=2), "this one has 1"),
        (lambda: shapes.fits_samples("it", torch.ones(3, dtype=torch.bool), drawn(2, 3)), r"2 samples.*\(3,\)"),
        (lambda: shapes.fits_samples("it", torch.ones(2), drawn(2, 3)), "torch.float32"),
    ],
)
def test_what_does_not_fit_is_named_with_a_cure(check: Callable[[], None], said: str) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        check()
    assert refused.value.cure


def test_what_fits_is_not_refused() -> None:
    shapes.same_samples("it", drawn(2, 3), drawn(2, 4, 5))
    shapes.same_features("it", drawn(2, 3), drawn(2, 3))
    shapes.dimensions("it", drawn(2, 3), (2, 4))
    shapes.same_positions("it", drawn(2, 3, 2), drawn(2, 5, 2), least=2)
    shapes.fits_samples("it", torch.ones(2, dtype=torch.bool), drawn(2, 3))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9, 1e18])
def test_unit_rows_at_any_scale(scale: float) -> None:
    rows = drawn(5, 7)
    expected = rows.numpy() / np.sqrt((rows.numpy() ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(shapes.unit((rows * scale).float()).numpy(), expected, rtol=1e-5)


def test_unit_rows_have_the_gradient_of_a_direction_and_of_zero_a_small_one() -> None:
    rows = drawn(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(shapes.unit, (rows,))
    zeros = torch.zeros(2, 3, requires_grad=True)
    shapes.unit(zeros).sum().backward()
    assert torch.equal(shapes.unit(zeros), torch.zeros(2, 3))
    assert 0 < float(zeros.grad.max()) < 2  # type: ignore[union-attr]
    tiny = torch.full((1, 3), 1e-9)
    assert torch.allclose(shapes.unit(tiny), torch.full((1, 3), 3**-0.5))
    assert float(shapes.unit(tiny, tiny=1e-8).max()) < 1e-8


def test_products_of_rows_and_their_gradient_in_one_product() -> None:
    rows = drawn(2, 3, 5).requires_grad_()
    expected = np.einsum("brn,bqn->brq", rows.detach().numpy(), rows.detach().numpy())
    np.testing.assert_allclose(shapes.gram(rows).detach().numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda one: shapes.gram(one) * drawn(2, 3, 3, seed=3), (rows,))  # not symmetric
    assert torch.autograd.gradgradcheck(shapes.gram, (rows,))
