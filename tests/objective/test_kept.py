"""Objectives of a teacher's largest logits, against numpy in float64; what can not be computed is refused by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.batch import Mixed
from limbeck.errors import ModelError, NumericsError, RecipeError
from limbeck.losses import TABLE, compares, kl
from limbeck.models import CifarResNet
from limbeck.objective import Objective, Scene, bind, check_kept, hard_labels, supervised, temperatures_read, term
from limbeck.outputs import Outputs
from limbeck.pairing import sites
from limbeck.teachers import ModuleTeacher

B, C, K = 6, 12, 3
Array = np.ndarray

# What each loss of the table reads of the teacher's logits: a new loss has to be placed here.
READS = dict.fromkeys(("kl", "reverse_kl", "jsd"), "groups") | {"hard_labels": "largest"}
READS |= dict.fromkeys(("cross_entropy", "dice", "dice_batch", "focal", "teacher_free"), "nothing")
READS |= dict.fromkeys(("bernoulli_kl", "dist", "dkd", "logit_mse", "nkd", "wsld", "cwd", "pixel_kl"), "all")
READS |= dict.fromkeys(
    ("attention_transfer", "cc", "crd", "fitnet", "ickd", "nst", "pairwise", "pkd", "pkt", "review", "rkd_angle",
     "rkd_distance", "simkd", "sp", "vid"), "nothing")  # fmt: skip
GROUPED = [name for name, what in READS.items() if what == "groups"]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(scale=3.0, size=shape)


Z_T, Z_S = draw(B, C), draw(B, C, seed=1)
TARGET = torch.tensor([3, -1, 0, 11, -1, 5])


def kept(z: Array = Z_T, count: int = K, temperatures: tuple[float, ...] = (1.0, 4.0), **more: Any) -> Outputs:
    """What is kept of a teacher's logits, by numpy."""
    ids = np.argsort(-z, axis=1, kind="stable")[:, :count]
    rest = {}
    for at in temperatures:
        sums = [log_sum(np.delete(row, chosen) / at) for row, chosen in zip(z, ids, strict=True)]
        rest[at] = torch.tensor(sums, dtype=torch.float64)
    return Outputs.kept(torch.tensor(ids), torch.tensor(np.take_along_axis(z, ids, 1)), rest, z.shape[1], **more)


def log_sum(z: Array) -> float:
    return float(z.max()) + math.log(math.fsum(math.exp(x - z.max()) for x in z))


def outcomes(z: Array, ids: Array, temperature: float) -> tuple[list[float], float]:
    """Log-probabilities of the kept classes, and of the remainder, from them alone."""
    z = z / temperature
    log_p = [float(z[c]) - log_sum(z) for c in ids]
    return log_p, math.log1p(-math.exp(log_sum(np.array(log_p))))


def sparse_kl(z_s: Array, z_t: Array, count: int, temperature: float) -> float:
    """``Σ_k p (log p - log q) + p_r (log p_r - log q_r)`` of one sample, times T²."""
    ids = np.argsort(-z_t, kind="stable")[:count]
    (p, p_r), (q, q_r) = (outcomes(z, ids, temperature) for z in (z_t, z_s))
    each = [math.exp(a) * (a - b) for a, b in zip([*p, p_r], [*q, q_r], strict=True)]
    return temperature**2 * math.fsum(each)


def value(objective: Objective, teacher: Outputs, z_s: Array = Z_S, **given: Any) -> tuple[float, Tensor]:
    own = torch.tensor(z_s, requires_grad=True)
    total, _ = objective(Outputs(own), teacher, **given)
    return total.item(), torch.autograd.grad(total, own)[0]


