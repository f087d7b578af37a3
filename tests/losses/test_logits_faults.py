"""Faults of popular implementations: each wrong version is written here, and a check tells it from limbeck's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import ModelError
from limbeck.losses import bernoulli_kl, dist, dkd, jsd, kl, nkd, teacher_free
from limbeck.objective import Objective, supervised, term
from limbeck.outputs import Outputs

Loss = Callable[..., Tensor]
SURE, UNIFORM = torch.tensor([[40.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)


def logits(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale)


def slope(loss: Loss, student: Tensor, *more: Any, **hyper: Any) -> Tensor:
    leaf = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, *more, **hyper).sum(), leaf)
    return found


def told_apart(check: Callable[[Loss], None], right: Loss, wrong: Loss) -> None:
    """The check passes on the right version, and can fail: it does on the wrong one."""
    check(right)
    with pytest.raises((AssertionError, RuntimeError)):
        check(wrong)


# Distillation by KL.


def test_t_squared_does_not_wait_for_a_hard_loss() -> None:
    """Without labels the soft loss stayed without T²: at T 8 it is 64 times too small."""
    z_s, z_t, target = logits(6, 5, seed=1), logits(6, 5, seed=2), torch.tensor([0, 1, 2, 3, 4, 0])

    def wrong(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        soft = kl(student, teacher, temperature=8.0, square=False).mean()
        return soft if target is None else 64 * soft + functional.cross_entropy(student, target)

    def right(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        terms = [term("kl", 1.0, temperature=8.0), *([] if target is None else [supervised(1.0)])]
        return Objective(terms)(Outputs(student), Outputs(teacher), target=target)[0]

    def check(loss: Loss) -> None:
        hard = slope(lambda student: functional.cross_entropy(student, target), z_s)
        torch.testing.assert_close(slope(loss, z_s, z_t), slope(loss, z_s, z_t, target) - hard)

    told_apart(check, right, wrong)


def test_the_mean_is_over_samples_and_not_over_classes() -> None:
    def wrong(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_s, p_t = torch.log_softmax(student / temperature, 1), torch.softmax(teacher / temperature, 1)
        return functional.kl_div(log_s, p_t, reduction="none").mean() * temperature**2  # reduction="mean"

    def check(loss: Loss) -> None:
        for classes in (4, 100):
            sure = torch.zeros(3, classes)
            sure[:, 0] = 40.0
            found = loss(torch.zeros(3, classes), sure, temperature=1.0).item()
            assert found == pytest.approx(math.log(classes), rel=1e-5)

    told_apart(check, lambda *z, **hyper: kl(*z, **hyper).mean(), wrong)


def test_the_mean_over_maps_is_over_pixels() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        log_s, p_t = torch.log_softmax(student, 1), torch.softmax(teacher, 1)
        return functional.kl_div(log_s, p_t, reduction="batchmean")  # divides by B only

    def check(loss: Loss) -> None:
        maps = [z[:, :, None, None].expand(1, 4, 8, 8) for z in (UNIFORM, SURE)]
        assert loss(*maps).item() == pytest.approx(math.log(4), rel=1e-5)

    told_apart(check, lambda *z: kl(*z, temperature=1.0).mean(), wrong)


def test_the_softmax_is_over_the_classes() -> None:
    def over(axis: int) -> Loss:
        def wrong(student: Tensor, teacher: Tensor) -> Tensor:
            log_s, log_t = torch.log_softmax(student / 4, axis), torch.log_softmax(teacher / 4, axis)
            return 16 * (log_t.exp() * (log_t - log_s)).sum(axis).flatten(1).mean(1)

        return wrong

    def check(loss: Loss) -> None:
        z_s, z_t = logits(3, 5, 4, 6, seed=3), logits(3, 5, 4, 6, seed=4)
        shift = logits(3, 1, 4, 6, seed=5)  # the same for all classes of a pixel: says nothing
        torch.testing.assert_close(loss(z_s + shift, z_t), loss(z_s, z_t))
        alone = loss(z_s[:1], z_t[:1])  # a sample's loss does not depend on the batch
        torch.testing.assert_close(loss(z_s, z_t)[:1], alone)

    for axis in (0, 2, 3):  # the batch, the height, the width
        told_apart(check, kl, over(axis))


def test_the_temperature_is_on_both_sides() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        log_s, log_t = torch.log_softmax(student, 1), torch.log_softmax(teacher / 4, 1)
        return 16 * (log_t.exp() * (log_t - log_s)).sum(1)

    def check(loss: Loss) -> None:
        z = logits(4, 5, seed=6)
        assert slope(loss, z, z).abs().max() < 1e-9

    told_apart(check, kl, wrong)


def test_the_students_side_is_not_detached() -> None:
    def check(loss: Loss) -> None:
        assert slope(loss, UNIFORM, SURE).abs().max() > 0.1

    told_apart(check, kl, lambda student, teacher: kl(student.detach(), teacher))
    told_apart(check, kl, lambda student, teacher: kl(student.detach(), teacher) + 0 * student.sum())


def test_the_teachers_side_is_detached() -> None:
    def check(loss: Loss) -> None:
        teacher = SURE.clone().requires_grad_()
        student = UNIFORM.clone().requires_grad_()
        loss(student, teacher).sum().backward()
        assert teacher.grad is None

    told_apart(check, kl, lambda student, teacher: functional.mse_loss(student, teacher))


def test_the_arguments_are_not_swapped() -> None:
    def check(loss: Loss) -> None:
        assert loss(UNIFORM, SURE, temperature=1.0).item() == pytest.approx(math.log(4), rel=1e-5)

    told_apart(check, kl, lambda student, teacher, **hyper: kl(teacher, student.detach(), **hyper))
    told_apart(
        check,
        kl,
        lambda student, teacher, temperature: functional.kl_div(
            torch.softmax(student, 1), torch.softmax(teacher, 1), reduction="batchmean"
        ),
    )  # without the logarithm


def test_it_is_a_divergence_and_not_a_cross_entropy_or_a_distance_of_probabilities() -> None:
    def cross(student: Tensor, teacher: Tensor) -> Tensor:
        return -16 * (torch.softmax(teacher / 4, 1) * torch.log_softmax(student / 4, 1)).sum(1)

    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        return 16 * (torch.softmax(teacher / 4, 1) - torch.softmax(student / 4, 1)).square().mean(1)

    def zero(loss: Loss) -> None:
        assert loss(SURE, SURE).item() == pytest.approx(0.0, abs=1e-5)

    def teaches(loss: Loss) -> None:
        """A student that is sure and wrong has the largest gradient."""
        assert slope(loss, SURE.flip(1) * 5, SURE * 5).abs().max() > 3.9  # T (1 - 0)

    told_apart(zero, kl, cross)
    told_apart(teaches, kl, distance)


def test_small_probabilities_are_not_clipped() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = (torch.softmax(z, 1).clamp(1e-7, 1) for z in (student, teacher))
        return (p_t * (p_t / p_s).log()).sum(1)

    def check(loss: Loss) -> None:
        found = slope(loss, SURE.flip(1), SURE)[0]
        assert found.tolist() == pytest.approx([-1.0, 0.0, 0.0, 1.0], abs=1e-5)

    told_apart(check, lambda *z: kl(*z, temperature=1.0), wrong)


# Logarithms of probabilities.


def finite(loss: Loss) -> None:
    """At logits of scale 60 and temperature 1 probabilities underflow in float32."""
    z_s, z_t = 60 * torch.eye(4)[[1, 0, 3, 2]] - 60, 60 * torch.eye(4) - 60
    for more in (1.0, 2.0, 10.0):
        assert bool(torch.isfinite(loss(more * z_s, more * z_t)).all())
        assert bool(torch.isfinite(slope(loss, more * z_s, more * z_t)).all())


def test_no_logarithm_of_a_softmax_in_kl() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.softmax(student, 1), torch.softmax(teacher, 1)
        return (p_t * (p_t.log() - p_s.log())).sum(1)

    told_apart(finite, lambda *z: kl(*z, temperature=1.0), wrong)


def test_no_logarithm_of_a_mixture_in_jsd() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.softmax(student, 1), torch.softmax(teacher, 1)
        log_m = (0.5 * p_s + 0.5 * p_t).log()
        return 0.5 * (
            (p_t * (torch.log_softmax(teacher, 1) - log_m)) + p_s * (torch.log_softmax(student, 1) - log_m)
        ).sum(1)

    told_apart(finite, lambda *z: jsd(*z, temperature=1.0), wrong)


def test_no_logarithm_of_a_summed_softmax_in_dkd() -> None:
    target = torch.arange(4)

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        label = functional.one_hot(target, 4).bool()
        pair = []
        for z in (student, teacher):
            p = torch.softmax(z, 1)
            pair.append(torch.stack([(p * label).sum(1), (p * ~label).sum(1)], 1))
        return (pair[1] * (pair[1].log() - pair[0].log())).sum(1)

    told_apart(finite, lambda *z: dkd(*z, target=target, beta=0.0, temperature=1.0), wrong)


def test_no_logarithm_of_a_sigmoid_in_bernoulli_kl() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.sigmoid(student), torch.sigmoid(teacher)
        return (p_t * (p_t / p_s).log() + (1 - p_t) * ((1 - p_t) / (1 - p_s)).log()).sum(1)

    told_apart(finite, lambda *z: bernoulli_kl(*z, temperature=1.0), wrong)


# The label's class apart.


def minus_1000(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """The non-target part as it is published: the label hidden by a large number."""
    label = functional.one_hot(target, student.shape[1])
    log_s, log_t = (torch.log_softmax(z - 1000.0 * label, 1) for z in (student, teacher))
    return (log_t.exp() * (log_t - log_s)).sum(1)


def test_a_label_is_left_out_and_not_hidden_by_1000() -> None:
    z_s = torch.tensor([[2000.0, 3.0, 0.0], [1.0, 3.0, 0.0]])
    z_t = torch.tensor([[2000.0, 0.0, 3.0], [1.0, 0.0, 3.0]])
    target = torch.zeros(2, dtype=torch.int64)

    def check(loss: Loss) -> None:
        q = 1 / (1 + math.exp(-3))
        expected = 3 * (2 * q - 1)  # q_t = (1-q, q) against (q, 1-q), in both rows
        assert loss(z_s, z_t, target=target).tolist() == pytest.approx([expected] * 2, rel=1e-4)

    told_apart(check, lambda *z, target: dkd(*z, target=target, alpha=0.0, beta=1.0, temperature=1.0), minus_1000)

    def normalized(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """nkd at equality is an entropy: of q alone with gamma 1, less the label's own part."""
        return nkd(student, teacher, target=target, gamma=1.0) - nkd(student, teacher, target=target, gamma=0.0)

    q = 1 / (1 + math.exp(-3))
    entropy = -q * math.log(q) - (1 - q) * math.log(1 - q)
    assert normalized(z_t, z_t, target).tolist() == pytest.approx([entropy] * 2, rel=1e-4)


