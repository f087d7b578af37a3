"""Outputs: reading what models return, the mixture of an ensemble, what is kept of many classes, by hand numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from limbeck.errors import ModelError
from limbeck.outputs import Outputs, Top

Z = torch.tensor([[1.0, 2.0]])


@pytest.mark.parametrize(
    "value",
    [
        Z,
        {"logits": Z, "loss": 0},
        {"out": Z, "aux": Z + 1},
        {"logits": Z, "out": Z + 1},
        SimpleNamespace(logits=Z),
        Outputs(Z),
    ],
)
def test_logits_are_found_in_what_models_return(value: object) -> None:
    assert Outputs.of(value).logits is Z


@pytest.mark.parametrize("value", [None, (Z, Z), {"aux": Z}, {"logits": [1.0], "out": Z}, SimpleNamespace(out=Z), 3.0])
def test_what_holds_no_logits_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(ModelError, match=f"{type(value).__name__}.*no logits"):
        Outputs.of(value)


def test_outputs_keep_their_features() -> None:
    outputs = Outputs(Z, features={"layer": Z})
    assert Outputs.of(outputs) is outputs
    assert Outputs(Z).features == {}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_one_model_has_the_same_logits_at_any_temperature(temperature: float) -> None:
    assert Outputs(Z).logits_at(temperature) is Z


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_is_the_mean_of_the_softened_probabilities(temperature: float) -> None:
    """Members (6, 0) and (0, 2) with weights 3/4 and 1/4."""
    members = torch.tensor([[[6.0, 0.0]], [[0.0, 2.0]]])
    both = Outputs.ensemble(members, torch.tensor([0.75, 0.25]))
    p = 0.75 / (1 + math.exp(-6 / temperature)) + 0.25 / (1 + math.exp(2 / temperature))
    found = torch.softmax(both.logits_at(temperature) / temperature, dim=1)
    torch.testing.assert_close(found, torch.tensor([[p, 1 - p]]))
    of_mean_logits = 1 / (1 + math.exp(-(0.75 * 6 - 0.25 * 2) / temperature))
    assert abs(p - of_mean_logits) > 0.01  # so that the two can be told apart


def test_an_ensembles_logits_are_those_at_temperature_1() -> None:
    members = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 0.25, 0.25])
    both = Outputs.ensemble(members, weights)
    expected = (weights[:, None, None] * members.softmax(dim=2)).sum(dim=0)
    torch.testing.assert_close(both.logits.softmax(dim=1), expected)
    torch.testing.assert_close(both.logits, both.logits_at(1.0))


def test_an_ensemble_of_one_is_its_member_up_to_a_constant() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 7.0):
        found = Outputs.ensemble(z[None], torch.ones(1)).logits_at(temperature)
        torch.testing.assert_close(found - found[:, :1], z - z[:, :1], rtol=1e-4, atol=1e-5)


def test_members_of_maps_mix_pixel_by_pixel() -> None:
    members = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    both = Outputs.ensemble(members, torch.tensor([0.5, 0.5])).logits_at(2.0)
    one = Outputs.ensemble(members[..., 1, 0], torch.tensor([0.5, 0.5])).logits_at(2.0)
    assert both.shape == (3, 4, 2, 2)
    torch.testing.assert_close(both[..., 1, 0], one)


def test_members_that_are_certain_mix_without_overflow() -> None:
    members = torch.tensor([[[400.0, -400.0]], [[-400.0, 400.0]]], dtype=torch.float16)
    found = Outputs.ensemble(members, torch.tensor([0.5, 0.5])).logits_at(1.0)
    torch.testing.assert_close(torch.softmax(found, dim=1), torch.tensor([[0.5, 0.5]]))


# The largest logits and the weight of the rest, against numpy in float64

C = 7


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3.0, size=shape)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def in_groups(p: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Probabilities of the classes ``ids``, then of all others, one row after the other."""
    rows = []
    for row, chosen in zip(p, ids, strict=True):
        rows.append([*row[chosen], math.fsum(one for c, one in enumerate(row) if c not in set(chosen.tolist()))])
    return np.array(rows)