# The value and the gradient


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("count", [1, K, 10])
def test_kl_is_that_of_the_kept_classes_and_the_remainder(count: int, temperature: float) -> None:
    found, gradient = value(Objective([term("kl", 0.5, temperature=temperature)]), kept(count=count))
    rows = [sparse_kl(s, t, count, temperature) for s, t in zip(Z_S, Z_T, strict=True)]
    assert found == pytest.approx(0.5 * np.mean(rows), rel=1e-9)
    # In closed form: T (q - p) of a kept class, and of the others T (q_r - p_r) by their share in q_r.
    expected = np.zeros((B, C))
    for b in range(B):
        p, q = (np.exp(z[b] / temperature - log_sum(z[b] / temperature)) for z in (Z_T, Z_S))
        others = np.argsort(-Z_T[b])[count:]
        expected[b] = q - p
        expected[b, others] = q[others] / q[others].sum() * (q[others].sum() - p[others].sum())
    np.testing.assert_allclose(gradient, 0.5 * temperature * expected / B, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("place", [(0, 0), (2, 7), (5, 11)])
def test_the_gradient_is_the_numerical_one(place: tuple[int, int]) -> None:
    _, gradient = value(Objective([term("kl", 1.0, temperature=4.0)]), kept())
    ends = []
    for step in (1e-5, -1e-5):
        moved = Z_S.copy()
        moved[place] += step
        ends.append(np.mean([sparse_kl(s, t, K, 4.0) for s, t in zip(moved, Z_T, strict=True)]))
    assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("name", ["reverse_kl", "jsd"])
def test_other_divergences_are_those_of_the_outcomes(name: str) -> None:
    expected = []
    for s, t in zip(Z_S, Z_T, strict=True):
        ids = np.argsort(-t)[:K]
        p, q = (np.exp([*one, rest]) for one, rest in (outcomes(z, ids, 4.0) for z in (t, s)))
        m = (p + q) / 2
        both = [math.fsum(a * np.log(a / m)) for a in (p, q)]
        expected.append(16 * (math.fsum(q * np.log(q / p)) if name == "reverse_kl" else sum(both) / 2))
    assert value(Objective([term(name, 1.0)]), kept())[0] == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_one_class_of_rest_loses_nothing_and_more_never_add(name: str, temperature: float) -> None:
    objective = Objective([term(name, 1.0, temperature=temperature)])
    dense, gradient = value(objective, Outputs(torch.tensor(Z_T)))
    values = []
    for count in range(1, C):
        found, slope = value(objective, kept(count=count))
        values.append(found)
    assert values[-1] == pytest.approx(dense, rel=1e-9)
    torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-12)
    assert values == sorted(values)
    assert values[0] < 0.99 * dense


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_are_finite(name: str, size: float) -> None:
    z_t = np.full((2, C), -size)
    z_t[:, 4] = size
    z_s = size * np.sign(Z_S[:2])
    found, gradient = value(Objective([term(name, 1.0)]), kept(z_t), z_s)
    assert math.isfinite(found)
    assert torch.isfinite(gradient).all()


def test_without_the_square_the_value_is_that_of_dense_logits_too() -> None:
    with_, without = (value(Objective([term("kl", 1.0, square=one)]), kept())[0] for one in (True, False))
    assert with_ == pytest.approx(16 * without, rel=1e-12)


# Every loss of the table


def test_every_loss_of_the_table_has_its_place() -> None:
    assert set(READS) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_is_computed_from_what_is_kept_or_refused_by_name(name: str) -> None:
    one = term(name)
    assert one.reads == READS[name]
    objective = Objective([one])
    if one.place != "logits":
        with pytest.raises(RecipeError, match=f"term '{name}' reads the teacher's layer '{one.place}'"):
            check_kept(objective, C, K, [4.0])
        return
    if READS[name] != "all":
        check_kept(objective, C, K, [4.0])
        if one.compares.dense:
            return
        assert math.isfinite(value(objective, kept(), target=TARGET)[0])
        return
    said = f"term '{name}' needs the teacher's logits of all 12 classes, and the 3 largest of each sample are kept"
    with pytest.raises(RecipeError, match=said) as before:
        check_kept(objective, C, K, [4.0])
    assert before.value.cure == "keep all of them with top: 0, or use kl"
    with pytest.raises(RecipeError, match=said):
        value(objective, kept(), target=TARGET)
    for enough in (0, C, C + 1):
        check_kept(objective, C, enough)


