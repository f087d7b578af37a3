"""ReviewKD and SimKD against numbers by hand and a second implementation in numpy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import ModelError, RecipeError
from limbeck.losses import TABLE, ReviewKD, declared, simkd
from limbeck.losses.features.review import _context

Array = NDArray[np.float64]
OWN, THEIRS = [(3, 8, 8), (5, 4, 4), (6, 2, 2), (6,)], [(4, 8, 8), (7, 4, 4), (9, 2, 2), (9,)]


def features(shapes: list[tuple[int, ...]], batch: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def made(**more: int) -> ReviewKD:
    torch.manual_seed(3)
    review = ReviewKD(OWN, THEIRS, **more).double()
    for part in review.modules():
        if isinstance(part, nn.BatchNorm2d):  # norms that have seen something
            part.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return review


# The second implementation, on arrays, in loops.


def shrunk(maps: Array, size: int) -> Array:
    """Average pooling of a square map to a size that divides its own."""
    step = maps.shape[-1] // size
    found = np.zeros((*maps.shape[:2], size, size))
    for i, j in np.ndindex(size, size):
        found[:, :, i, j] = maps[:, :, i * step : (i + 1) * step, j * step : (j + 1) * step].mean((2, 3))
    return found


def context(student: Array, teacher: Array) -> Array:
    size = student.shape[-1]
    levels = [(size, 1.0)]
    for level in (4, 2, 1):
        if level < size:
            levels.append((level, levels[-1][1] / 2))
    found = sum(w * ((shrunk(student, n) - shrunk(teacher, n)) ** 2).mean((1, 2, 3)) for n, w in levels)
    return np.asarray(found) / sum(w for _, w in levels)


def normed(x: Array, norm: nn.BatchNorm2d, training: bool) -> Array:
    mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3))) if training else (norm.running_mean, norm.running_var)
    mean, var, scale, shift = (np.asarray(one)[:, None, None] for one in (mean, var, norm.weight.data, norm.bias.data))
    return np.asarray((x - mean) / np.sqrt(var + norm.eps) * scale + shift)


def convolved(x: Array, layer: nn.Conv2d) -> Array:
    kernel, size = layer.weight.data.numpy(), x.shape[-1]
    pad = kernel.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    found = np.zeros((len(x), len(kernel), size, size))
    for i, j in np.ndindex(*kernel.shape[2:]):
        found += np.einsum("oc,bchw->bohw", kernel[:, :, i, j], x[:, :, i : i + size, j : j + size])
    return found if layer.bias is None else found + layer.bias.data.numpy()[:, None, None]


def by_hand(review: ReviewKD, student: list[Tensor], teacher: list[Tensor], training: bool = False) -> Array:
    total, deeper = np.zeros(len(student[0])), None
    for stage, own, theirs in list(zip(review.stages, student, teacher, strict=True))[::-1]:
        x, y = (one.numpy().reshape(*one.shape, *[1] * (4 - one.ndim)) for one in (own, theirs))
        x = normed(convolved(x, stage.enter[0]), stage.enter[1], training)  # type: ignore[index, arg-type]
        if deeper is not None:
            times = x.shape[-1] // deeper.shape[-1]
            deeper = deeper.repeat(times, axis=2).repeat(times, axis=3)
            share = 1 / (1 + np.exp(-convolved(np.concatenate([x, deeper], 1), stage.attention)))  # type: ignore[arg-type]
            x = share[:, :1] * x + share[:, 1:] * deeper
        deeper = x
        out = normed(convolved(x, stage.leave[0]), stage.leave[1], training)  # type: ignore[index, arg-type]
        total += context(out, y)
    return total


@pytest.mark.parametrize("training", [False, True])
def test_against_numpy(training: bool) -> None:
    review = made().train(training)
    student, teacher = features(OWN, 3, 1), features(THEIRS, 3, 2)
    expected = by_hand(review, student, teacher, training)
    found = review(student, teacher)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-9)


def test_the_context_loss_by_hand() -> None:
    # 8 x 8 of ones against zeros: every level gives 1, and 15/8 of it are divided by 15/8.
    torch.testing.assert_close(_context(torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)), torch.ones(2))
    # A checkerboard of ±1 is 1 as it is, and 0 at every level below.
    board = 1 - 2.0 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)
    assert _context(board.expand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).item() == pytest.approx(1 / (1 + 7 / 8))
    assert _context(board[:4, :4].expand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).item() == pytest.approx(1 / (1 + 3 / 4))
    assert _context(board[:2, :2].expand(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1 / (1 + 1 / 2))
    # Of 1 x 1 there is nothing below.
    assert _context(torch.full((1, 2, 1, 1), 3.0), torch.ones(1, 2, 1, 1)).item() == 4.0


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 7), (8, 8), (1, 6), (5, 3)], ids=str)
def test_equal_maps_have_the_context_loss_zero(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, requires_grad=True)
    value = _context(x, x.detach().clone())
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0]
    assert x.grad is not None
    assert bool((x.grad == 0).all())


def test_a_larger_map_is_pooled() -> None:
    student, teacher = torch.ones(1, 1, 2, 2), torch.arange(16.0).view(1, 1, 4, 4)
    pooled = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    torch.testing.assert_close(_context(student, teacher), _context(student, pooled))
    torch.testing.assert_close(_context(teacher, student), _context(student, pooled))


def test_the_width_in_common_is_that_of_the_students_deepest_stage() -> None:
    def width(review: ReviewKD) -> int:
        return int(review.stages[0].enter[0].out_channels)  # type: ignore[index, union-attr]

    assert width(ReviewKD([(16, 8, 8), (64, 4, 4)], [(300, 8, 8), (600, 4, 4)])) == 64
    assert width(ReviewKD([(16, 2, 2), (700,)], [(3, 2, 2), (6,)])) == 512
    assert width(made(middle=2)) == 2


def test_only_the_student_and_the_fusion_learn() -> None:
    review = made()
    student, teacher = features(OWN, 3, 1), features(THEIRS, 3, 2)
    for one in (*student, *teacher):
        one.requires_grad_()
    review(student, teacher).sum().backward()
    assert all(one.grad is None for one in teacher)
    for number, one in enumerate(student):
        assert one.grad is not None
        assert float(one.grad.abs().sum()) > 0, number
    for name, parameter in review.named_parameters():
        assert parameter.grad is not None, name


def test_the_gradient_is_the_finite_difference() -> None:
    review = ReviewKD([(2, 2, 2), (3,)], [(2, 2, 2), (2,)]).double().eval()
    teacher = features([(2, 2, 2), (2,)], 2, 4)
    student = [one.requires_grad_() for one in features([(2, 2, 2), (3,)], 2, 5)]
    assert torch.autograd.gradcheck(lambda *given: review(list(given), teacher), student)


def test_masked_samples_are_left_out_of_the_statistics_too() -> None:
    review = made().train()
    student, teacher = features(OWN, 4, 1), features(THEIRS, 4, 2)
    mask = torch.tensor([True, False, True, True])
    expected = copy.deepcopy(review)([one[mask] for one in student], [one[mask] for one in teacher])
    for one in (*student, *teacher):
        one[1] = torch.nan
    found = review(student, teacher, mask=mask)
    torch.testing.assert_close(found[mask], expected)
    assert found[1].item() == 0
    found.sum().backward()
    assert all(bool(torch.isfinite(one.grad).all()) for one in review.parameters() if one.grad is not None)


def test_all_masked_is_zero_with_a_graph() -> None:
    review, student = made().train(), [one.requires_grad_() for one in features(OWN, 2, 1)]
    before = copy.deepcopy(review.state_dict())
    value = review(student, features(THEIRS, 2, 2), mask=torch.zeros(2, dtype=torch.bool))
    assert all(torch.equal(before[name], one) for name, one in review.state_dict().items())  # no statistics of nothing
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert all(one.grad is not None and bool((one.grad == 0).all()) for one in student)


def test_a_batch_of_one_is_trained_on() -> None:
    value = made().train()(features(OWN, 1, 1), features(THEIRS, 1, 2))
    assert bool(torch.isfinite(value).all())
    value.sum().backward()


def test_half_precision_is_computed_in_float32() -> None:
    review = ReviewKD(OWN, THEIRS)
    student, teacher = ([one.to(torch.bfloat16) for one in features(*given)] for given in ((OWN, 3, 1), (THEIRS, 3, 2)))
    found = review(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, review([one.float() for one in student], [one.float() for one in teacher]))


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="the student has 4, the teacher 3"):
        ReviewKD(OWN, THEIRS[:3])
    with pytest.raises(ModelError, match=r"\(65, 192\)"):
        ReviewKD([(65, 192)], [(65, 192)])
    with pytest.raises(RecipeError, match=r"review\.middle is 0"):
        ReviewKD(OWN, THEIRS, middle=0)
    review, student, teacher = made(), features(OWN, 2, 1), features(THEIRS, 2, 2)
    with pytest.raises(ModelError, match="made for 4 stages; it was given 2"):
        review(student[:2], teacher[:2])
    with pytest.raises(ModelError, match="6 channels of the student; it was given 5"):
        review([student[0], student[1], student[1], student[3]], teacher)
    with pytest.raises(ModelError, match="9 channels of the teacher; it was given 7"):
        review(student, [teacher[0], teacher[1], teacher[1], teacher[3]])
    with pytest.raises(ModelError, match="same samples"):
        review(student, [one[:1] for one in teacher])


def test_they_are_in_the_table_and_say_what_they_compare() -> None:
    assert TABLE["review"] is ReviewKD
    assert TABLE["simkd"] is simkd
    assert (declared(ReviewKD).site, declared(ReviewKD).weight, declared(ReviewKD).same) == ("all_stages", 5.0, False)
    assert (declared(simkd).site, declared(simkd).weight, declared(simkd).equal) == ("last_stage", 1.0, 0.0)


# SimKD


def test_simkd_is_the_mean_square_of_each_sample() -> None:
    student, teacher = features([(3, 4, 4)], 5, 1)[0], features([(3, 4, 4)], 5, 2)[0]
    expected = [((s - t) ** 2).sum() / 48 for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
    np.testing.assert_allclose(simkd(student, teacher), expected, rtol=1e-12)
    assert simkd(student, student).tolist() == [0.0] * 5


def test_simkd_pools_the_larger_map() -> None:
    small, large = torch.full((1, 1, 1, 1), 2.0), torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert simkd(small, large).item() == 1.0  # (2 - 3)²
    assert simkd(large, small).item() == 1.0


def test_simkd_teaches_the_student_only() -> None:
    student, teacher = (torch.randn(2, 3, 2, 2, requires_grad=True) for _ in range(2))
    simkd(student, teacher).sum().backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, (2 * (student - teacher) / 12).detach())


def test_simkd_says_how_to_make_the_student() -> None:
    with pytest.raises(ModelError, match=r"\(2, 3, 4, 4\).*\(2, 5, 4, 4\)(.|\n)*reuse_classifier"):
        simkd(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
