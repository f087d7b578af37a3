"""Labels of mixed samples, against cross-entropy with soft labels; and balanced class weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from limbeck.data.batch import Batch, Mixed
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses import cross_entropy, kl
from limbeck.objective import Objective, Term, hard_labels, supervised, term
from limbeck.outputs import Outputs

TARGET, PARTNER = torch.tensor([0, 2, -1, 1, -1, 3]), torch.tensor([3, 2, 1, -1, -1, 0])
SHARE = torch.tensor([0.75, 0.5, 0.25, 0.125, 0.5, 0.625])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels.clamp(min=0), 4).double() * (labels >= 0)[:, None]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_labels_are_one_soft_label(smoothing: float) -> None:
    """Value and gradient of torch's own cross-entropy with probabilities."""
    z = draw(4, 4).requires_grad_()
    target, partner, share = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 0, 2]), SHARE[:4]
    soft = share[:, None] * one_hot(target) + (1 - share[:, None]) * one_hot(partner)
    expected = functional.cross_entropy(z, soft, label_smoothing=smoothing)
    found, _ = Objective([supervised(label_smoothing=smoothing)])(
        Outputs(z), None, target=target, mixed=Mixed(partner, share)
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, z), torch.autograd.grad(expected, z))


def test_a_side_without_a_label_counts_for_nothing() -> None:
    """The sum over the shares that have a label, divided by the sum of these shares."""
    z = draw(6, 4)
    soft = SHARE.double()[:, None] * one_hot(TARGET) + (1 - SHARE.double()[:, None]) * one_hot(PARTNER)
    expected = -(soft * z.log_softmax(1)).sum() / soft.sum()
    found, _ = Objective([supervised()])(Outputs(z), None, target=TARGET, mixed=Mixed(PARTNER, SHARE))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    # By hand: 1 + 1 + .75 + .125 + 0 + 1 labels.
    assert soft.sum().item() == 3.875
    assert Objective([supervised()]).counts(TARGET, mixed=Mixed(PARTNER, SHARE))["labeled"].item() == 3.875


def test_less_than_one_label_is_not_blown_up() -> None:
    z = draw(2, 4).requires_grad_()
    mixed = Mixed(torch.tensor([1, -1]), torch.tensor([0.9, 0.5]))
    found, _ = Objective([supervised()])(Outputs(z), None, target=torch.tensor([-1, -1]), mixed=mixed)
    assert found.item() == pytest.approx(0.1 * cross_entropy(z[:1], target=torch.tensor([1])).item(), rel=1e-6)
    nothing, _ = Objective([supervised()])(
        Outputs(z), None, target=torch.tensor([-1, -1]), mixed=Mixed(torch.tensor([-1, -1]), torch.ones(2))
    )
    assert nothing.item() == 0
    nothing.backward()
    assert z.grad is not None
    assert z.grad.abs().max() == 0


def test_the_teachers_class_of_the_mixed_picture_stands_where_a_label_is_missing() -> None:
    z_s, z_t = draw(6, 4), draw(6, 4, seed=1)
    said = z_t.argmax(1)
    sides = [(torch.where(one < 0, said, one), share) for one, share in ((TARGET, SHARE), (PARTNER, 1 - SHARE))]
    expected = sum(share.double() * functional.cross_entropy(z_s, one, reduction="none") for one, share in sides)
    found, _ = Objective([hard_labels()])(Outputs(z_s), Outputs(z_t), target=TARGET, mixed=Mixed(PARTNER, SHARE))
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-12)