@pytest.mark.parametrize("name", GROUPED)
def test_standardized_logits_need_all_of_them(name: str) -> None:
    objective = Objective([term(name, standardize=True)])
    with pytest.raises(RecipeError, match=f"term '{name}' with standardize: true needs .* all 12 classes") as error:
        check_kept(objective, C, K, [4.0])
    assert "use kl as it is" in str(error.value.cure)
    with pytest.raises(RecipeError, match="with standardize: true"):
        value(objective, kept())
    check_kept(objective, C)


def test_a_loss_of_ones_own_is_refused_unless_it_says_that_it_may_be_grouped() -> None:
    def mine(student: Tensor, teacher: Tensor) -> Tensor:
        return kl(student, teacher, temperature=1.0)

    with pytest.raises(RecipeError, match="term 'mine' needs the teacher's logits of all"):
        check_kept(Objective([term(mine)]), C, K, [1.0])
    said = compares(grouped=True)(mine)
    check_kept(Objective([term(said)]), C, K, [1.0])
    expected = np.mean([sparse_kl(s, t, K, 1.0) for s, t in zip(Z_S, Z_T, strict=True)])
    assert value(Objective([term(said)]), kept())[0] == pytest.approx(expected, rel=1e-9)


def test_a_label_may_be_one_of_the_rest() -> None:
    @compares(grouped=True)
    def mine(student: Tensor, teacher: Tensor, *, target: Tensor | None = None) -> Tensor:
        return kl(student, teacher)

    with pytest.raises(RecipeError, match="term 'mine' needs the teacher's logits of all"):
        check_kept(Objective([term(mine)]), C, K, [4.0])


def test_the_layers_of_a_term_may_be_given_for_a_loss_between_logits() -> None:
    """It then compares no logits at all, so that it does not matter which are kept."""
    one = term("dkd", at=("fc", "head"))
    assert one.reads == "nothing"
    check_kept(Objective([one]), C, K, [4.0], ["fc"])


# Temperatures


def test_a_temperature_that_is_not_kept_is_refused_before_training() -> None:
    objective = Objective([supervised(), term("kl", temperature=2), term("jsd", temperature=4)])
    assert temperatures_read(objective) == (2.0, 4.0)
    with pytest.raises(
        RecipeError, match=r"'kl' softens at temperature 2, .* is kept for temperature 1 and 4"
    ) as error:
        check_kept(objective, C, K, [4, 1])
    assert error.value.cure == "keep it with temperatures: [1, 2, 4], or use temperature 1 or 4"
    with pytest.raises(RecipeError, match="kept for no temperature"):
        check_kept(objective, C, K)
    check_kept(objective, C, K, [4, 2])
    check_kept(objective, C)
    with pytest.raises(ModelError, match="kept for temperature 1 and 4, and temperature 2 is asked for"):
        value(objective, kept(), target=TARGET)


def test_a_loss_without_a_temperature_softens_at_1() -> None:
    @compares(grouped=True)
    def mine(student: Tensor, teacher: Tensor) -> Tensor:
        return kl(student, teacher, temperature=1.0)

    assert temperatures_read(Objective([term(mine)])) == (1.0,)
    assert temperatures_read(Objective([term("kl"), hard_labels(), supervised(), term("teacher_free")])) == (4.0,)


# Layers


@pytest.mark.parametrize(
    ("at", "features", "missing"),
    [
        ("pool", ["pool"], None),
        ("pooled", ["pool"], None),
        ("pooled", [], "pooled"),
        (("pool", "gap"), ["pool"], None),
        (("gap", "pool"), ["pool"], "gap"),
        ([("pool", "a"), ("stem", "b")], ["pool"], "stem"),
        ("last_stage", ["pool"], "last_stage"),
    ],
)
@pytest.mark.parametrize("top", [0, K])
def test_layers_are_read_where_they_are_kept(at: Any, features: list[str], missing: str | None, top: int) -> None:
    objective = Objective([term("kl", 0.9), term("rkd_distance", at=at)])
    if missing is None:
        check_kept(objective, C, top, [4.0], features)
        return
    there = "features of pool" if features else "no features"
    with pytest.raises(RecipeError, match=f"'rkd_distance' reads the teacher's layer '{missing}', .* {there}") as error:
        check_kept(objective, C, top, [4.0], features)
    assert ("features: [" in str(error.value.cure)) == (missing not in ("pooled", "last_stage"))


