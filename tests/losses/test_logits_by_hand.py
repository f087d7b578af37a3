"""Losses between logits in closed form: numbers by hand, limits, and how the losses hang together."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from limbeck.losses import (
    bernoulli_kl,
    cross_entropy,
    declared,
    dist,
    dkd,
    jsd,
    kl,
    logit_mse,
    nkd,
    reverse_kl,
    teacher_free,
    wsld,
)

LN2 = math.log(2)


def logits(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale)


def slope(value: Tensor, leaf: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value.sum(), leaf)
    return found


def centered(z: Tensor) -> Tensor:
    return z - z.mean(1, keepdim=True)


# The divergences.


def test_reverse_kl_is_kl_the_other_way_round() -> None:
    z_s, z_t = logits(5, 7, seed=1), logits(5, 7, seed=2)
    torch.testing.assert_close(reverse_kl(z_s, z_t, temperature=3.0), kl(z_t, z_s, temperature=3.0))
    sure, uniform = torch.tensor([[30.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    assert reverse_kl(sure, uniform, temperature=1.0).item() == pytest.approx(math.log(4), rel=1e-5)
    assert reverse_kl(uniform, sure, temperature=1.0).item() == pytest.approx(0.75 * 30 - math.log(4), rel=1e-5)


def test_jsd_of_a_coin_and_of_certainty() -> None:
    """p_t = (1, 0), p_s = (½, ½), m = (β + (1-β)/2, (1-β)/2), written out."""
    coin, sure = torch.zeros(1, 2), torch.tensor([[200.0, 0.0]])
    for beta in (0.1, 0.5, 0.8):
        m = (beta + (1 - beta) / 2, (1 - beta) / 2)
        expected = beta * -math.log(m[0]) + (1 - beta) * (-LN2 - 0.5 * (math.log(m[0]) + math.log(m[1])))
        assert jsd(coin, sure, beta=beta, temperature=1.0).item() == pytest.approx(expected, rel=1e-5)


def test_jsd_is_symmetric_and_bounded() -> None:
    z_s, z_t = logits(50, 6, seed=3, scale=30.0), logits(50, 6, seed=4, scale=30.0)
    torch.testing.assert_close(jsd(z_s, z_t), jsd(z_t, z_s))
    torch.testing.assert_close(jsd(z_s, z_t, beta=0.2), jsd(z_t, z_s, beta=0.8))
    for beta in (0.1, 0.5, 0.7):
        entropy = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        found = jsd(z_s, z_t, beta=beta, temperature=1.0)
        assert bool((found <= entropy + 1e-12).all())
        assert found.max() > 0.9 * entropy
        opposite = jsd(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), beta=beta, temperature=1.0)
        assert opposite.item() == pytest.approx(entropy, rel=1e-5)


def test_jsd_ends_in_both_directions_of_kl() -> None:
    z_s, z_t = logits(5, 7, seed=5), logits(5, 7, seed=6)
    torch.testing.assert_close(jsd(z_s, z_t, beta=0.0), kl(z_s, z_t))
    torch.testing.assert_close(jsd(z_s, z_t, beta=1.0), reverse_kl(z_s, z_t))
    near = 1e-6  # where the formula itself is near 0
    torch.testing.assert_close(jsd(z_s, z_t, beta=near) / near, kl(z_s, z_t), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(jsd(z_s, z_t, beta=1 - near) / near, reverse_kl(z_s, z_t), rtol=1e-4, atol=1e-6)


def test_at_high_temperature_they_are_the_squared_distance_of_centered_logits() -> None:
    """T² KL → (1/2C) |d|²: half of logit_mse. Jensen-Shannon: β (1 - β) times that; and so the gradients."""
    z_s, z_t = logits(6, 5, seed=7).requires_grad_(), logits(6, 5, seed=8)
    distance = (centered(z_s) - centered(z_t)).square().sum(1)
    torch.testing.assert_close(logit_mse(z_s, z_t), distance / 5)
    t, close = 1e4, {"rtol": 3e-3, "atol": 1e-3}
    cases = [(kl, {}, 1.0), (reverse_kl, {}, 1.0), (jsd, {}, 0.25), (jsd, {"beta": 0.2}, 0.16)]
    for loss, hyper, part in cases:
        found = loss(z_s, z_t, temperature=t, **hyper)
        torch.testing.assert_close(found, part * logit_mse(z_s, z_t) / 2, **close)
        torch.testing.assert_close(slope(found, z_s), part * slope(logit_mse(z_s, z_t), z_s) / 2, **close)
    one = bernoulli_kl(z_s[:, 0], z_t[:, 0], temperature=t)  # logits (0, z): centered difference (-d/2, d/2)
    torch.testing.assert_close(one, (z_s[:, 0] - z_t[:, 0]).square() / 8, **close)


def test_logit_mse_by_hand() -> None:
    z_s, z_t = torch.tensor([[5.0, 0.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 2.0, 0.0]])
    value = logit_mse(z_s, z_t)  # d = (4, -2, 1), centered (3, -3, 0): 18 / 3
    assert value.item() == pytest.approx(6.0)
    assert slope(value, z_s).tolist() == [pytest.approx([2.0, -2.0, 0.0])]  # 2/3 of it
    assert declared(logit_mse).weight == 0.1


# The label's class apart.


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_parts_of_dkd_recombine_to_kl(temperature: float) -> None:
    z_s, z_t = logits(8, 6, seed=9), logits(8, 6, seed=10)
    target = torch.randint(6, (8,), generator=torch.Generator().manual_seed(11))
    own = dkd(z_s, z_t, target=target, alpha=1.0, beta=0.0, temperature=temperature)
    rest = dkd(z_s, z_t, target=target, alpha=0.0, beta=1.0, temperature=temperature)
    p_t = torch.softmax(z_t / temperature, 1)[torch.arange(8), target]
    whole = kl(z_s, z_t, temperature=temperature)
    torch.testing.assert_close(own + (1 - p_t) * rest, whole, rtol=1e-11, atol=1e-12)
    both = dkd(z_s, z_t, target=target, alpha=1.0, beta=1.0, temperature=temperature)
    assert bool((both > whole + 1e-3).all())  # KD is not alpha = beta = 1
    torch.testing.assert_close(dkd(z_s, z_t, target=target, temperature=temperature), own + 8 * rest)


def test_the_parts_of_dkd_see_only_what_is_theirs() -> None:
    z_s, z_t, target = logits(4, 5, seed=12), logits(4, 5, seed=13), torch.tensor([0, 2, 4, 1])
    label = torch.nn.functional.one_hot(target, 5).double()
    rest = dkd(z_s, z_t, target=target, alpha=0.0)
    torch.testing.assert_close(dkd(z_s + 7 * label, z_t - 3 * label, target=target, alpha=0.0), rest)
    own = dkd(z_s, z_t, target=target, beta=0.0)
    others = z_s.clone()
    others[0, 1:] = z_s[0, 1:].flip(0)  # the others change places
    torch.testing.assert_close(dkd(others, z_t, target=target, beta=0.0), own)


def test_a_sure_teacher_teaches_the_rest_by_dkd_and_not_by_kl() -> None:
    z_t = torch.tensor([[20.0, 3.0, 0.0]], dtype=torch.float64)
    z_s = torch.tensor([[20.0, 0.0, 3.0]], dtype=torch.float64)
    assert kl(z_s, z_t, temperature=1.0).item() < 1e-6
    q = 1 / (1 + math.exp(-3))  # q_t = (q, 1-q), q_s the other way round: (2q - 1) log(q / (1-q)) = 3 (2q - 1)
    rest = dkd(z_s, z_t, target=torch.tensor([0]), beta=1.0, temperature=1.0)
    assert rest.item() == pytest.approx(3 * (2 * q - 1), rel=1e-6)


def test_nkd_by_hand() -> None:
    z_s = torch.log(torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64))
    z_t = torch.log(torch.tensor([[0.8, 0.15, 0.05]], dtype=torch.float64))
    found = nkd(z_s, z_t, target=torch.tensor([0]), gamma=1.5)
    assert found.item() == pytest.approx(0.8 * LN2 + 1.5 * LN2, rel=1e-9)  # q_s = (½, ½), whatever q_t is
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    same = nkd(z_t, z_t, target=torch.tensor([0]), gamma=2.0)
    assert same.item() == pytest.approx(-0.8 * math.log(0.8) + 2 * entropy, rel=1e-9)  # not 0


def test_nkd_leaves_the_cross_entropy_to_the_supervised_term() -> None:
    """With a teacher that trusts the label by p, the first part is p times the cross-entropy: only T 2 changes q."""
    z_s, z_t, target = logits(6, 5, seed=14), logits(6, 5, seed=15), torch.tensor([0, 1, 2, 3, 4, 0])
    p_t = torch.softmax(z_t, 1)[torch.arange(6), target]
    for temperature in (1.0, 2.0):
        found = nkd(z_s, z_t, target=target, gamma=0.0, temperature=temperature)
        torch.testing.assert_close(found, p_t * cross_entropy(z_s, target=target))


# Weighted, and without a teacher.


def test_wsld_weighs_by_the_cross_entropies_and_its_weight_is_a_constant() -> None:
    z_s, z_t, target = logits(6, 5, seed=16).requires_grad_(), logits(6, 5, seed=17), torch.tensor([0, 1, 2, 3, 4, 0])
    ratio = cross_entropy(z_s.detach(), target=target) / cross_entropy(z_t, target=target)
    weight, t = 1 - torch.exp(-ratio), 2.0
    expected = (weight * t).unsqueeze(1) * (torch.softmax(z_s / t, 1) - torch.softmax(z_t / t, 1))
    torch.testing.assert_close(slope(wsld(z_s, z_t, target=target), z_s), expected)
    entropy = -(torch.softmax(z_t / t, 1) * torch.log_softmax(z_t / t, 1)).sum(1)
    torch.testing.assert_close(wsld(z_t, z_t, target=target), (1 - math.exp(-1)) * t**2 * entropy)


def test_wsld_of_a_teacher_without_a_mistake() -> None:
    """CE_t is 0: the weight is 1 where the student makes one, and 0 where it makes none either."""
    right, wrong = torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    for z_s, weight in ((wrong, 1.0), (right, 0.0)):
        leaf = z_s.clone().requires_grad_()
        value = wsld(leaf, right, target=torch.tensor([0]), temperature=1.0)
        assert value.item() == pytest.approx(weight * cross_entropy(z_s, target=torch.tensor([0])).item(), abs=1e-5)
        assert bool(torch.isfinite(slope(value, leaf)).all())


def test_the_teacher_made_by_hand_is_found_by_the_student() -> None:
    """(.9, .05, .05) at T 2: proportional to its roots, so that log(u) / 2 are the logits of a student who has it."""
    target = torch.tensor([0])
    log_u = torch.log(torch.tensor([[0.9, 0.05, 0.05]], dtype=torch.float64)).div(2).requires_grad_()
    value = teacher_free(log_u, target=target, correct=0.9, temperature=2.0)
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert slope(value, log_u).abs().max() < 1e-12
    own = math.sqrt(0.9) / (math.sqrt(0.9) + 2 * math.sqrt(0.05))
    uniform = teacher_free(torch.zeros(1, 3), target=target, correct=0.9, temperature=2.0)
    expected = math.log(3) + own * math.log(own) + (1 - own) * math.log((1 - own) / 2)
    assert uniform.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_teacher_free_at_temperature_1_is_label_smoothing(smoothing: float) -> None:
    """The same gradient as the cross-entropy's with e/C for each other class; the values differ by an entropy."""
    z, target = logits(6, 5, seed=18).requires_grad_(), torch.tensor([0, 1, -1, 3, 4, 0])
    free = teacher_free(z, target=target, correct=1 - smoothing * 4 / 5, temperature=1.0)
    smooth = cross_entropy(z, target=target, label_smoothing=smoothing)
    torch.testing.assert_close(slope(free, z), slope(smooth, z))
    q, rest = 1 - smoothing * 4 / 5, smoothing / 5
    entropy = -q * math.log(q) - 4 * rest * math.log(rest)
    torch.testing.assert_close((smooth - free)[target >= 0], torch.full((5,), entropy, dtype=torch.float64))