def test_class_weights_are_those_of_each_label() -> None:
    z, weights = draw(6, 4), (0.5, 1.0, 2.0, 4.0)
    each = torch.tensor(weights, dtype=torch.float64)
    soft = SHARE.double()[:, None] * one_hot(TARGET) + (1 - SHARE.double()[:, None]) * one_hot(PARTNER)
    expected = -(soft * each * z.log_softmax(1)).sum() / soft.sum()
    found, _ = Objective([supervised(class_weights=weights)])(
        Outputs(z), None, target=TARGET, mixed=Mixed(PARTNER, SHARE)
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_terms_of_the_teacher_see_no_labels() -> None:
    z_s, z_t = draw(6, 4), draw(6, 4, seed=1)
    _, found = Objective([supervised(0.5), term("kl")])(
        Outputs(z_s), Outputs(z_t), target=TARGET, mixed=Mixed(PARTNER, SHARE)
    )
    assert found["kl"].item() == pytest.approx(kl(z_s, z_t).mean().item(), rel=1e-12)


def test_a_share_of_one_is_no_mixing() -> None:
    z_s, z_t = draw(6, 4), draw(6, 4, seed=1)
    objective = Objective([supervised(0.3), term("kl"), hard_labels(0.2)])
    plain = objective(Outputs(z_s), Outputs(z_t), target=TARGET)[0]
    mixed = objective(Outputs(z_s), Outputs(z_t), target=TARGET, mixed=Mixed(PARTNER, torch.ones(6)))[0]
    assert mixed.item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("cuts", [[3], [1, 2], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("masked", [False, True])
def test_pieces_give_the_gradient_of_the_whole_batch(cuts: list[int], masked: bool) -> None:
    x, z_t, weight = draw(6, 5), draw(6, 4, seed=1), draw(5, 4, seed=2)
    mask = torch.tensor([True, True, False, True, True, True]) if masked else None
    batch = Batch(torch.arange(6), x, TARGET, Mixed(PARTNER, SHARE))
    objective = Objective([supervised(0.3, label_smoothing=0.1), term("kl", 0.5), hard_labels(0.2)])

    def gradient(part: Batch, start: int, **given: Any) -> Tensor:
        own = weight.clone().requires_grad_()
        stop = start + len(part)
        given["mask"] = None if mask is None else mask[start:stop]
        total, _ = objective(
            Outputs(part.inputs @ own), Outputs(z_t[start:stop]), target=part.target, mixed=part.mixed, **given
        )
        return torch.autograd.grad(total, own)[0]

    whole, counts = gradient(batch, 0), objective.counts(TARGET, mask, batch.mixed)
    parts = [
        gradient(batch.narrow(start, stop - start), start, counts=counts)
        for start, stop in zip([0, *cuts], [*cuts, 6], strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(0), whole, rtol=1e-6, atol=1e-8)


def test_a_loss_of_whole_batches_with_labels_is_refused() -> None:
    def pairs(student: Tensor, target: Tensor) -> Tensor:
        return student.square().mean() * (target >= 0).sum()

    with pytest.raises(ModelError, match=r"'pairs'.*mixed samples have two"):
        Objective([term(pairs)])(Outputs(draw(6, 4)), None, target=TARGET, mixed=Mixed(PARTNER, SHARE))


def test_right_answers_count_by_their_shares() -> None:
    batch = Batch(torch.arange(6), torch.zeros(6, 1), TARGET, Mixed(PARTNER, SHARE))
    right, labeled = batch.right(torch.tensor([0, 2, 1, 0, 0, 0]))
    assert right == 0.75 + 1.0 + 0.75 + 0 + 0 + 0.375
    assert labeled == 3.875
    assert Batch(torch.arange(6), torch.zeros(6, 1), TARGET).right(torch.zeros(6, dtype=torch.int64)) == (1, 4)


# Balanced class weights


def test_balanced_weights_are_scikit_learns() -> None:
    labels = torch.tensor([0] * 70 + [1] * 25 + [2] * 5 + [-1] * 40)
    known = labels[labels >= 0].numpy()
    objective = Objective([supervised(0.1, class_weights="balanced"), term("kl", 0.9)])
    found = objective.resolved(torch.bincount(labels[labels >= 0]), ("a", "b", "c"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=known)
    np.testing.assert_allclose(found.class_weights, expected)
    assert np.asarray(found.class_weights)[known].mean() == pytest.approx(1)
    assert found.to_recipe()["supervised"]["class_weights"] == pytest.approx(expected.tolist())
    assert found.to_recipe()["kl"] == objective.to_recipe()["kl"]


def test_the_controls_have_the_same_class_weights() -> None:
    found = Objective.from_recipe({"supervised": {"weight": 0.1, "class_weights": "balanced"}, "kl": 0.9})
    found = found.resolved(torch.tensor([3, 1]), ("a", "b"))
    weights = (2 / 3, 2.0)
    assert found.class_weights == pytest.approx(weights)
    assert found.without_teacher().class_weights == pytest.approx(weights)
    second = found.with_hard_labels()
    assert second.terms[0].settings["class_weights"] == pytest.approx(weights)
    z_s, z_t = draw(2, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    loss = second(Outputs(z_s), Outputs(z_t), target=torch.tensor([-1, -1]))[0]
    each = functional.cross_entropy(z_s, torch.tensor([1, 0]), reduction="none")
    assert loss.item() == pytest.approx(((each[0] * 2 + each[1] * 2 / 3) / 2).item())


def test_a_class_without_a_sample_has_no_balanced_weight() -> None:
    objective = Objective([supervised(class_weights="balanced")])
    with pytest.raises(DataError, match="class 'rare' has no labeled training sample"):
        objective.resolved(torch.tensor([2, 0, 1]), ("common", "rare", "other"))


def test_mistakes_in_class_weights() -> None:
    with pytest.raises(RecipeError, match="did you mean 'balanced'"):
        supervised(class_weights="balance")
    with pytest.raises(RecipeError, match=r"supervised\.class_weights has 2 numbers for 3 classes"):
        Objective([supervised(class_weights=[1, 2])]).resolved(torch.tensor([1, 1, 1]), ("a", "b", "c"))
    unseen: Term = supervised(class_weights="balanced")
    with pytest.raises(RecipeError, match="has not seen the labels"):
        Objective([unseen])(Outputs(draw(2, 3)), None, target=torch.tensor([0, 1]))
    assert Objective([unseen]).to_recipe()["supervised"]["class_weights"] == "balanced"
    plain = Objective([term("kl")])
    assert plain.class_weights is None
    assert plain.resolved(torch.tensor([1, 0]), ("a", "b")).to_recipe() == plain.to_recipe()
