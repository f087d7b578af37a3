"""CRD against a second implementation in numpy, its negatives, and its memory over steps."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses import CRD, TABLE, declared
from limbeck.losses.contrastive.negatives import Negatives

Array = NDArray[np.float64]
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, -1])


def made(**more: Any) -> CRD:
    torch.manual_seed(4)
    given: dict[str, Any] = {"samples": 10, "targets": TARGETS, "dim": 3, "negatives": 5, "temperature": 0.5} | more
    return CRD((4,), (6,), **given).double()


def batch(index: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(len(index), width, generator=generator, dtype=torch.float64) for width in (4, 6))
    return {"student": student, "teacher": teacher, "index": torch.tensor(index)}


def embedded(layer: nn.Linear, feature: Tensor) -> Array:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.array([(row := weight @ one + bias) / math.sqrt((row**2).sum()) for one in feature.numpy()])


def by_hand(crd: CRD, given: dict[str, Tensor], z: Array | None = None) -> tuple[Array, Array]:
    """The loss of each sample, and the two Z, in loops; the negatives are taken from the module."""
    student, teacher, index = given["student"], given["teacher"], given["index"]
    drawn, samples = crd.negatives(index, crd.step).tolist(), len(crd.memory_student)
    pairs = [
        (embedded(crd.embed_student, student), crd.memory_teacher.numpy()),
        (embedded(crd.embed_teacher, teacher), crd.memory_student.numpy()),
    ]
    loss, found = np.zeros(len(index)), np.zeros(2)
    for way, (anchors, memory) in enumerate(pairs):
        exponentials = np.array(
            [
                [math.exp(float(v @ memory[row]) / crd.temperature) for row in [int(i), *rows]]
                for v, i, rows in zip(anchors, index, drawn, strict=True)
            ]
        )
        found[way] = exponentials.mean() * samples if z is None else z[way]
        g, noise = exponentials / found[way], len(drawn[0]) / samples
        for b, row in enumerate(g):
            loss[b] -= math.log(row[0] / (row[0] + noise)) + sum(math.log(noise / (one + noise)) for one in row[1:])
    return loss, found


def test_against_numpy_over_steps() -> None:
    """Z is that of the first batch afterwards; the memories are those after the step."""
    crd = made()
    first, second = batch([0, 4, 9], 1), batch([4, 2, 3, 8], 2)
    expected, z = by_hand(crd, first)
    np.testing.assert_allclose(crd(**first).detach(), expected, rtol=1e-12)
    before, v = crd.memory_student.clone().numpy(), embedded(crd.embed_student, first["student"])
    crd.after_step()
    np.testing.assert_allclose(crd.log_normalizer.exp(), z, rtol=1e-12)
    for number, row in enumerate(first["index"].tolist()):
        mixed = 0.5 * before[row] + 0.5 * v[number]
        before[row] = mixed / math.sqrt((mixed**2).sum())
    np.testing.assert_allclose(crd.memory_student, before, rtol=1e-12)
    expected, _ = by_hand(crd, second, z)
    np.testing.assert_allclose(crd(**second).detach(), expected, rtol=1e-12)
    crd.after_step()
    np.testing.assert_allclose(crd.log_normalizer.exp(), z, rtol=1e-12)


def test_both_ways_of_scoring_agree() -> None:
    crd, given = made(negatives=2, dim=3), batch([1, 2, 3])
    drawn = torch.tensor([[1, 0, 3], [2, 5, 5], [3, 9, 4]])
    anchors = nn.functional.normalize(given["student"][:, :3])
    whole = crd._scores(anchors, crd.memory_teacher[:9].clone(), drawn.clamp(max=8))  # 9 rows, 3 · 3
    alone = crd._scores(anchors, crd.memory_teacher, drawn)  # 10 rows
    for found, memory, rows in (
        (whole, crd.memory_teacher[:9], drawn.clamp(max=8)),
        (alone, crd.memory_teacher, drawn),
    ):
        for b, k in np.ndindex(3, 3):
            assert found[b, k].item() == pytest.approx(float(anchors[b] @ memory[rows[b, k]]) / 0.5)


def test_negatives_are_of_other_classes_and_each_drawn_equally_often() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([3, 0, 3, 1, 1, 0, 3, 2, -1, -1])
    negatives = Negatives(targets, 4)
    counts = torch.zeros(10, 10)
    for step in range(1500):
        drawn = negatives(torch.arange(10), torch.tensor(step))
        counts.scatter_add_(1, drawn, torch.ones(10, 4))
    for sample in range(10):
        own = [j for j in range(10) if j == sample or (targets[j] == targets[sample] and targets[j] >= 0)]
        assert counts[sample, own].sum() == 0
        others = [j for j in range(10) if j not in own]
        expected = 1500 * 4 / len(others)
        np.testing.assert_allclose(counts[sample, others], expected, atol=5 * math.sqrt(expected))


def test_each_negative_once_where_there_are_no_more() -> None:
    negatives = Negatives(torch.arange(12) % 3, 16384)
    assert negatives.count == 8
    drawn = negatives(torch.arange(12), torch.tensor(5))
    for sample, row in enumerate(drawn.tolist()):
        assert sorted(row) == [j for j in range(12) if j % 3 != sample % 3]
    few = Negatives(torch.arange(3000) % 2, 700)(torch.arange(4), torch.tensor(0))
    assert all(len(set(row)) > 650 for row in few.tolist())  # a neighbor's part may share a row, no more


def test_the_largest_class_limits_the_negatives() -> None:
    assert Negatives(torch.tensor([0] * 7 + [1, 2, 2]), 99).count == 3
    assert Negatives(torch.full((10,), -1), 99).count == 9
    with pytest.raises(DataError, match="all 4 training samples have one"):
        Negatives(torch.zeros(4, dtype=torch.int64), 2)
    with pytest.raises(DataError, match="all 1 training"):
        Negatives(torch.tensor([-1]), 2)


def test_negatives_depend_on_the_seed_the_step_and_the_sample_alone() -> None:
    torch.manual_seed(0)
    one, other = (Negatives(torch.arange(1000) % 10, 64) for _ in range(2))
    index, step = torch.tensor([5, 700, 5]), torch.tensor(3)
    drawn = one(index, step)
    assert torch.equal(one(index[[1]], step), drawn[[1]])  # in whichever batch
    assert torch.equal(drawn[0], drawn[2])
    for different in (one(index, step + 1), other(index, step)):
        assert int((different == drawn).sum()) < drawn.numel() / 10
    assert int((drawn[0] == drawn[1]).sum()) < 10


def test_a_large_training_set_stays_within_int64() -> None:
    negatives = Negatives(torch.arange(3_000_000) % 1000, 65536)
    drawn = negatives(torch.tensor([0, 2_999_999]), torch.tensor(1))
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 3_000_000
    assert abs(float(drawn.double().mean()) / 1.5e6 - 1) < 0.01


def test_nothing_is_remembered_before_the_step_is_taken() -> None:
    crd = made()
    before = copy.deepcopy(crd.state_dict())
    for _ in range(3):
        crd(**batch([0, 4, 9]))
    after = crd.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    crd.after_step()
    changed = (crd.memory_teacher != before["memory_teacher"]).any(1).nonzero().flatten()
    assert changed.tolist() == [0, 4, 9]
    assert int(crd.step) == 1


def test_evaluation_is_not_remembered() -> None:
    crd = made()
    before = crd.memory_student.clone()
    crd.eval()(**batch([0, 1]))
    with torch.no_grad():
        crd.train()(**batch([0, 1]))
    crd.after_step()
    assert torch.equal(crd.memory_student, before)
    assert not crd.fixed


def test_steps_that_were_never_taken_do_not_pile_up() -> None:
    crd = made()
    for _ in range(50):
        crd(**batch([0, 1, 2, 3]))
    assert len(crd.rows()[0]) <= 13


def test_a_batch_in_pieces_is_remembered_whole() -> None:
    crd, given = made(), batch([0, 4, 9, 2], 3)
    crd(**batch([1, 5], 7))
    crd.after_step()
    pieces = copy.deepcopy(crd)
    crd(**given)
    for part in (slice(0, 2), slice(2, 4)):
        pieces(**{name: one[part] for name, one in given.items()})
    crd.after_step()
    pieces.after_step()
    for name, one in crd.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], one, rtol=1e-12, atol=1e-15)


def test_several_processes_remember_what_one_would() -> None:
    crd, given = made(), batch([0, 4, 9, 2], 3)
    processes = [copy.deepcopy(crd), copy.deepcopy(crd)]
    crd(**given)
    crd.after_step()
    for one, part in zip(processes, (slice(0, 3), slice(3, 4)), strict=True):
        one(**{name: value[part] for name, value in given.items()})
    joined = iter([torch.cat(parts) for parts in zip(*(one.rows() for one in processes), strict=True)] * 2)
    for one in processes:
        one.after_step(gather=lambda _: next(joined))
        for name, value in crd.state_dict().items():
            torch.testing.assert_close(one.state_dict()[name], value, rtol=1e-12, atol=1e-15)


def test_a_sample_drawn_twice_is_remembered_as_the_mean() -> None:
    crd, given = made(), batch([3, 3])
    before, v = crd.memory_student[3].numpy().copy(), embedded(crd.embed_student, given["student"])
    crd(**given)
    crd.after_step()
    mean = v.sum(0) / np.linalg.norm(v.sum(0))
    mixed = before + mean
    np.testing.assert_allclose(crd.memory_student[3], mixed / np.linalg.norm(mixed), rtol=1e-12)


def test_a_row_that_is_not_finite_is_not_remembered() -> None:
    crd, given = made(), batch([0, 1, 2])
    before = crd.memory_student.clone()
    given["student"][1] = torch.nan
    crd(**given)
    crd.after_step()
    assert bool(torch.isfinite(crd.memory_student).all())
    assert bool(torch.isfinite(crd.log_normalizer).all())
    assert torch.equal(crd.memory_student[1], before[1])
    assert not torch.equal(crd.memory_student[2], before[2])


def test_it_continues_from_a_checkpoint_as_if_it_had_not_stopped() -> None:
    def train(crd: CRD, steps: range) -> list[Tensor]:
        optimizer, found = torch.optim.SGD(crd.parameters(), 0.1), []
        for step in steps:
            value = crd(**batch([step % 10, (step + 3) % 10], step))
            optimizer.zero_grad()
            value.mean().backward()
            optimizer.step()
            crd.after_step()
            found.append(value.detach())
        return found

    whole = made()
    expected = train(whole, range(6))
    begun = made()
    train(begun, range(3))
    saved = copy.deepcopy(begun.state_dict())
    torch.manual_seed(99)
    again = CRD((4,), (6,), samples=10, targets=TARGETS, dim=3, negatives=5, temperature=0.5).double()
    again.load_state_dict(saved)
    for found, value in zip(train(again, range(3, 6)), expected[3:], strict=True):
        assert torch.equal(found, value)
    assert all(torch.equal(again.state_dict()[name], one) for name, one in whole.state_dict().items())


def test_both_embeddings_learn_and_the_teacher_does_not() -> None:
    crd, given = made(), batch([0, 4, 9])
    given["student"].requires_grad_()
    given["teacher"].requires_grad_()
    crd(**given).sum().backward()
    assert given["teacher"].grad is None
    assert given["student"].grad is not None
    assert bool((given["student"].grad.abs().sum(1) > 1e-6).all())
    for name, parameter in crd.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 1e-6, name


def test_the_gradient_is_the_finite_difference() -> None:
    crd, given = made(), batch([0, 4])
    crd(**batch([1, 2]))
    crd.after_step()  # Z is a constant from here on
    student = given.pop("student").requires_grad_()
    crd.eval()
    assert torch.autograd.gradcheck(lambda x: crd(x, **given), (student,))


def test_masked_samples_count_nowhere() -> None:
    crd, given = made(), batch([0, 4, -1, 2])
    mask = torch.tensor([True, True, False, True])
    given["student"][2] = torch.nan
    expected = copy.deepcopy(crd)(**{name: one[mask] for name, one in given.items()})
    given["student"].requires_grad_()
    found = crd(**given, mask=mask)
    torch.testing.assert_close(found[mask], expected)
    assert found[2].item() == 0
    found.sum().backward()
    assert given["student"].grad is not None
    assert bool((given["student"].grad[2] == 0).all())
    crd.after_step()
    assert bool(torch.isfinite(crd.memory_student).all())


def test_all_masked_is_zero_with_a_graph_and_leaves_z_open() -> None:
    crd, given = made(), batch([0, 1])
    given["student"].requires_grad_()
    value = crd(**given, mask=torch.zeros(2, dtype=torch.bool))
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert given["student"].grad is not None
    crd.after_step()
    assert not crd.fixed
    assert bool(torch.isfinite(crd(**given)).all())


@pytest.mark.parametrize("scale", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_features_are_finite_in_float32(scale: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    crd = CRD((4,), (6,), samples=10, targets=TARGETS)
    student = (scale * torch.ones(2, 4, dtype=dtype)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = crd(student, scale * torch.ones(2, 6, dtype=dtype), index=torch.tensor([0, 1]))
    value.sum().backward()
    assert value.dtype == torch.float32
    assert bool(torch.isfinite(value).all())
    assert all(bool(torch.isfinite(one.grad).all()) for one in (student, *crd.parameters()) if one.grad is not None)


def test_autocast_changes_nothing() -> None:
    torch.manual_seed(0)
    crd = CRD((4,), (6,), samples=10, targets=TARGETS, dim=3)
    given = {name: one.float() if one.is_floating_point() else one for name, one in batch([0, 4, 9]).items()}
    expected = crd(**given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crd(**given), expected)


def test_maps_and_tokens_are_averaged_over_their_positions() -> None:
    given = batch([0, 4])
    expected = made()(**given)
    maps = torch.stack([given["student"] - 1, given["student"] + 1], dim=2).unsqueeze(3)
    tokens = torch.stack([given["teacher"] - 2, given["teacher"] + 2], dim=1)
    torch.manual_seed(4)
    crd = CRD((4, 2, 1), (2, 6), samples=10, targets=TARGETS, dim=3, negatives=5, temperature=0.5).double()
    torch.testing.assert_close(crd(maps, tokens, index=given["index"]), expected)


@pytest.mark.parametrize("wrong", [-1, 10])
def test_a_sample_without_a_number_is_named(wrong: int) -> None:
    with pytest.raises(DataError, match=rf"10 training samples by number, 0 to 9; this batch has \[{wrong}\]"):
        made()(**batch([0, wrong]))


def test_what_does_not_fit_is_refused() -> None:
    given = batch([0, 4])
    with pytest.raises(ModelError, match="made for a feature of 4; it was given 6"):
        made()(given["teacher"], given["teacher"], index=given["index"])
    with pytest.raises(ModelError, match="same samples"):
        made()(given["student"][:1], given["teacher"], index=given["index"])
    with pytest.raises(ModelError, match="one index for each"):
        made()(given["student"], given["teacher"], index=given["index"][:1])
    with pytest.raises(DataError, match="10 labels of 9 training samples"):
        made(samples=9)
    for name, value in {"dim": 0, "negatives": 0, "momentum": 1.0, "temperature": 0.0}.items():
        with pytest.raises(RecipeError, match=rf"crd\.{name} is {value}"):
            made(**{name: value})


def test_it_is_in_the_table_and_says_what_it_compares() -> None:
    assert TABLE["crd"] is CRD
    said = declared(CRD)
    assert (said.site, said.same, said.weight, said.equal, said.relational) == ("pooled", False, 0.8, None, False)


def test_training_with_it_brings_the_right_pairs_together() -> None:
    """The embedding of a student's vector is nearer to its own teacher's row than to those of other classes."""
    torch.manual_seed(1)
    student = torch.randn(30, 8)
    teacher = student @ torch.randn(8, 12)
    crd = CRD((8,), (12,), samples=30, targets=torch.arange(30) % 3, dim=8)
    optimizer = torch.optim.Adam(crd.parameters(), 0.02)
    for _ in range(100):
        loss = crd(student, teacher, index=torch.arange(30)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        crd.after_step()
    assert not torch.equal(crd.memory_student, crd.memory_teacher)
    own = torch.eye(30, dtype=torch.bool)
    same = (torch.arange(30) % 3)[:, None] == torch.arange(30) % 3
    alike = (crd.memory_student @ crd.memory_teacher.mT).masked_fill(same & ~own, -2)  # no class tells its own apart
    assert alike.argmax(1).tolist() == list(range(30))