# Heads with a sigmoid.


@pytest.mark.parametrize("temperature", [0.7, 4.0])
def test_one_logit_is_two_classes(temperature: float) -> None:
    z_s, z_t = logits(7, 1, seed=19), logits(7, 1, seed=20)
    expected = kl(torch.cat([0 * z_s, z_s], 1), torch.cat([0 * z_t, z_t], 1), temperature=temperature)
    for own, theirs in itertools.product((z_s, z_s[:, 0]), (z_t, z_t[:, 0])):
        torch.testing.assert_close(bernoulli_kl(own, theirs, temperature=temperature), expected)


def test_several_labels_are_the_divergence_of_the_joint_answer() -> None:
    """Three independent questions have eight answers, whose logits are the sums over the questions answered by yes."""
    z_s, z_t = logits(5, 3, seed=21), logits(5, 3, seed=22)
    answers = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    expected = kl(z_s @ answers.T, z_t @ answers.T, temperature=2.0)
    torch.testing.assert_close(bernoulli_kl(z_s, z_t, temperature=2.0), expected)


def test_bernoulli_kl_by_hand() -> None:
    z_s, z_t = torch.zeros(1, 2), torch.log(torch.tensor([[3.0, 1.0]]))  # p_t = (¾, ½), p_s = (½, ½)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert bernoulli_kl(z_s, z_t, temperature=1.0).item() == pytest.approx(expected, rel=1e-5)
    leaf = z_s.clone().requires_grad_()
    found = slope(bernoulli_kl(leaf, z_t, temperature=1.0), leaf)
    assert found.tolist() == [pytest.approx([-0.25, 0.0], abs=1e-6)]  # p_s - p_t: no factor of the number of labels