def test_two_classes_are_refused_where_the_second_part_is_identically_0() -> None:
    z_s, z_t, target = logits(3, 2, seed=7), logits(3, 2, seed=8), torch.tensor([0, 1, 0])

    def check(loss: Loss) -> None:
        try:
            found = slope(loss, z_s, z_t, target=target)
        except ModelError as error:
            assert "use kl" in str(error.cure)  # noqa: PT017
            return
        assert found.abs().max() > 1e-3, "it teaches nothing, and says nothing"

    told_apart(check, lambda *z, target: dkd(*z, target=target, alpha=0.0), minus_1000)
    check(nkd)
    assert bool((minus_1000(z_s, z_t, target) == 0).all())


def test_all_labels_missing_is_0_with_a_graph() -> None:
    """A constant without a graph, or NaN of an empty mean."""
    none = torch.full((3,), -1)

    def empty(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        kept = target >= 0
        return kl(student[kept], teacher[kept]).mean()

    def constant(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        kept = target >= 0
        return kl(student[kept], teacher[kept]).mean() if kept.any() else torch.tensor(0.0)

    def check(loss: Loss) -> None:
        found = slope(loss, logits(3, 4, seed=9), logits(3, 4, seed=10), target=none)
        assert bool((found == 0).all())

    for right in (dkd, nkd):
        told_apart(check, right, constant)

    def value(loss: Loss) -> None:
        assert loss(logits(3, 4, seed=9), logits(3, 4, seed=10), target=none).sum().item() == 0.0

    told_apart(value, dkd, empty)


# Without a teacher.


def test_teacher_free_is_of_a_sample_and_not_of_a_class() -> None:
    def wrong(student: Tensor, target: Tensor) -> Tensor:
        u = torch.full_like(student, 0.01 / (student.shape[1] - 1)).scatter(1, target[:, None], 0.99)
        u = torch.softmax(u.log() / 20, 1)
        return functional.kl_div(torch.log_softmax(student, 1), u, reduction="none").mean()  # by B·C

    def check(loss: Loss) -> None:
        for classes in (10, 100):
            root = (0.99 * (classes - 1) / 0.01) ** (1 / 20)  # the label's share, in units of each other class's
            p, q = root / (root + classes - 1), 1 / (root + classes - 1)
            expected = p * math.log(p * classes) + (classes - 1) * q * math.log(q * classes)
            z, target = torch.zeros(3, classes, dtype=torch.float64), torch.tensor([0, 1, 2])
            assert loss(z, target=target).mean().item() == pytest.approx(expected, rel=1e-6)

    told_apart(check, teacher_free, wrong)


def test_the_hand_made_teacher_is_softened_by_logarithms() -> None:
    """Probabilities divided by T are nearly uniform at any T; a teacher at T 1 is the teacher."""

    def wrong(student: Tensor, target: Tensor, temperature: float) -> Tensor:
        u = torch.full_like(student, 0.01 / (student.shape[1] - 1)).scatter(1, target[:, None], 0.99)
        u = torch.softmax(u / temperature, 1)
        return functional.kl_div(torch.log_softmax(student, 1), u, reduction="none").sum(1)

    def check(loss: Loss) -> None:
        u = torch.tensor([[0.99, 0.005, 0.005]])
        assert loss(u.log(), target=torch.tensor([0]), temperature=1.0).item() == pytest.approx(0.0, abs=1e-6)

    told_apart(check, teacher_free, wrong)


# Correlations.


def rho(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Pearson's, of rows, with the eps added to the product of the norms."""
    s, t = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    return (s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1) + eps)


def test_dist_subtracts_the_correlation() -> None:
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.softmax(student / 4, 1), torch.softmax(teacher / 4, 1)
        return 16 * (1 - rho(p_s, p_t, 1e-12).mean() + rho(p_s.T, p_t.T, 1e-12).mean())  # adds the columns'

    def check(loss: Loss) -> None:
        z = logits(6, 5, seed=11)
        assert loss(z, z).item() == pytest.approx(0.0, abs=1e-6)
        other = logits(6, 5, seed=12)
        found = slope(loss, other, z)
        assert loss(other - 1e-4 * found, z) < loss(other, z)

    told_apart(check, dist, wrong)


def test_the_eps_of_dist_does_not_hide_small_columns() -> None:
    """Classes of probability 1e-7: the product of a column's norms is far below an eps of 1e-8."""
    z_t = logits(16, 20, seed=13, scale=0.5)
    z_t[:, 0] += 16.0  # one class has nearly all
    z_s = z_t[:, [0, *range(19, 0, -1)]]  # a student that mistakes the others

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.softmax(student, 1), torch.softmax(teacher, 1)
        return 1 - rho(p_s.T, p_t.T, 1e-8).mean()

    def check(loss: Loss) -> None:
        assert loss(z_t.float(), z_t.float()).item() == pytest.approx(0.0, abs=1e-3)
        assert loss(z_s.float(), z_t.float()).item() > 0.5
        assert slope(loss, z_s.float(), z_t.float())[:, 1:].abs().max() > 1e-3

    told_apart(check, lambda *z: dist(*z, beta=0.0, temperature=1.0), wrong)


def test_without_any_eps_rounding_would_be_compared() -> None:
    """Columns that are equal but for rounding must not count as much as the others."""
    z_t = torch.tensor([[0.3, 1.7, -0.4]]) + 0.1 * torch.arange(8.0)[:, None]  # all rows say the same
    z_s = z_t.flip(0)

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = torch.softmax(student, 1), torch.softmax(teacher, 1)
        return 1 - rho(p_s.T, p_t.T, 0.0).mean()

    def check(loss: Loss) -> None:
        assert loss(z_s, z_t).item() == pytest.approx(0.0, abs=1e-6)
        assert bool(torch.isfinite(slope(loss, z_s, z_t)).all())

    told_apart(check, lambda *z: dist(*z, beta=0.0, temperature=1.0), wrong)