def kept(z: np.ndarray, count: int, temperatures: tuple[float, ...]) -> Outputs:
    """What is kept of logits, by numpy."""
    ids = np.argsort(-z, axis=1, kind="stable")[:, :count]
    rest = {}
    for one in temperatures:
        sums = [
            math.fsum(math.exp(x / one) for x in np.delete(row, chosen)) for row, chosen in zip(z, ids, strict=True)
        ]
        rest[one] = torch.tensor(np.log(sums))
    return Outputs.kept(torch.tensor(ids), torch.tensor(np.take_along_axis(z, ids, 1)), rest, z.shape[1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("count", [1, 3, C - 1])
def test_groups_are_the_sums_of_the_softened_probabilities(count: int, temperature: float) -> None:
    z_t, z_s = draw(5, C), draw(5, C, seed=1)
    top = kept(z_t, count, (1.0, temperature)).top
    assert top is not None
    for found, z in ((top.grouped(temperature), z_t), (top.group(torch.tensor(z_s), temperature), z_s)):
        assert found.shape == (5, count + 1)
        expected = in_groups(softmax(z / temperature), top.ids.numpy())
        np.testing.assert_allclose(torch.softmax(found / temperature, dim=1), expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_the_gradient_of_a_group_is_each_class_share_of_it(temperature: float) -> None:
    """Of the rest's logit: the softmax among the classes of the rest; of a class's own: 1."""
    top, z = kept(draw(1, C), 3, (temperature,)).top, draw(1, C, seed=1)
    assert top is not None
    found = torch.autograd.functional.jacobian(lambda one: top.group(one, temperature)[0], torch.tensor(z))[
        :, 0
    ].numpy()
    ids = top.ids[0].tolist()
    expected = np.zeros((4, C))
    expected[range(3), ids] = 1.0
    others = [c for c in range(C) if c not in ids]
    expected[3, others] = softmax(z[:, others] / temperature)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_have_finite_groups_and_gradients(size: float, temperature: float) -> None:
    z = torch.full((2, C), -size)
    z[:, 1] = size
    z[1] = size
    ids = torch.tensor([[1, 0], [2, 3]])
    top = Top(ids, z.gather(1, ids), {temperature: z.scatter(1, ids, -math.inf).div(temperature).logsumexp(1)})
    own = z.flip(1).clone().requires_grad_()
    found = top.group(own, temperature)
    assert torch.isfinite(found).all()
    assert torch.isfinite(top.grouped(temperature)).all()
    (gradient,) = torch.autograd.grad(found.sum(), own)
    torch.testing.assert_close(gradient.sum(1), torch.tensor([3.0, 3.0]))


def test_a_rest_without_any_weight_is_a_finite_logit() -> None:
    top = Top(torch.tensor([[0]]), torch.tensor([[2.0]]), {4.0: torch.tensor([-math.inf])})
    p = torch.softmax(top.grouped(4.0) / 4, dim=1)
    assert torch.isfinite(top.grouped(4.0)).all()
    assert p.tolist() == [[1.0, 0.0]]


def test_half_precision_is_grouped_in_float32() -> None:
    top = kept(draw(5, C), 3, (1.0,)).top
    assert top is not None
    own = torch.tensor(draw(5, C, seed=1)).bfloat16()
    found = top.group(own, 1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, top.group(own.float(), 1.0))
    assert top.group(own.double(), 1.0).dtype == torch.float64


def test_a_temperature_that_was_not_kept_is_refused_with_those_that_were() -> None:
    top = kept(draw(2, C), 3, (4.0, 1.0)).top
    assert top is not None
    with pytest.raises(ModelError, match=r"kept for temperature 1 and 4, and temperature 2 is asked for") as error:
        top.grouped(2.0)
    assert error.value.cure == "keep it with temperatures: [1, 2, 4], or use temperature 1 or 4"
    with pytest.raises(ModelError, match="kept for no temperature, and temperature 4 "):
        Top(top.ids, top.logits, {}).grouped(4.0)


@pytest.mark.parametrize("temperatures", [(1.0,), (4.0, 1.0, 20.0), (2.0, 8.0)])
@pytest.mark.parametrize("count", [1, 3, C - 1])
def test_the_stand_in_has_the_kept_logits_and_the_rests_weight(count: int, temperatures: tuple[float, ...]) -> None:
    z = draw(6, C)
    outputs = kept(z, count, temperatures)
    assert outputs.top is not None
    ids, coldest = outputs.top.ids.numpy(), min(temperatures)
    np.testing.assert_array_equal(outputs.logits.gather(1, outputs.top.ids), np.take_along_axis(z, ids, 1))
    found = in_groups(softmax(outputs.logits.numpy() / coldest), ids)
    np.testing.assert_allclose(found, in_groups(softmax(z / coldest), ids), rtol=1e-12)
    np.testing.assert_array_equal(outputs.logits.argmax(1), z.argmax(1))


@pytest.mark.parametrize("count", [1, 3, C - 1])
@pytest.mark.parametrize("temperatures", [(), (4.0,)])
def test_the_largest_class_is_right_where_numbers_were_rounded_to_one(
    count: int, temperatures: tuple[float, ...]
) -> None:
    """Half precision keeps 10.001 and 10.002 as one number, and a rest that is larger than it was."""
    ids = torch.tensor([list(range(C))[::-1][:count], [3, 5, 0, 1, 2, 4][:count]])
    logits = torch.full((2, count), 10.0)
    rest = {one: torch.full((2,), 10.1 / one + math.log(C - count)) for one in temperatures}
    outputs = Outputs.kept(ids, logits, rest, C)
    assert outputs.logits.argmax(1).tolist() == [C - 1, 3]
    torch.testing.assert_close(outputs.logits, torch.full((2, C), 10.0), rtol=1e-6, atol=0)
    assert outputs.top is not None
    torch.testing.assert_close(outputs.top.logits, logits, rtol=0, atol=0)


def test_what_is_not_finite_is_seen_in_the_stand_in() -> None:
    ids, logits = torch.tensor([[1, 2], [1, 2]]), torch.tensor([[3.0, 2.0], [3.0, 2.0]])
    rest = torch.tensor([0.0, math.nan])
    assert (~torch.isfinite(Outputs.kept(ids, logits, {1.0: rest}, 5).logits)).any(1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("ids", "logits"), [((2, C), (2, C)), ((2, 0), (2, 0)), ((2, C + 1), (2, C + 1)), ((2, 3), (2, 2)), ((3,), (3,))]
)
def test_all_classes_are_not_the_largest_of_them(ids: tuple[int, ...], logits: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=f"of {C} classes are ids .* expected .* K of 1 to {C - 1}"):
        Outputs.kept(torch.zeros(ids, dtype=torch.int64), torch.zeros(logits), {1.0: torch.zeros(2)}, C)


def test_features_are_kept_beside_the_largest_logits() -> None:
    found = Outputs.kept(torch.tensor([[1]]), torch.tensor([[3.0]]), {}, 3, {"pool": Z})
    assert found.features["pool"] is Z
    assert Outputs(Z).top is None