def test_a_bound_objective_knows_its_layers() -> None:
    student, teacher = (nn.Sequential(nn.Linear(2, width), nn.Linear(width, 3)) for width in (4, 8))
    scene = Scene(student, lambda x: x, ModuleTeacher(teacher), torch.ones(2, 2), torch.zeros(2).long(), 3)
    bound = bind(Objective([term("fitnet", at="0")]), scene)
    check_kept(bound, 3, 0, (), {"0": 8})
    with pytest.raises(RecipeError, match="reads the teacher's layer '0'"):
        check_kept(bound, 3, 0, (), {"1": 3})


def test_a_site_is_the_layer_that_was_found_there() -> None:
    student, teacher = (CifarResNet((3, 16, 16), 3, depth=8, width=width) for width in (4, 8))
    scene = Scene(student, lambda x: x, ModuleTeacher(teacher), torch.rand(4, 3, 16, 16), torch.zeros(4).long(), 3)
    bound = bind(Objective([term("rkd_distance")]), scene)
    (layer,) = bound.layers("teacher")
    check_kept(bound, 3, 0, (), [layer])
    with pytest.raises(RecipeError, match=f"'rkd_distance' reads the teacher's layer '{layer}', .* features of other"):
        check_kept(bound, 3, 0, (), ["other"])


def test_kept_features_are_compared_beside_the_largest_logits() -> None:
    student, teacher = (nn.Sequential(nn.Linear(2, 5), nn.Linear(5, C)) for _ in range(2))
    x = torch.rand(B, 2)
    scene = Scene(student, lambda x: x, ModuleTeacher(teacher), x, torch.zeros(B).long(), C)
    bound = bind(Objective([term("kl", 1.0), term("rkd_distance", 1.0, at="0")]), scene)
    features = {"0": torch.tensor(draw(B, 5))}
    own = Outputs(torch.tensor(Z_S), {"0": torch.tensor(draw(B, 5, seed=2))})
    dense = bound(own, Outputs(torch.tensor(Z_T), features))[1]
    few = bound(own, kept(features=features))[1]
    assert few["rkd_distance"].item() == pytest.approx(dense["rkd_distance"].item(), rel=1e-12)
    rows = [sparse_kl(s, t, K, 4.0) for s, t in zip(Z_S, Z_T, strict=True)]
    assert few["kl"].item() == pytest.approx(np.mean(rows), rel=1e-9)


# All that an objective does with a teacher


@pytest.mark.parametrize("mixed", [None, Mixed(torch.tensor([1, 2, -1, -1, 4, 0]), torch.full((B,), 0.75))])
def test_the_controls_objective_is_that_of_all_logits(mixed: Mixed | None) -> None:
    objective = Objective([supervised(0.1), term("kl", 0.9)])
    hard = objective.with_hard_labels()
    check_kept(hard, C, K)
    check_kept(objective.without_teacher(), C, K)
    found, gradient = value(hard, kept(), target=TARGET, mixed=mixed)
    expected, slope = value(hard, Outputs(torch.tensor(Z_T)), target=TARGET, mixed=mixed)
    assert found == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, slope)


def part(outputs: Outputs, rows: slice) -> Outputs:
    assert outputs.top is not None
    top = outputs.top
    rest = {at: one[rows] for at, one in top.rest.items()}
    return Outputs.kept(top.ids[rows], top.logits[rows], rest, C)


