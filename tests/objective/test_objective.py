"""The objective: one reduction for all terms, exact over pieces of a batch, and mistakes answered when it is built."""

from __future__ import annotations

import doctest
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck.errors import ModelError, NumericsError, RecipeError
from limbeck.losses import TABLE, cross_entropy, kl
from limbeck.objective import Objective, Term, hard_labels, supervised, term
from limbeck.outputs import Outputs

MIXED = [supervised(0.3, label_smoothing=0.1), term("kl", 0.7, temperature=3.0)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(objective: Objective, weight: Tensor, x: Tensor, z_t: Tensor, **given: Any) -> Tensor:
    """Of a linear student's weights."""
    weight = weight.clone().requires_grad_()
    total, _ = objective(Outputs(torch.einsum("kc,b...k->bc...", weight, x)), Outputs(z_t), **given)
    (found,) = torch.autograd.grad(total, weight)
    return found


# The sum


def test_the_value_by_hand() -> None:
    """Three samples, one without a label; 0.1 · mean of two CE + 0.9 · mean of three T² KL, written out in numpy."""
    z_s, z_t, target = draw(3, 4), draw(3, 4, seed=1), torch.tensor([2, -1, 0])

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    hard = -(log_softmax(z_s.numpy())[[0, 2], [2, 0]]).mean()
    log_s, log_t = log_softmax(z_s.numpy() / 4), log_softmax(z_t.numpy() / 4)
    soft = 16 * (np.exp(log_t) * (log_t - log_s)).sum(axis=1).mean()
    objective = Objective([supervised(0.1), term("kl", 0.9, temperature=4.0)])
    total, terms = objective(Outputs(z_s.requires_grad_()), Outputs(z_t), target=target)
    assert total.requires_grad
    assert total.item() == pytest.approx(0.1 * hard + 0.9 * soft, rel=1e-12)
    assert terms["supervised"].item() == pytest.approx(hard, rel=1e-12)
    assert terms["kl"].item() == pytest.approx(soft, rel=1e-12)
    assert list(terms) == ["supervised", "kl"]
    assert not any(value.requires_grad for value in terms.values())


@pytest.mark.parametrize("times", [2, 256])
def test_the_batch_size_does_not_change_the_mixture(times: int) -> None:
    """A summed term beside an averaged one mixes 256 : 1 at a batch of 256."""
    x, z_t, weight, target = draw(4, 5), draw(4, 3, seed=1), draw(5, 3, seed=2), torch.tensor([0, 1, -1, 2])
    for objective in (Objective(MIXED), Objective(MIXED[:1]), Objective(MIXED[1:]), Objective([hard_labels(1.0)])):
        once = gradient(objective, weight, x, z_t, target=target)
        repeated = gradient(objective, weight, x.repeat(times, 1), z_t.repeat(times, 1), target=target.repeat(times))
        assert once.abs().max() > 1e-3
        torch.testing.assert_close(repeated, once, rtol=1e-10, atol=1e-12)


def test_map_size_does_not_change_the_mixture() -> None:
    x, z_t, weight = draw(2, 3, 3, 5), draw(2, 4, 3, 3, seed=1), draw(5, 4, seed=2)
    target = torch.randint(-1, 4, (2, 3, 3), generator=torch.Generator().manual_seed(3))
    once = gradient(Objective(MIXED), weight, x, z_t, target=target)
    larger = gradient(
        Objective(MIXED), weight, x.repeat(1, 2, 2, 1), z_t.repeat(1, 1, 2, 2), target=target.repeat(1, 2, 2)
    )
    torch.testing.assert_close(larger, once, rtol=1e-10, atol=1e-12)


def test_a_weight_is_a_factor_and_weight_0_is_only_reported() -> None:
    z_s, z_t, target = draw(4, 3).requires_grad_(), draw(4, 3, seed=1), torch.tensor([0, 1, 2, 0])

    def value(soft: float) -> tuple[Tensor, dict[str, Tensor]]:
        return Objective([supervised(1.0), term("kl", soft)])(Outputs(z_s), Outputs(z_t), target=target)

    (none, parts), (one, _), (three, _) = value(0.0), value(1.0), value(3.0)
    assert (three - none).item() == pytest.approx(3 * (one - none).item())
    assert parts["kl"].item() == pytest.approx((one - none).item())
    assert none.item() == pytest.approx(cross_entropy(z_s, target=target).mean().item())


def test_samples_without_any_label_give_zero_with_a_graph() -> None:
    z = draw(4, 3).requires_grad_()
    total, terms = Objective([supervised(1.0)])(Outputs(z), None, target=torch.full((4,), -1))
    assert total.item() == 0 == terms["supervised"].item()
    total.backward()
    assert torch.equal(z.grad, torch.zeros(4, 3, dtype=torch.float64))  # type: ignore[arg-type]


def test_the_objective_is_computed_in_float32_under_autocast() -> None:
    z_s, z_t, target = draw(16, 10).float(), draw(16, 10, seed=1).float(), torch.arange(16) % 10

    def product(student: Tensor, teacher: Tensor) -> Tensor:
        return (student @ teacher.T).diagonal()

    objective = Objective([*MIXED, term(product)])
    expected, _ = objective(Outputs(z_s), Outputs(z_t), target=target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (z_s @ z_t.T).dtype == torch.bfloat16
        found, _ = objective(Outputs(z_s), Outputs(z_t), target=target)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


# Pieces of a batch


def pairs(student: Tensor, teacher: Tensor) -> Tensor:
    """A relational loss: one value for a batch."""
    return (student @ student.T - teacher @ teacher.T).square().mean()


@pytest.mark.parametrize("cuts", [[4], [1, 2], [3, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_pieces_give_the_gradient_of_the_whole_batch(cuts: list[int], dense: bool, masked: bool) -> None:
    """Unlabeled samples are spread unevenly: the first three pieces of the finest cut have no label at all."""
    size = (12, 2, 3) if dense else (12,)
    x, z_t, weight = draw(*size, 5), draw(12, 4, *size[1:], seed=1), draw(5, 4, seed=2)
    target = torch.randint(0, 4, size, generator=torch.Generator().manual_seed(3))
    target[:3] = target[5] = target[9] = -1
    mask = torch.rand(size, generator=torch.Generator().manual_seed(4)) > 0.3 if masked else None
    objective = Objective([*MIXED, hard_labels(0.4)])
    whole = gradient(objective, weight, x, z_t, target=target, mask=mask)
    counts = objective.counts(target, mask)
    parts = torch.zeros_like(weight)
    values: dict[str, float] = dict.fromkeys(["supervised", "kl", "hard_labels"], 0.0)
    for start, end in zip([0, *cuts], [*cuts, 12], strict=True):
        given = {"target": target[start:end], "mask": None if mask is None else mask[start:end], "counts": counts}
        parts += gradient(objective, weight, x[start:end], z_t[start:end], **given)
        said = torch.einsum("kc,b...k->bc...", weight, x[start:end])
        for name, value in objective(Outputs(said), Outputs(z_t[start:end]), **given)[1].items():
            values[name] += value.item()
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(parts, whole, rtol=1e-11, atol=1e-13)
    said = torch.einsum("kc,b...k->bc...", weight, x)
    _, expected = objective(Outputs(said), Outputs(z_t), target=target, mask=mask)
    assert values == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-11)


def test_counts_of_batches_may_be_added() -> None:
    objective, a, b = Objective(MIXED), torch.tensor([0, -1, 2]), torch.tensor([-1, -1])
    added = {name: count + objective.counts(b)[name] for name, count in objective.counts(a).items()}
    assert {name: int(count) for name, count in added.items()} == {
        "samples": 5, "seen": 5, "told": 2, "elements": 5, "labeled": 2,
    }  # fmt: skip
    assert added == objective.counts(torch.cat([a, b]))


def test_a_scalar_loss_has_a_pieces_share_of_the_batch() -> None:
    z_s, z_t, target = draw(8, 3), draw(8, 3, seed=1), torch.tensor([0, 1, -1, -1, -1, -1, -1, -1])
    objective = Objective([term(pairs)])
    counts = objective.counts(target)
    found = [
        objective(Outputs(z_s[cut]), Outputs(z_t[cut]), target=target[cut], counts=counts)[0].item()
        for cut in (slice(0, 6), slice(6, 8))
    ]
    expected = [pairs(z_s[:6], z_t[:6]).item() * 6 / 8, pairs(z_s[6:], z_t[6:]).item() * 2 / 8]
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_mask_counts_for_every_term_whether_its_loss_knows_masks_or_not() -> None:
    z_s, z_t, target = draw(4, 3), draw(4, 3, seed=1), torch.tensor([0, 1, -1, 2])
    mask = torch.tensor([True, False, True, True])
    _, terms = Objective([supervised(), term("kl"), hard_labels()])(
        Outputs(z_s), Outputs(z_t), target=target, mask=mask
    )
    assert terms["kl"].item() == pytest.approx(kl(z_s, z_t)[[0, 2, 3]].mean().item())
    assert terms["supervised"].item() == pytest.approx(cross_entropy(z_s, target=target)[[0, 3]].mean().item())
    nothing, _ = Objective(MIXED)(
        Outputs(z_s.requires_grad_()), Outputs(z_t), target=target, mask=torch.zeros(4, dtype=torch.bool)
    )
    nothing.backward()
    assert nothing.item() == 0
    with pytest.raises(ModelError, match=r"'pairs'.*no mask"):
        Objective([term(pairs)])(Outputs(z_s), Outputs(z_t), target=target, mask=mask)


# What a loss declares


def test_a_loss_is_given_what_it_declares() -> None:
    seen: dict[str, Any] = {}

    def curious(student: Tensor, teacher: Tensor, *, target: Tensor, index: Tensor, factor: float) -> Tensor:
        seen.update(student=student, teacher=teacher, target=target, index=index, factor=factor)
        return student.sum(dim=1)

    z_s, z_t, target, index = draw(2, 3), draw(2, 3, seed=1), torch.tensor([0, -1]), torch.tensor([7, 9])
    one = term(curious, 0.5, factor=2)
    _, terms = Objective([one])(Outputs(z_s), Outputs(z_t), target=target, index=index)
    assert seen["student"] is z_s
    assert seen["teacher"] is z_t
    assert seen["target"] is target
    assert seen["index"] is index
    assert seen["factor"] == 2
    assert one.needs_teacher
    assert one.needs_label
    assert terms["curious"].item() == pytest.approx(z_s[0].sum().item())  # the sample with a label


@pytest.mark.parametrize(
    ("one", "teacher", "label"),
    [(supervised(), False, True), (term("kl"), True, False), (hard_labels(), True, False), (term(pairs), True, False)],
)
def test_what_a_term_needs_is_read_from_its_loss(one: Term, teacher: bool, label: bool) -> None:
    assert (one.needs_teacher, one.needs_label) == (teacher, label)
    assert Objective([one]).needs_teacher is teacher


def test_a_module_with_parameters_is_a_loss() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, student: Tensor, teacher: Tensor, *, power: int = 2) -> Tensor:
            return (student * self.scale - teacher).abs().pow(power).sum(dim=1)

    module, z_s, z_t = Scaled(), draw(2, 3), draw(2, 3, seed=1)
    total, terms = Objective([term(module, power=1)])(Outputs(z_s), Outputs(z_t), target=torch.tensor([-1, -1]))
    assert list(terms) == ["Scaled"]
    assert total.item() == pytest.approx((z_s - z_t).abs().sum(dim=1).mean().item())
    total.backward()
    assert module.scale.grad is not None


def test_a_partial_function_is_a_loss() -> None:
    one = term(functools.partial(kl, temperature=2.0), name="soft")
    z_s, z_t = draw(2, 3), draw(2, 3, seed=1)
    total, _ = Objective([one])(Outputs(z_s), Outputs(z_t), target=torch.tensor([0, 0]))
    assert total.item() == pytest.approx(kl(z_s, z_t, temperature=2.0).mean().item())
    assert one.settings["temperature"] == 2.0


@pytest.mark.parametrize("hyper", [{}, {"temperature": 7.0}])
def test_an_ensemble_is_heard_at_the_terms_temperature(hyper: dict[str, float]) -> None:
    members = draw(2, 1, 3).float() * 4
    both, z_s = Outputs.ensemble(members, torch.tensor([0.5, 0.5])), torch.zeros(1, 3)
    t = hyper.get("temperature", 4.0)
    p = torch.softmax(members / t, dim=2).mean(dim=0)
    expected = t**2 * (p * (p.log() - math.log(1 / 3))).sum()
    total, _ = Objective([term("kl", **hyper)])(Outputs(z_s), both, target=torch.tensor([0]))
    torch.testing.assert_close(total, expected)


def test_a_loss_without_one_value_for_each_sample_is_refused() -> None:
    z, target = Outputs(draw(4, 3)), torch.tensor([0, 1, 2, -1])
    with pytest.raises(ModelError, match=r"'summed'.*\(3,\) for 4 samples"):
        Objective([term(lambda student: student.sum(dim=0), name="summed")])(z, z, target=target)
    with pytest.raises(ModelError, match=r"'wide'.*\(4, 3\).*\(4,\)"):
        Objective([term(lambda student, target: student * 1.0, name="wide")])(z, z, target=target)


def test_a_missing_teacher_or_label_is_told() -> None:
    z = Outputs(draw(4, 3))
    with pytest.raises(RecipeError, match="'kl' needs a teacher"):
        Objective(MIXED)(z, None, target=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(RecipeError, match="'supervised' needs labels"):
        Objective(MIXED)(z, z)


# Mistakes, told when a term is built


@pytest.mark.parametrize(
    ("loss", "weight", "hyper", "told"),
    [
        ("klx", 1.0, {}, "no loss 'klx'; did you mean 'kl'"),
        ("kl", 1.0, {"temprature": 4}, "no hyperparameter 'temprature'; did you mean 'temperature'"),
        ("kl", 1.0, {"target": 4}, "no hyperparameter 'target'"),
        ("kl", -0.1, {}, "kl.weight is -0.1, expected a number of at least 0"),
        ("kl", math.nan, {}, "kl.weight is nan"),
        ("kl", math.inf, {}, "kl.weight is inf"),
        ("kl", "0.9", {}, "kl.weight is '0.9'"),
        ("kl", True, {}, "kl.weight is True"),
        ("kl", 1.0, {"temperature": 0}, "kl.temperature is 0, expected a number above 0"),
        ("kl", 1.0, {"temperature": -4}, "kl.temperature is -4"),
        ("kl", 1.0, {"temperature": "4"}, "kl.temperature is '4'"),
        ("kl", 1.0, {"temperature": math.inf}, "kl.temperature is inf"),
        ("kl", 1.0, {"square": "no"}, "kl.square is 'no', expected true or false"),
        ("kl", 1.0, {"axis": 1.5}, "kl.axis is 1.5, expected a whole number"),
        ("cross_entropy", 1.0, {"label_smoothing": 1.0}, "label_smoothing is 1.0, expected a number .*below 1"),
        ("cross_entropy", 1.0, {"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ("cross_entropy", 1.0, {"class_weights": 3}, "class_weights is 3, expected a list"),
        ("cross_entropy", 1.0, {"class_weights": [1, -1]}, r"class_weights\[1\] is -1"),
        ("cross_entropy", 1.0, {"class_weights": [0, 0]}, "only zeros"),
        (torch.nn.functional.mse_loss, 1.0, {}, "first parameter must be 'student'"),
        (lambda student, strength: student, 1.0, {}, "needs strength"),
    ],
)
def test_mistakes_in_a_term(loss: Any, weight: Any, hyper: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as error:
        term(loss, weight, **hyper)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([], "needs a term"),
        ([supervised(0.0), term("kl", 0.0)], "every term has weight 0"),
        ([term("kl", 0.5, temperature=1.0), term("kl", 0.5)], "two terms are called 'kl'"),
        ([kl], "list of terms, found function"),
    ],
)
def test_mistakes_in_an_objective(terms: list[Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Objective(terms)


# Not finite


def test_a_term_that_is_not_finite_is_named_with_its_samples() -> None:
    z_s, z_t, target = draw(6, 3), draw(6, 3, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    index = torch.tensor([11, 22, 33, 44, 55, 66])
    bad = z_t.clone()
    bad[1, 2], bad[4, 0] = math.nan, math.inf
    with pytest.raises(
        NumericsError, match=r"'kl' is not finite for 2 of 6 samples .*22, 55.*logits of the teacher"
    ) as e:
        Objective(MIXED)(Outputs(z_s), Outputs(bad), target=target, index=index)
    assert "student" not in e.value.what
    assert "teacher's weights" in str(e.value.cure)
    assert e.value.exit_code == 5
    bad = z_s.clone()
    bad[2] = math.nan
    with pytest.raises(NumericsError, match=r"'supervised' .* 1 of 6 samples .*\b33\b.*logits of the student"):
        Objective(MIXED)(Outputs(bad), Outputs(z_t), target=target, index=index)
    with pytest.raises(NumericsError, match=r"places in the batch: 2\)"):
        Objective(MIXED)(Outputs(bad), Outputs(z_t), target=target)


def test_a_loss_that_breaks_by_itself_is_named_apart_from_the_logits() -> None:
    z = draw(3, 4)
    z[1] = 0.0
    broken = term(lambda student: student.norm(dim=1).log(), name="log_norm")
    with pytest.raises(NumericsError, match=r"'log_norm'.*1 of 3 samples .*8\).*all logits are finite"):
        Objective([supervised(), broken])(
            Outputs(z), None, target=torch.tensor([0, 1, 2]), index=torch.tensor([7, 8, 9])
        )
    with pytest.raises(NumericsError, match="'whole' is nan; all logits are finite"):
        Objective([term(lambda student: student.sum() * math.nan, name="whole")])(
            Outputs(z), None, target=torch.tensor([0, 1, 2])
        )
    with pytest.raises(NumericsError, match="'huge' overflows in its sum"):
        Objective([term(lambda student: student.float().sum(1) * 0 + 3e38, name="huge")])(
            Outputs(z), None, target=torch.tensor([0, 1, 2])
        )
    with pytest.raises(NumericsError, match="sum of the terms overflows"):
        Objective([term(lambda student: student.float().sum(1) * 0 + 1e38, 100.0, name="heavy")])(
            Outputs(z), None, target=torch.tensor([0, 1, 2])
        )


def test_a_term_of_weight_0_can_not_spoil_a_step() -> None:
    z_s, z_t, target = draw(3, 4).requires_grad_(), torch.full((3, 4), math.nan), torch.tensor([0, 1, 2])
    total, terms = Objective([supervised(), term("kl", 0.0)])(Outputs(z_s), Outputs(z_t), target=target)
    total.backward()
    assert torch.isfinite(total)
    assert bool(torch.isfinite(z_s.grad).all())  # type: ignore[arg-type]
    assert torch.isnan(terms["kl"])


def test_extreme_logits_are_fine() -> None:
    z_s, z_t = torch.tensor([[200.0, -200.0]], requires_grad=True), torch.tensor([[-200.0, 200.0]])
    total, _ = Objective(MIXED)(Outputs(z_s), Outputs(z_t), target=torch.tensor([1]))
    total.backward()
    assert bool(torch.isfinite(z_s.grad).all())  # type: ignore[arg-type]


# Controls


def test_the_control_has_no_teacher_and_weight_1_on_the_labels() -> None:
    control = Objective([supervised(0.1, label_smoothing=0.2, class_weights=[1, 2, 3]), term("kl")]).without_teacher()
    assert not control.needs_teacher
    assert control.to_recipe() == Objective([supervised(1.0, label_smoothing=0.2, class_weights=[1, 2, 3])]).to_recipe()


def test_the_control_of_an_objective_without_labels_learns_from_labels() -> None:
    for terms in ([term("kl")], [term("kl"), supervised(0.0)]):
        assert Objective(terms).without_teacher().to_recipe() == Objective([supervised(1.0)]).to_recipe()


def test_a_term_of_weight_0_is_computed_without_a_graph() -> None:
    graphs = []

    def watching(student: Tensor) -> Tensor:
        graphs.append(torch.is_grad_enabled())
        return student.sum(dim=1)

    z = Outputs(draw(3, 4).requires_grad_())
    for weight in (0.0, 0.5):
        Objective([supervised(), term(watching, weight)])(z, None, target=torch.tensor([0, 1, 2]))
    assert graphs == [False, True]


def test_the_control_keeps_what_has_no_teacher() -> None:
    def entropy(student: Tensor) -> Tensor:
        return torch.special.entr(student.softmax(dim=1)).sum(dim=1)

    def focal(student: Tensor, *, target: Tensor) -> Tensor:
        return cross_entropy(student, target=target).square()

    control = Objective([supervised(0.1), term(focal, 0.3), term(entropy, 0.01), term("kl")]).without_teacher()
    weights = {one.name: one.weight for one in control.terms}
    assert weights == pytest.approx({"supervised": 0.25, "focal": 0.75, "entropy": 0.01})
    unlabeled = Objective([term("kl"), term(entropy, 0.01)]).without_teacher()
    assert {one.name: one.weight for one in unlabeled.terms} == {"supervised": 1.0, "entropy": 0.01}


def test_the_second_control_learns_from_hard_labels() -> None:
    objective = Objective([supervised(0.1, label_smoothing=0.2), term("kl")]).with_hard_labels()
    z_s, z_t, target = draw(4, 3), draw(4, 3, seed=1), torch.tensor([1, -1, -1, 0])
    total, _ = objective(Outputs(z_s), Outputs(z_t), target=target)
    told = torch.tensor([1, z_t[1].argmax(), z_t[2].argmax(), 0])
    assert total.item() == pytest.approx(
        torch.nn.functional.cross_entropy(z_s, told, label_smoothing=0.2).item(), rel=1e-12
    )
    assert objective.needs_teacher


# Recipes


def test_a_recipe_is_read() -> None:
    objective = Objective.from_recipe({"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4}})
    assert objective.to_recipe() == Objective([supervised(0.1), term("kl", 0.9, temperature=4.0)]).to_recipe()
    assert objective.to_recipe() == Objective.of(None).to_recipe()
    assert Objective.of(objective) is objective
    assert Objective.of([supervised()]).to_recipe() == Objective.of({"supervised": 1}).to_recipe()
    assert Objective.of(supervised()).to_recipe() == Objective.of({"supervised": {}}).to_recipe()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"supervized": 1}, "no term 'supervized'; did you mean 'supervised'"),
        ({"kl": {"temprature": 2}}, "did you mean 'temperature'"),
        ({"kl": {"name": "x"}}, "no hyperparameter 'name'"),
        ({"kl": {3: 4}}, "no hyperparameter '3'"),
        ({"kl": None}, "kl.weight is None"),
        ({"kl": "much"}, "kl.weight is 'much'"),
        ({"soft": {"loss": "klx"}}, "no loss 'klx'; did you mean 'kl'"),
        ({}, "needs a term"),
    ],
)
def test_mistakes_in_a_recipe(recipe: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Objective.from_recipe(recipe)


ROUND = [
    {"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4}},
    {"supervised": {"weight": 1, "label_smoothing": 0.1, "class_weights": [0.5, 1.5]}},
    {"low": {"loss": "kl", "temperature": 2}, "high": {"loss": "kl", "weight": 0.5, "temperature": 8, "square": False}},
    dict.fromkeys(TABLE, 0.5),
    {"supervised": 0.5, "cross_entropy": 0.5},
]


@pytest.mark.parametrize("recipe", ROUND)
def test_a_recipe_survives_the_way_round_through_json(recipe: dict[str, Any]) -> None:
    first = Objective.from_recipe(recipe)
    written = first.to_recipe()
    second = Objective.from_recipe(json.loads(json.dumps(written)))
    assert second.to_recipe() == written
    for one, other in zip(first.terms, second.terms, strict=True):
        assert (one.name, one.loss, one.weight, one.settings) == (other.name, other.loss, other.weight, other.settings)
        assert (one.at, one.adapter, one.schedule) == (other.at, other.adapter, other.schedule)
    if first.waits:  # for models
        return
    z_s, z_t, target = draw(4, 2), draw(4, 2, seed=1), torch.tensor([0, 1, 1, -1])
    values = [one(Outputs(z_s), Outputs(z_t), target=target)[0].item() for one in (first, second)]
    assert values[0] == values[1]


def test_what_is_written_does_not_depend_on_how_it_was_given() -> None:
    """It is part of the key under which a training is found again."""
    given = [[1, 2], (1.0, 2.0), torch.tensor([1.0, 2.0]), np.array([1, 2])]
    written = [json.dumps(Objective([supervised(1, class_weights=one)]).to_recipe()) for one in given]  # type: ignore[arg-type]
    assert len(set(written)) == 1
    weights = [json.dumps(Objective([term("kl", 1, temperature=one)]).to_recipe()) for one in (4, 4.0, np.float32(4))]
    assert len(set(weights)) == 1


def test_a_loss_of_ones_own_is_written_by_name_and_not_read_from_a_recipe() -> None:
    written = Objective([term(pairs, 2.0), term(pairs, name="again")]).to_recipe()
    assert written["pairs"]["loss"].endswith("pairs")
    assert json.loads(json.dumps(written)) == written
    with pytest.raises(RecipeError, match="no loss"):
        Objective.from_recipe(written)


# The three conventions


def test_conventions_of_mixing() -> None:
    z_s, z_t, target = draw(8, 5), draw(8, 5, seed=1), torch.arange(8) % 5
    hard = torch.nn.functional.cross_entropy(z_s, target)
    log_s, p_t = torch.log_softmax(z_s / 3, dim=1), torch.softmax(z_t / 3, dim=1)
    soft = torch.nn.functional.kl_div(log_s, p_t, reduction="batchmean")
    for square, factor in ((True, 9.0), (False, 1.0)):
        expected = {
            "hard": 0.2 * hard + 0.8 * factor * soft,
            "soft": 0.8 * hard + 0.2 * factor * soft,
            "lambda": hard + 0.2 * factor * soft,
        }
        made = {
            "hard": Objective.from_alpha_on_hard(0.2, 3.0, square=square),
            "soft": Objective.from_alpha_on_soft(0.2, 3.0, square=square),
            "lambda": Objective.from_lambda(0.2, 3.0, square=square),
        }
        for name, objective in made.items():
            found, _ = objective(Outputs(z_s), Outputs(z_t), target=target)
            assert found.item() == pytest.approx(expected[name].item(), rel=1e-10), name
    for convert in (Objective.from_alpha_on_hard, Objective.from_alpha_on_soft):
        with pytest.raises(RecipeError, match=r"alpha is 1\.2"):
            convert(1.2, 4.0)


PAGE = Path(limbeck.__file__).parents[2] / "docs" / "mixing.md"


@pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
def test_the_page_about_mixing_is_true() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 10
    assert result.failed == 0
