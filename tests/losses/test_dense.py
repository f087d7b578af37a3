"""Losses between places against a second implementation in numpy, their properties, the faults of popular code."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError, RecipeError
from limbeck.losses import TABLE, Compares, declared
from limbeck.losses.dense import cwd, pairwise, pixel_kl

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (cwd, pairwise, pixel_kl)}
LOGITS = ["cwd", "pixel_kl"]
each = pytest.mark.parametrize("name", LOSSES)
each_of_logits = pytest.mark.parametrize("name", LOGITS)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(samples: int = 3, channels: int = 4, height: int = 4, width: int = 6) -> tuple[Tensor, Tensor]:
    return drawn(samples, channels, height, width), 2 * drawn(samples, channels, height, width, seed=1)


def gradient(loss: Loss, student: Tensor, teacher: Tensor, **more: Any) -> Tensor:
    student = student.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(student, teacher, **more).sum(), student)
    return found


# ---- the second implementation: float64, place by place


def divergence(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T² KL of the softmaxes of two rows."""

    def log_p(row: np.ndarray) -> np.ndarray:
        row = row / temperature - max(row / temperature)
        return row - math.log(math.fsum(math.exp(one) for one in row))

    log_s, log_t = log_p(student), log_p(teacher)
    return temperature**2 * math.fsum(math.exp(t) * (t - s) for s, t in zip(log_s, log_t, strict=True))


def pixel_by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    samples, _, height, width = student.shape
    found = np.zeros((samples, height, width))
    for b, i, j in np.ndindex(found.shape):
        found[b, i, j] = divergence(student[b, :, i, j], teacher[b, :, i, j], temperature)
    return found


def cwd_by_hand(
    student: np.ndarray, teacher: np.ndarray, temperature: float = 4.0, keep: np.ndarray | None = None
) -> np.ndarray:
    found = []
    for b in range(len(student)):
        places = np.ones(student.shape[2:], dtype=bool) if keep is None else keep[b]
        if not places.any():
            found.append(0.0)
            continue
        channels = zip(student[b], teacher[b], strict=True)
        found.append(np.mean([divergence(s[places], t[places], temperature) for s, t in channels]))
    return np.array(found)


def pairwise_by_hand(student: np.ndarray, teacher: np.ndarray, scale: float = 0.5) -> np.ndarray:
    def places(maps: np.ndarray) -> list[np.ndarray]:
        rows, columns = (max(1, int(side * scale)) for side in maps.shape[1:])
        return [
            maps[:, i : i + rows, j : j + columns].max((1, 2))
            for i in range(0, maps.shape[1], rows)
            for j in range(0, maps.shape[2], columns)
        ]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        lengths = math.hypot(*a) * math.hypot(*b)
        return float(np.dot(a, b)) / lengths if lengths else 0.0

    found = []
    for ours, theirs in zip(map(places, student), map(places, teacher), strict=True):
        count = range(len(ours))
        squares = [(cosine(ours[i], ours[j]) - cosine(theirs[i], theirs[j])) ** 2 for i in count for j in count]
        found.append(math.fsum(squares) / len(squares))
    return np.array(found)


BY_HAND: dict[str, Callable[..., np.ndarray]] = {
    "cwd": cwd_by_hand,
    "pairwise": pairwise_by_hand,
    "pixel_kl": pixel_by_hand,
}


def expected(name: str, student: Tensor, teacher: Tensor, **more: Any) -> np.ndarray:
    return BY_HAND[name](student.double().numpy(), teacher.double().numpy(), **more)