@pytest.mark.parametrize("masked", [False, True])
def test_pieces_add_up_to_the_batch(masked: bool) -> None:
    objective = Objective([supervised(0.3), term("kl", 0.5), hard_labels(0.2)])
    mask = torch.tensor([True, True, False, True, True, False]) if masked else None
    mixed = Mixed(torch.tensor([1, 2, -1, -1, 4, 0]), torch.full((B,), 0.75))
    whole, gradient = value(objective, kept(), target=TARGET, mixed=mixed, mask=mask)
    counts = objective.counts(TARGET, mask, mixed)
    pieces = [
        value(objective, part(kept(), rows), Z_S[rows], target=TARGET[rows], mask=None if mask is None else mask[rows],
              mixed=Mixed(mixed.partner[rows], mixed.share[rows]), counts=counts)
        for rows in (slice(0, 2), slice(2, 3), slice(3, 6))
    ]  # fmt: skip
    assert sum(one for one, _ in pieces) == pytest.approx(whole, rel=1e-9)
    torch.testing.assert_close(torch.cat([slope for _, slope in pieces]), gradient)


@pytest.mark.parametrize("content", [1e4, math.nan, math.inf])
def test_what_is_masked_changes_nothing(content: float) -> None:
    mask = torch.tensor([True, True, False, True, True, True])
    z_s = Z_S.copy()
    _, slope = value(Objective([term("kl", 1.0)]), part(kept(), slice(0, 2)), z_s[:2])
    z_s[2] = content
    objective = Objective([term("kl", 1.0)])
    found, gradient = value(objective, kept(), z_s, mask=mask)
    rows = [sparse_kl(s, t, K, 4.0) for s, t, one in zip(Z_S, Z_T, mask, strict=True) if one]
    assert found == pytest.approx(np.mean(rows), rel=1e-9)
    assert gradient[2].abs().max() == 0
    torch.testing.assert_close(gradient[:2] * 5, slope * 2)


def test_samples_of_all_processes_are_joined_in_their_groups() -> None:
    seen = []

    @compares(grouped=True, relational=True)
    def mine(student: Tensor, teacher: Tensor) -> Tensor:
        seen.append((student.shape, teacher.shape))
        return kl(student, teacher, temperature=1.0).mean()

    class Twice:
        samples = 2 * B

        def __call__(self, one: Tensor) -> Tensor:
            return torch.cat([one, one.detach()])

    alone = Objective([term(mine)])(Outputs(torch.tensor(Z_S)), kept())[1]["mine"]
    joined = Objective([term(mine)])(Outputs(torch.tensor(Z_S)), kept(), gather=Twice())[1]["mine"]
    assert seen == [(torch.Size([B, K + 1]),) * 2, (torch.Size([2 * B, K + 1]),) * 2]
    assert joined.item() == pytest.approx(alone.item() / 2, rel=1e-12)  # this process's half of the value


@pytest.mark.parametrize("where", ["a logit", "the rest"])
def test_a_teachers_number_that_is_not_finite_is_named(where: str) -> None:
    teacher = kept()
    assert teacher.top is not None
    logits, rest = teacher.top.logits.clone(), {at: one.clone() for at, one in teacher.top.rest.items()}
    if where == "a logit":
        logits[4, 1] = math.nan
    else:
        rest[4.0][4] = math.nan  # of a temperature that the stand-in is not made of
    teacher = Outputs.kept(teacher.top.ids, logits, rest, C)
    with pytest.raises(NumericsError, match=r"term 'kl' is not finite for 1 of 6 samples \(samples: 14\)") as error:
        value(Objective([term("kl")]), teacher, index=torch.arange(10, 16))
    assert ("temperature 4 of the teacher" if where == "the rest" else "logits of the teacher") in str(error.value)
    assert "teacher's weights and normalization" in str(error.value.cure)


def test_a_students_number_that_is_not_finite_is_named() -> None:
    z_s = Z_S.copy()
    z_s[2, 5] = math.nan
    with pytest.raises(NumericsError, match=r"term 'kl' .*samples: 2\); the logits of the student are not finite"):
        value(Objective([term("kl")]), kept(), z_s, index=torch.arange(B))


def test_a_student_of_other_classes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"loss 'kl' .* the student gave \(6, 11\), the teacher \(6, 12\)"):
        value(Objective([term("kl")]), kept(), Z_S[:, :-1])


