"""VID against a second implementation in numpy, and the faults of popular code."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, RecipeError
from limbeck.losses import TABLE
from limbeck.losses.features import VID


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(student: tuple[int, ...], teacher: tuple[int, ...], **hyper: float) -> VID:
    torch.manual_seed(0)
    vid = VID(student, teacher, **hyper).double()
    with torch.no_grad():
        vid.raw_variance += torch.linspace(-3.0, 1.0, len(vid.raw_variance))  # a variance for each channel
    return vid


def by_hand(vid: VID, student: np.ndarray, teacher: np.ndarray) -> list[float]:
    """Place by place, float64; both as [B, C, positions]."""
    first, second, third = (layer.detach().numpy()[:, :, 0, 0] for layer in vid.mean.parameters())
    raw = vid.raw_variance.detach().numpy()
    values = []
    for ours, theirs in zip(student, teacher, strict=True):
        total = 0.0
        for place in range(ours.shape[1]):
            hidden = np.maximum(second @ np.maximum(first @ ours[:, place], 0), 0)
            for c, expected in enumerate(third @ hidden):
                variance = math.log1p(math.exp(raw[c])) + 1e-5
                total += 0.5 * ((theirs[c, place] - expected) ** 2 / variance + math.log(variance))
        values.append(total / theirs.size)
    return values


def test_feature_maps_of_other_widths_against_the_second_implementation() -> None:
    vid, student, teacher = made((3, 4, 4), (5, 4, 4)), drawn(2, 3, 4, 4), drawn(2, 5, 4, 4, seed=1)
    wanted = by_hand(vid, student.flatten(2).numpy(), teacher.flatten(2).numpy())
    np.testing.assert_allclose(vid(student, teacher).detach().numpy(), wanted, rtol=1e-12)
    single = vid.float()(student.float(), teacher.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize(("ours", "theirs"), [(8, 4), (4, 8)])
def test_the_larger_map_is_pooled_before_the_convolutions(ours: int, theirs: int) -> None:
    vid, student, teacher = (
        made((3, ours, ours), (2, theirs, theirs)),
        drawn(2, 3, ours, ours),
        drawn(2, 2, theirs, theirs),
    )

    def four(maps: Tensor) -> np.ndarray:
        factor = maps.shape[2] // 4
        return maps.numpy().reshape(*maps.shape[:2], 4, factor, 4, factor).mean((3, 5)).reshape(*maps.shape[:2], 16)

    np.testing.assert_allclose(vid(student, teacher).detach().numpy(), by_hand(vid, four(student), four(teacher)))


def test_tokens_and_vectors() -> None:
    tokens, vectors = made((6, 3), (6, 5)), made((3,), (5,))
    student, teacher = drawn(2, 6, 3), drawn(2, 6, 5, seed=1)
    wanted = by_hand(tokens, student.transpose(1, 2).numpy(), teacher.transpose(1, 2).numpy())
    np.testing.assert_allclose(tokens(student, teacher).detach().numpy(), wanted)
    wanted = by_hand(vectors, student[:, 0, :, None].numpy(), teacher[:, 0, :, None].numpy())
    np.testing.assert_allclose(vectors(student[:, 0], teacher[:, 0]).detach().numpy(), wanted)


def test_it_starts_at_the_published_variance_and_has_the_published_layers() -> None:
    vid = VID((3, 8, 8), (5, 8, 8))
    assert vid.variance().tolist() == pytest.approx([5.0] * 5, rel=1e-6)
    assert vid.raw_variance.tolist() == pytest.approx([math.log(math.expm1(5 - 1e-5))] * 5, rel=1e-6)
    assert [tuple(one.shape) for one in vid.mean.parameters()] == [(5, 3, 1, 1), (5, 5, 1, 1), (5, 5, 1, 1)]
    assert sum(one.numel() for one in vid.parameters()) == 15 + 25 + 25 + 5
    for variance in (1e-4, 0.1, 80.0):
        assert VID((3,), (5,), variance=variance).variance().tolist() == pytest.approx([variance] * 5, rel=1e-4)


def test_the_variance_settles_at_the_mean_squared_error() -> None:
    """d/dσ² (e²/σ² + log σ²) = 0 where σ² = e², and the value there is (1 + log e²) / 2: negative for a small error."""
    vid = VID((1, 1, 2), (1, 1, 2), variance=0.01).double()
    nn.init.zeros_(vid.mean[4].weight)  # μ = 0
    value = vid(drawn(1, 1, 1, 2), torch.tensor([[[[0.1, -0.1]]]], dtype=torch.float64))
    value.sum().backward()
    assert value.tolist() == pytest.approx([0.5 * (1 + math.log(0.01))], rel=1e-5)
    assert vid.raw_variance.grad.tolist() == pytest.approx([0.0], abs=1e-4)  # type: ignore[union-attr]


def test_the_gradient_is_the_derivative_and_the_teacher_has_none() -> None:
    vid = made((2, 2, 2), (3, 2, 2))
    student, teacher = drawn(2, 2, 2, 2).requires_grad_(), drawn(2, 3, 2, 2, seed=1).requires_grad_()
    names, values = zip(*vid.named_parameters(), strict=True)

    def loss(student: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(vid, given, (student, teacher.detach()))

    assert torch.autograd.gradcheck(loss, (student, *(one.detach().requires_grad_() for one in values)))
    vid(student, teacher).sum().backward()
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0  # type: ignore[union-attr]


def test_samples_are_apart_and_a_batch_twice_has_the_same_mean() -> None:
    vid, student, teacher = made((3, 4, 4), (5, 4, 4)), drawn(3, 3, 4, 4), drawn(3, 5, 4, 4, seed=1)
    value = vid(student, teacher)
    torch.testing.assert_close(vid(student[1:2], teacher[1:2]), value[1:2])
    torch.testing.assert_close(vid(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1)).mean(), value.mean())


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0)])
@pytest.mark.parametrize("samples", [1, 2])
def test_large_features_in_any_precision(dtype: torch.dtype, scale: float, samples: int) -> None:
    vid = made((3, 4, 4), (5, 4, 4))
    student, teacher = (drawn(samples, c, 4, 4, seed=c).mul(scale).to(dtype) for c in (3, 5))
    wanted = by_hand(vid, student.double().flatten(2).numpy(), teacher.double().flatten(2).numpy())
    student.requires_grad_()
    value = vid.float()(student, teacher)
    value.sum().backward()
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-4)
    for one in (student, *vid.parameters()):
        assert torch.isfinite(one.grad).all()  # type: ignore[arg-type]


def test_zero_features_are_finite() -> None:
    vid, student = VID((3, 4, 4), (5, 4, 4)), torch.zeros(1, 3, 4, 4, requires_grad=True)
    value = vid(student, torch.zeros(1, 5, 4, 4))
    value.sum().backward()
    assert value.tolist() == pytest.approx([0.5 * math.log(5)])
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]


def test_what_was_trained_comes_back_from_its_state() -> None:
    vid, fresh = made((3, 4, 4), (5, 4, 4)), VID((3, 4, 4), (5, 4, 4)).double()
    fresh.load_state_dict(vid.state_dict())
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 5, 4, 4, seed=1)
    torch.testing.assert_close(fresh(student, teacher), vid(student, teacher))
    assert TABLE["vid"] is VID


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((2, 3, 4, 4), (1, 5, 4, 4), "'vid' compares the same samples"),
        ((2, 4, 4, 4), (2, 5, 4, 4), "3 channels of the student and 5 of the teacher; it was given 4 and 5"),
        ((2, 3, 4, 4), (2, 3, 4, 4), "it was given 3 and 3"),
        ((2, 6, 3), (2, 7, 5), "student's feature has 6, the teacher's 7"),
        ((2, 3, 4, 4, 4), (2, 5, 4, 4, 4), "'vid' takes vectors"),
    ],
)
def test_what_does_not_fit_is_refused(ours: tuple[int, ...], theirs: tuple[int, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        VID((3, 4, 4), (5, 4, 4))(torch.zeros(ours), torch.zeros(theirs))
    assert refused.value.cure


def test_what_can_not_be_made_is_refused() -> None:
    with pytest.raises(ModelError, match=r"one is \(1, 2, 3, 4\)"):
        VID((3,), (1, 2, 3, 4))
    with pytest.raises(RecipeError, match=r"vid.variance is 0.0, expected a number above 1e-05"):
        VID((3,), (5,), variance=0.0)


# ---- faults of popular code


class ScalesInAList(VID):
    """mdistiller's: the scales are no parameters."""

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        super().__init__(student, teacher)
        scales = [self.raw_variance.detach().requires_grad_()]
        del self.raw_variance
        vars(self)["raw_variance"] = scales[0]