def bilinear(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps resized by the weights of the two nearest pixel centers along each axis."""

    def weights(old: int, new: int) -> np.ndarray:
        found = np.zeros((new, old))
        for i in range(new):
            center = max((i + 0.5) * old / new - 0.5, 0.0)
            low = int(center)
            found[i, low] += 1 - (center - low)
            found[i, min(low + 1, old - 1)] += center - low
        return found

    return np.einsum("hi,bcij,wj->bchw", weights(maps.shape[2], height), maps, weights(maps.shape[3], width))


@each
@pytest.mark.parametrize("shape", [(3, 4, 4, 6), (2, 2, 5, 3), (1, 7, 1, 2), (2, 3, 2, 2)])
@pytest.mark.parametrize("more", [{}, {"temperature": 2.5}, {"scale": 0.01}, {"scale": 0.34}])
def test_against_the_second_implementation(name: str, shape: tuple[int, ...], more: dict[str, float]) -> None:
    if more and ("scale" in more) != (name == "pairwise"):
        return
    student, teacher = drawn(*shape), 2 * drawn(*shape, seed=1)
    wanted = expected(name, student, teacher, **more)
    value, single = LOSSES[name](student, teacher, **more), LOSSES[name](student.float(), teacher.float(), **more)
    assert (value.dtype, single.dtype) == (torch.float64, torch.float32)
    assert value.shape == wanted.shape
    np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-10)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-4, atol=1e-6)


def test_numbers_by_hand() -> None:
    student, teacher = torch.zeros(1, 2, 1, 2), torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
    three_to_one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert pixel_kl(student, teacher).tolist() == [[[pytest.approx(three_to_one), 0.0]]]
    assert cwd(student, teacher, temperature=1.0).tolist() == [pytest.approx(three_to_one / 2)]
    assert cwd(student, 4 * teacher).tolist() == [pytest.approx(16 * three_to_one / 2)]
    # places (1, 0), (1, 1) against (1, 0), (0, 1): 1/√2 and 0
    student, teacher = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert pairwise(student, teacher).tolist() == [pytest.approx(2 * 0.5 / 4)]


@each_of_logits
@pytest.mark.parametrize("size", [(2, 3), (8, 12), (4, 5), (7, 1)])
def test_the_teachers_logits_are_resized_to_the_students_size(name: str, size: tuple[int, int]) -> None:
    student, teacher = drawn(2, 3, 4, 6), 2 * drawn(2, 3, *size, seed=1)
    wanted = BY_HAND[name](student.numpy(), bilinear(teacher.numpy(), 4, 6))
    np.testing.assert_allclose(LOSSES[name](student, teacher).numpy(), wanted, rtol=1e-10)
    assert gradient(LOSSES[name], student, teacher).shape == student.shape


def test_pairs_of_places_of_other_widths_and_sizes() -> None:
    student, teacher = drawn(2, 3, 8, 4), drawn(2, 5, 4, 8, seed=1)
    ours = student.numpy().reshape(2, 3, 4, 2, 4).mean(3)
    theirs = teacher.numpy().reshape(2, 5, 4, 4, 2).mean(4)
    np.testing.assert_allclose(pairwise(student, teacher).numpy(), pairwise_by_hand(ours, theirs), rtol=1e-10)


def test_standardized_logits_of_pixels() -> None:
    student, teacher = pair()
    rows_s, rows_t = (one.numpy() for one in (student, teacher))
    z_s, z_t = ((one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True) for one in (rows_s, rows_t))
    np.testing.assert_allclose(
        pixel_kl(student, teacher, temperature=2.0, standardize=True).numpy(), pixel_by_hand(z_s, z_t, 2.0), rtol=1e-9
    )


# ---- what is declared


def test_what_is_declared() -> None:
    assert {name: declared(TABLE[name]) for name in LOSSES} == {
        "cwd": Compares("logits", weight=3.0, equal=0.0, invariant=("shift",), classes=1, dense=True),
        "pairwise": Compares("last_stage", same=False, weight=0.5, equal=0.0, invariant=("scale",)),
        "pixel_kl": Compares("logits", weight=10.0, equal=0.0, invariant=("shift",), dense=True, pixels=True),
    }


@each
def test_equal_maps_give_zero_and_no_gradient(name: str) -> None:
    maps = pair()[0]
    assert float(LOSSES[name](maps, maps).abs().max()) == 0
    assert float(gradient(LOSSES[name], maps, maps).abs().max()) < 1e-15


@each
def test_what_changes_nothing(name: str) -> None:
    student, teacher = pair()
    plain = LOSSES[name](student, teacher)
    by_sample, by_channel, by_place = drawn(3, 1, 1, 1, seed=2), drawn(3, 4, 1, 1, seed=3), drawn(3, 1, 4, 6, seed=4)

    def same(ours: Tensor) -> bool:
        return torch.allclose(LOSSES[name](ours, teacher), plain)

    assert same(student + by_sample) == (name != "pairwise")
    assert same(student + by_channel) == (name == "cwd")
    assert same(student + by_place) == (name == "pixel_kl")
    assert same(student * 3) == (name == "pairwise")
    assert name != "pairwise" or torch.allclose(pairwise(student, teacher * 1e-7), plain)
    turn = torch.linalg.qr(drawn(4, 4, seed=5))[0]
    assert not same(torch.einsum("oc,bchw->bohw", turn, student))  # of a maximum there is no rotation
    places = torch.linspace(0.5, 2.0, 24, dtype=torch.float64).view(1, 1, 4, 6)
    assert not same(student * places)


def test_single_places_of_pairs_do_not_see_a_rotation() -> None:
    """A window of one place takes no maximum."""
    student, teacher = pair()
    turned = torch.einsum("oc,bchw->bohw", torch.linalg.qr(drawn(4, 4, seed=5))[0], student)
    torch.testing.assert_close(pairwise(turned, teacher, scale=0.1), pairwise(student, teacher, scale=0.1))


@each
def test_a_sample_does_not_see_the_others(name: str) -> None:
    student, teacher = pair()
    value, order = LOSSES[name](student, teacher), torch.tensor([2, 0, 1])
    torch.testing.assert_close(LOSSES[name](student[order], teacher[order]), value[order])
    torch.testing.assert_close(LOSSES[name](student[:1], teacher[:1]), value[:1])


@each
def test_the_gradient_is_the_derivative_and_the_teacher_has_none(name: str) -> None:
    student, teacher = (one.requires_grad_() for one in (drawn(2, 3, 3, 4), 2 * drawn(2, 3, 3, 4, seed=1)))
    assert torch.autograd.gradcheck(lambda one: LOSSES[name](one, teacher.detach()), (student,))
    (found,) = torch.autograd.grad(LOSSES[name](student, teacher).sum(), student)
    assert float(found.abs().sum()) > 0
    assert not torch.autograd.grad(LOSSES[name](student, teacher).sum(), teacher, allow_unused=True)[0]


# ---- extremes


@each
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0)])
def test_large_values_in_any_precision(name: str, dtype: torch.dtype, scale: float) -> None:
    student, teacher = (one.clamp(-1, 1).mul(scale).to(dtype) for one in pair())
    value, found = LOSSES[name](student, teacher), gradient(LOSSES[name], student, teacher)
    assert value.dtype == torch.float32
    assert found.dtype == dtype
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(value.numpy(), expected(name, student, teacher), rtol=1e-4, atol=1e-4)


@each
@pytest.mark.parametrize("dead", ["student", "teacher", "both", "a place", "a channel", "one place alone"])
def test_dead_parts_are_finite(name: str, dead: str) -> None:
    student, teacher = (one.float() for one in pair())
    for maps, whose in ((student, "student"), (teacher, "teacher")):
        if dead in (whose, "both"):
            maps.zero_()
    if dead == "a place":
        student[:, :, :2, :3] = 0.0  # the whole window that is pooled
    if dead == "a channel":
        student[:, 1] = 0.0
    if dead == "one place alone":
        student[:, :, 1:] = 0.0
    value, found = LOSSES[name](student, teacher), gradient(LOSSES[name], student, teacher)
    np.testing.assert_allclose(value.numpy(), expected(name, student, teacher), rtol=1e-4, atol=1e-6)
    assert float(found.abs().max()) < 10


# ---- masks


@pytest.mark.parametrize("size", [(4, 6), (2, 3)])
def test_ignored_pixels_have_no_value_and_no_gradient(size: tuple[int, int]) -> None:
    student, teacher = drawn(3, 4, 4, 6), drawn(3, 4, *size, seed=1)
    mask = drawn(3, 4, 6, seed=2) > 0
    mask[1] = False
    wanted = gradient(pixel_kl, student, teacher) * mask.unsqueeze(1)
    values = pixel_kl(student, teacher) * mask
    student = torch.where(mask.unsqueeze(1), student, math.nan)
    torch.testing.assert_close(pixel_kl(student, teacher, mask=mask), values)
    torch.testing.assert_close(gradient(pixel_kl, student, teacher, mask=mask), wanted)


@pytest.mark.parametrize("more", [{}, {"temperature": 1.0}])
def test_the_softmax_over_places_leaves_masked_ones_out(more: dict[str, float]) -> None:
    student, teacher = pair(4)
    mask = drawn(4, 4, 6, seed=2) > 0
    mask[1], mask[2] = False, torch.arange(24).view(4, 6) == 7  # nothing, and one place
    wanted = expected("cwd", student, teacher, keep=mask.numpy(), **more)
    assert wanted[1] == 0
    hidden_s, hidden_t = (torch.where(mask.unsqueeze(1), one, math.nan) for one in (student, teacher))
    value = cwd(hidden_s, hidden_t, mask=mask, **more)
    np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-10, atol=1e-14)
    found = gradient(cwd, hidden_s, hidden_t, mask=mask, **more)
    assert torch.isfinite(found).all()
    assert float((found * ~mask.unsqueeze(1)).abs().max()) == 0
    assert float(found[[0, 3]].abs().max()) > 0
    assert torch.autograd.gradcheck(lambda one: cwd(one, teacher, mask=mask), (student.requires_grad_(),))


def test_a_mask_of_samples_for_cwd() -> None:
    student, teacher = pair()
    mask = torch.tensor([True, False, True])
    wanted = cwd(student, teacher) * mask
    student[1] = math.nan
    torch.testing.assert_close(cwd(student, teacher, mask=mask), wanted)
    assert float(gradient(cwd, student, teacher, mask=mask)[1].abs().max()) == 0


@each_of_logits
def test_all_masked_is_zero_with_a_graph(name: str) -> None:
    student, teacher = (torch.full_like(one, math.inf) for one in pair())
    none = torch.zeros(3, 4, 6, dtype=torch.bool)
    assert float(LOSSES[name](student, teacher, mask=none).abs().max()) == 0
    assert float(gradient(LOSSES[name], student, teacher, mask=none).abs().max()) == 0


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "said"),
    [
        ("pixel_kl", (2, 3, 4, 4), (2, 5, 4, 4), "'pixel_kl' compares channel by channel"),
        ("pixel_kl", (2, 3, 4, 4), (3, 3, 4, 4), "'pixel_kl' compares the same samples"),
        ("pixel_kl", (2, 3), (2, 3), "'pixel_kl' takes feature maps"),
        ("pixel_kl", (2, 1, 4, 4), (2, 1, 4, 4), "'pixel_kl' takes a softmax over axis 1"),
        ("cwd", (2, 3, 4, 4), (2, 5, 4, 4), "'cwd' compares channel by channel"),
        ("cwd", (2, 3, 1, 1), (2, 3, 1, 1), "at least 2 positions; this one has 1"),
        ("cwd", (2, 16, 3), (2, 16, 3), "'cwd' takes feature maps"),
        ("pairwise", (2, 3, 1, 1), (2, 3, 4, 4), "at least 2 positions; this one has 1"),
        ("pairwise", (2, 3, 4, 4), (3, 3, 4, 4), "'pairwise' compares the same samples"),
        ("pairwise", (2, 3), (2, 3), "'pairwise' takes feature maps"),
    ],
)
def test_what_can_not_be_compared_is_refused(
    name: str, ours: tuple[int, ...], theirs: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        LOSSES[name](torch.zeros(ours), torch.zeros(theirs))
    assert refused.value.cure


@each_of_logits
@pytest.mark.parametrize("mask", [torch.ones(3, 4, 5, dtype=torch.bool), torch.ones(3, 4, 6)])
def test_masks_of_another_shape_or_type_are_refused(name: str, mask: Tensor) -> None:
    with pytest.raises(ModelError, match=f"'{name}' takes a mask of"):
        LOSSES[name](*pair(), mask=mask)


@pytest.mark.parametrize(("loss", "key"), [(cwd, "temperature"), (pixel_kl, "temperature"), (pairwise, "scale")])
@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf])
def test_numbers_out_of_range_are_refused(loss: Loss, key: str, wrong: float) -> None:
    with pytest.raises(RecipeError, match=rf"{loss.__name__}\.{key} is {wrong}"):
        loss(*pair(), **{key: wrong})


# ---- faults of popular code: each check tells the right loss from the wrong one


def batchmean(student: Tensor, teacher: Tensor) -> Tensor:
    """Mmrazor's KLDivergence on maps: divided by B only."""
    log_s, log_t = torch.log_softmax(student, 1), torch.log_softmax(teacher, 1)
    return functional.kl_div(log_s, log_t, log_target=True, reduction="batchmean")


def mean_of_all_elements(student: Tensor, teacher: Tensor) -> Tensor:
    """TorchDistiller's KD: divided by B, C and the pixels, and no T²."""
    log_s, log_t = torch.log_softmax(student / 4, 1), torch.log_softmax(teacher / 4, 1)
    return functional.kl_div(log_s, log_t, log_target=True, reduction="none").mean()


def without_square(student: Tensor, teacher: Tensor) -> Tensor:
    return mean_of_all_elements(student, teacher) * student.shape[1]


def summed_over_the_batch(student: Tensor, teacher: Tensor) -> Tensor:
    """Structured KD's pixel loss: divided by the pixels only (as a divergence: its gradient is the same)."""
    return batchmean(student, teacher) * len(student) / student[0, 0].numel()


def log_of_softmax(student: Tensor, teacher: Tensor) -> Tensor:
    """TorchDistiller's CWD."""
    q_s, q_t = (torch.softmax(maps.flatten(2) / 4, 2) for maps in (student, teacher))
    return 16 * (q_t * (q_t.log() - q_s.log())).sum(2).mean(1)


def softmax_over_height(student: Tensor, teacher: Tensor) -> Tensor:
    log_s, log_t = torch.log_softmax(student, 2), torch.log_softmax(teacher, 2)
    return (log_t.exp() * (log_t - log_s)).sum(2)


def channels_at_each_place(student: Tensor, teacher: Tensor) -> Tensor:
    """A softmax over classes where CWD's is over places."""
    return pixel_kl(student, teacher, temperature=4.0).mean((1, 2))


def norm_detached(student: Tensor, teacher: Tensor) -> Tensor:
    """Structured KD's pair-wise loss; maps are pooled by windows of half a side."""

    def similarities(maps: Tensor) -> Tensor:
        window = [side // 2 for side in maps.shape[2:]]
        maps = functional.max_pool2d(maps, window, window).flatten(2)
        maps = maps / maps.norm(dim=1, keepdim=True).detach()
        return maps.mT @ maps

    return (similarities(student) - similarities(teacher)).square().mean((1, 2))


def test_a_larger_map_or_batch_or_more_classes_without_effect_leave_the_mean_alone() -> None:
    """Tiling a map or a batch, and classes of no probability, change no mean over samples and pixels."""

    def right(loss: Loss) -> tuple[bool, bool, bool]:
        student, teacher = pair()
        plain = loss(student, teacher).mean()
        unlikely = torch.full((3, 4, 4, 6), -1e5, dtype=torch.float64)
        return (
            torch.allclose(loss(student.tile(1, 1, 3, 2), teacher.tile(1, 1, 3, 2)).mean(), plain),
            torch.allclose(loss(student.tile(2, 1, 1, 1), teacher.tile(2, 1, 1, 1)).mean(), plain),
            torch.allclose(loss(torch.cat([student, unlikely], 1), torch.cat([teacher, unlikely], 1)).mean(), plain),
        )

    assert right(pixel_kl) == (True, True, True)
    assert right(batchmean) == (False, True, True)
    assert right(summed_over_the_batch) == (True, False, True)
    assert right(mean_of_all_elements) == (True, True, False)


def test_the_square_of_the_temperature() -> None:
    """At a high temperature the value tends to that of squared logits, which does not depend on it."""
    student, teacher = pair()
    difference = (student - teacher).numpy()
    limit = ((difference - difference.mean(1, keepdims=True)) ** 2).sum(1).mean() / 2 / 4

    def right(loss: Loss) -> bool:
        return float(loss(student / 1e4, teacher / 1e4).mean()) * 1e8 == pytest.approx(limit, rel=1e-3)

    assert right(partial(pixel_kl, temperature=4.0))
    assert not right(without_square)
    assert not right(mean_of_all_elements)
    assert right(lambda s, t: 16 * without_square(s, t))  # nothing else is wrong with it


def test_pixels_are_rows_of_classes() -> None:
    student, teacher = pair(3, 4, 4, 4)  # square: no shape tells the axes apart

    def right(loss: Loss) -> bool:
        value = loss(student, teacher)
        return value.shape == (3, 4, 4) and np.allclose(value.numpy(), expected("pixel_kl", student, teacher))

    assert right(pixel_kl)
    assert not right(softmax_over_height)


def test_channel_wise_is_over_places() -> None:
    student, teacher = pair()

    def right(loss: Loss) -> bool:
        return np.allclose(loss(student, teacher).numpy(), expected("cwd", student, teacher))

    assert right(cwd)
    assert right(log_of_softmax)  # at small values
    assert not right(channels_at_each_place)


def test_places_that_underflow_have_a_finite_divergence() -> None:
    student, teacher = (1e3 * one.float() for one in pair())

    def right(loss: Loss) -> bool:
        value = loss(student, teacher)
        return bool(torch.isfinite(value).all() and torch.isfinite(gradient(loss, student, teacher)).all())

    assert right(cwd)
    assert not right(log_of_softmax)


def test_no_gradient_lengthens_a_place() -> None:
    """Similarities do not depend on the length of a place's vector, so their gradient has no part along it."""
    student, teacher = pair(height=2, width=2)
    torch.testing.assert_close(norm_detached(student, teacher), pairwise(student, teacher))

    def right(loss: Loss) -> bool:
        return float((gradient(loss, student, teacher) * student).sum(1).abs().max()) < 1e-12

    assert right(pairwise)
    assert not right(norm_detached)