def test_weights_and_schedules_are_those_of_the_objective() -> None:
    objective = Objective([term("kl", 0.5), term("jsd", 0.0)])
    seen: dict[str, Tensor] = {}

    def look(means: dict[str, Tensor]) -> dict[str, float]:
        seen.update(means)
        return {"kl": 2.0, "jsd": 0.0}

    total, parts = objective(Outputs(torch.tensor(Z_S, requires_grad=True)), kept(), look=look)
    assert total.item() == pytest.approx(2 * parts["kl"].item(), rel=1e-12)
    assert seen["kl"].requires_grad
    assert parts["jsd"].item() > 0


def test_an_ensemble_with_all_logits_is_still_the_mean_of_its_members() -> None:
    members = torch.tensor(np.stack([Z_T, draw(B, C, seed=3)]))
    teacher = Outputs.ensemble(members, torch.tensor([0.5, 0.5]))
    p = sum(torch.softmax(one / 4, 1) for one in members) / 2
    log_q = torch.log_softmax(torch.tensor(Z_S) / 4, 1)
    expected = 16 * (p * (p.log() - log_q)).sum(1).mean().item()
    assert value(Objective([term("kl", 1.0)]), teacher)[0] == pytest.approx(expected, rel=1e-6)


# Stores as teachers


class Kept:
    """A store of a teacher's pooled features: it knows views, and of other inputs only what their outputs look like."""

    def __init__(self, features: dict[str, int], pooled: str | None = None) -> None:
        self.features, self.pooled = features, pooled

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        raise ModelError("a store says something of views with addresses")

    def like(self, inputs: Tensor) -> Outputs:
        features = {name: torch.ones(len(inputs), size) for name, size in self.features.items()}
        return kept(draw(len(inputs), C), features=features)

    def recall(self, batch: Any, inputs: Tensor) -> Outputs:
        return self.like(inputs)

    def flush(self) -> None: ...

    def reading(self, layers: Any) -> Kept:
        return self

    def placed(self, place: Any) -> Kept:
        return self


def stored(teacher: Kept) -> Scene:
    student = CifarResNet((3, 16, 16), C, depth=8, width=4)
    return Scene(student, lambda x: x, teacher, torch.rand(4, 3, 16, 16), torch.arange(8) % C, C)


@pytest.mark.parametrize("at", ["pooled", ("gap", "head:input")])
@pytest.mark.parametrize("loss", ["rkd_distance", "fitnet", "crd"])
def test_a_stores_pooled_features_are_compared_with_the_students(loss: str, at: Any) -> None:
    scene = stored(Kept({"gap": 10}, "gap"))
    own = sites(scene.student, scene.inputs).pooled
    assert own is not None
    at = at if isinstance(at, str) else (at[0], own.address)
    bound = bind(Objective([term("kl"), term(loss, at=at)]), scene)
    assert (bound.layers("teacher"), bound.layers("student")) == (("gap",), (own.address,))
    check_kept(bound, C, K, [4.0], {"gap": 10})


def test_a_stores_layers_are_not_guessed() -> None:
    with pytest.raises(ModelError, match="term 'rkd_distance' reads 'pooled', which is not found"):
        bind(Objective([term("rkd_distance")]), stored(Kept({"a": 10, "b": 10})))
    with pytest.raises(ModelError, match="layers of Kept can not be found by themselves"):
        bind(Objective([term("sp")]), stored(Kept({"gap": 10}, "gap")))


def test_maps_are_not_compared_with_the_mean_of_maps() -> None:
    scene = stored(Kept({"gap": 10}, "gap"))
    stage = sites(scene.student, scene.inputs).stages[-1].address
    for name in ("sp", "fitnet", "attention_transfer"):
        with pytest.raises(
            ModelError, match=rf"term '{name}' reads layer '{stage}' .* \(16, 4, 4\) .* 'gap' one vector"
        ):
            bind(Objective([term(name, at=("gap", stage))]), scene)
    assert bind(Objective([term("fitnet", at=("gap", stage), adapter="auto")]), scene).layers("teacher") == ("gap",)