# Correlations.


def test_dist_by_hand() -> None:
    """Three rows whose order is turned round, in one column and by turns in the others."""
    p_t = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]], dtype=torch.float64)
    p_s = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.2, 0.3]], dtype=torch.float64)
    mean, both = 1 / 3, p_t.square().sum(1) - 3 / 9
    rho = ((p_s - mean) * (p_t - mean)).sum(1) / both  # both rows hold the same numbers: one norm
    inter = dist(p_s.log(), p_t.log(), gamma=0.0, temperature=1.0)
    assert inter.item() == pytest.approx(1 - rho.mean().item(), rel=1e-9)
    # Columns of two: up or down. Teacher: down, up, up; student: up, down, down.
    intra = dist(p_s.log(), p_t.log(), beta=0.0, temperature=1.0)
    assert intra.item() == pytest.approx(2.0, rel=1e-9)
    whole = dist(p_s.log(), p_t.log(), beta=3.0, gamma=0.5, temperature=1.0)
    assert whole.item() == pytest.approx(3 * inter.item() + 0.5 * 2.0, rel=1e-9)


def test_dist_is_of_the_order_and_not_of_the_size() -> None:
    """A row of probabilities may be mixed with the uniform one: an affine change, ρ stays 1."""
    p_t = torch.softmax(logits(6, 5, seed=23), 1)
    p_s = 0.3 * p_t + 0.7 / 5
    assert dist(p_s.log(), p_t.log(), temperature=1.0).abs().item() < 1e-12
    assert kl(p_s.log(), p_t.log(), temperature=1.0).min() > 1e-3