def test_the_variances_are_trained() -> None:
    student, teacher = drawn(4, 3, 4, 4).float(), drawn(4, 5, 4, 4, seed=1).float()

    def right(kind: Callable[..., VID]) -> bool:
        torch.manual_seed(0)
        vid = kind((3, 4, 4), (5, 4, 4))
        before = vid.variance().detach()
        optimizer = torch.optim.SGD(vid.parameters(), lr=1.0)
        vid(student, teacher).mean().backward()
        optimizer.step()
        return bool((vid.variance() < before).all())  # 5 is more than the error: all shrink

    assert right(VID)
    assert not right(ScalesInAList)


class NaiveSoftplus(VID):
    """RepDistiller's: log(1 + exp a)."""

    def variance(self) -> Tensor:
        return torch.log(1 + torch.exp(self.raw_variance)) + 1e-5


def test_softplus_does_not_overflow() -> None:
    def right(kind: Callable[..., VID]) -> bool:
        vid = kind((3, 4, 4), (5, 4, 4))
        nn.init.constant_(vid.raw_variance, 200.0)
        value = vid(torch.ones(1, 3, 4, 4), torch.ones(1, 5, 4, 4)).sum()
        value.backward()
        return bool(torch.isfinite(value)) and bool(torch.isfinite(vid.raw_variance.grad).all())  # type: ignore[arg-type]

    assert right(VID)
    assert not right(NaiveSoftplus)


class StudentDetached(VID):
    """Student projects': the loss falls and the student learns nothing."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return super().forward(student.detach(), teacher)


def test_the_student_and_every_parameter_get_a_gradient() -> None:
    def right(kind: Callable[..., VID]) -> bool:
        torch.manual_seed(0)
        vid, student = kind((3, 4, 4), (5, 4, 4)), drawn(4, 3, 4, 4).float().requires_grad_()
        vid(student, drawn(4, 5, 4, 4, seed=1).float()).mean().backward()
        return all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in (student, *vid.parameters()))

    assert right(VID)
    assert not right(StudentDetached)