def test_one_sample_is_compared_by_its_row_only() -> None:
    z_s, z_t = logits(1, 5, seed=24).requires_grad_(), logits(1, 5, seed=25)
    found = dist(z_s, z_t)
    torch.testing.assert_close(found, dist(z_s, z_t, gamma=0.0))
    assert slope(found, z_s).abs().max() > 1e-3
    assert dist(z_s, z_t, beta=0.0).item() == 0.0


def test_what_is_constant_in_the_teacher_is_left_out_of_the_mean() -> None:
    z_s, z_t = logits(6, 5, seed=26), logits(6, 5, seed=27)
    z_t[2] = 3.0  # a uniform row
    kept = torch.arange(6) != 2
    torch.testing.assert_close(dist(z_s, z_t, gamma=0.0), dist(z_s[kept], z_t[kept], gamma=0.0))
    flat = dist(torch.zeros(6, 5, dtype=torch.float64), z_s, gamma=0.0, temperature=1.0)
    assert flat.item() == pytest.approx(1.0)  # a student who has not learned: uncorrelated


def test_with_two_classes_only_the_columns_teach() -> None:
    z_s, z_t = logits(6, 2, seed=28).requires_grad_(), logits(6, 2, seed=29)
    assert slope(dist(z_s, z_t, gamma=0.0), z_s).abs().max() < 1e-12
    assert slope(dist(z_s, z_t, beta=0.0), z_s).abs().max() > 1e-3
