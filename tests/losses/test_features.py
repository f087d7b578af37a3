"""Losses between features against a second implementation in numpy, their properties, the faults of popular code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.errors import ModelError
from limbeck.losses import TABLE, Compares, declared
from limbeck.losses.features import attention_transfer, fitnet, ickd, nst, pkd

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (attention_transfer, fitnet, ickd, nst, pkd)}
PER_SAMPLE = [name for name in LOSSES if name != "pkd"]
each = pytest.mark.parametrize("name", LOSSES)
each_per_sample = pytest.mark.parametrize("name", PER_SAMPLE)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(samples: int = 3, channels: int = 4, size: int = 3) -> tuple[Tensor, Tensor]:
    return drawn(samples, channels, size, size), drawn(samples, channels, size, size, seed=1)


# ---- the second implementation: float64, sample by sample, channel by channel


def channel_rows(feature: np.ndarray) -> np.ndarray:
    """Channels of one sample as rows: a map [C, H, W], or tokens [N, D]."""
    return feature.T if feature.ndim == 2 else feature.reshape(len(feature), -1)


def averaged(feature: np.ndarray, size: int) -> np.ndarray:
    """A map [C, H, H] by windows to [C, size, size]."""
    factor = feature.shape[1] // size if feature.ndim == 3 else 1
    if factor == 1:
        return feature
    return feature.reshape(len(feature), size, factor, size, factor).mean((2, 4))


def length_one(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(sum(one * one for one in vector))


def fitnet_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    return float(np.mean([(s - t) ** 2 for s, t in zip(student.flat, teacher.flat, strict=True)]))


def attention_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    q_s, q_t = (length_one((channel_rows(feature) ** 2).mean(0)) for feature in (student, teacher))
    return float(np.mean((q_s - q_t) ** 2))


def nst_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    ours, theirs = ([length_one(row) for row in channel_rows(feature)] for feature in (student, teacher))

    def kernel(one: list[np.ndarray], other: list[np.ndarray]) -> float:
        return float(np.mean([np.dot(a, b) ** 2 for a in one for b in other]))

    return kernel(ours, ours) + kernel(theirs, theirs) - 2 * kernel(ours, theirs)


def ickd_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    total = 0.0
    for row_s, row_t in zip(channel_rows(student), channel_rows(teacher), strict=True):
        g_s = length_one(np.array([np.dot(row_s, other) for other in channel_rows(student)]))
        g_t = length_one(np.array([np.dot(row_t, other) for other in channel_rows(teacher)]))
        total += float(((g_s - g_t) ** 2).sum())
    return total / len(channel_rows(student))


def pkd_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    def standardized(batch: np.ndarray) -> np.ndarray:
        rows = np.concatenate([channel_rows(one) for one in batch], axis=1)
        return np.array([(row - row.mean()) / row.std(ddof=1) for row in rows])

    return float(((standardized(student) - standardized(teacher)) ** 2).mean() / 2)


BY_HAND = {
    "attention_transfer": attention_by_hand,
    "fitnet": fitnet_by_hand,
    "ickd": ickd_by_hand,
    "nst": nst_by_hand,
    "pkd": pkd_by_hand,
}


def expected(name: str, student: Tensor, teacher: Tensor, size: int | None = None) -> np.ndarray | float:
    ours, theirs = student.double().numpy(), teacher.double().numpy()
    if name == "pkd":
        return pkd_by_hand(ours, theirs)
    rows = [
        BY_HAND[name](averaged(s, size or s.shape[-1]), averaged(t, size or t.shape[-1]))
        for s, t in zip(ours, theirs, strict=True)
    ]
    return np.array(rows)


@each
@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (2, 2, 5, 5), (2, 9, 2, 2), (1, 3, 2, 2), (3, 6, 4), (2, 3, 9)])
def test_one_shape_against_the_second_implementation(name: str, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(*shape), drawn(*shape, seed=1) + 0.3
    np.testing.assert_allclose(LOSSES[name](student, teacher).numpy(), expected(name, student, teacher), rtol=1e-10)
    single = LOSSES[name](student.float(), teacher.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected(name, student, teacher), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["attention_transfer", "nst"])
@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ((2, 3, 4, 4), (2, 5, 4, 4), 4),
        ((2, 3, 8, 8), (2, 7, 4, 4), 4),
        ((2, 9, 2, 2), (2, 8, 6, 6), 2),
        ((2, 5, 3), (2, 5, 8), 5),
    ],
)
def test_other_widths_and_sizes_without_an_adapter(
    name: str, ours: tuple[int, ...], theirs: tuple[int, ...], size: int
) -> None:
    student, teacher = drawn(*ours), drawn(*theirs, seed=1)
    np.testing.assert_allclose(
        LOSSES[name](student, teacher).numpy(), expected(name, student, teacher, size), rtol=1e-10
    )


def test_a_vector_for_fitnet_and_pkd() -> None:
    student, teacher = drawn(6, 3), drawn(6, 3, seed=1)
    np.testing.assert_allclose(fitnet(student, teacher).numpy(), ((student - teacher) ** 2).mean(1).numpy())
    correlations = [np.corrcoef(student[:, c].numpy(), teacher[:, c].numpy())[0, 1] for c in range(3)]
    assert float(pkd(student, teacher)) == pytest.approx(5 / 6 * (1 - np.mean(correlations)))


def test_pkd_is_one_minus_the_correlation_of_each_channel() -> None:
    student, teacher = pair()
    flat_s, flat_t = (one.transpose(0, 1).flatten(1).numpy() for one in (student, teacher))
    correlations = [np.corrcoef(s, t)[0, 1] for s, t in zip(flat_s, flat_t, strict=True)]
    assert float(pkd(student, teacher)) == pytest.approx(26 / 27 * (1 - np.mean(correlations)))
    assert float(pkd(-teacher, teacher)) == pytest.approx(26 / 27 * 2)


# ---- what is declared


def test_what_is_declared() -> None:
    assert {name: declared(TABLE[name]) for name in [*LOSSES, "vid"]} == {
        "attention_transfer": Compares(
            "each_stage", same=False, weight=1000.0, equal=0.0, invariant=("scale", "rotation")
        ),
        "fitnet": Compares("middle_stage", weight=100.0, equal=0.0),
        "ickd": Compares("last_stage", weight=2.5, equal=0.0, invariant=("scale",)),
        "nst": Compares("each_stage", same=False, weight=50.0, equal=0.0, invariant=("scale",)),
        "pkd": Compares("each_stage", relational=True, weight=6.0, equal=0.0, invariant=("scale",)),
        "vid": Compares("each_stage", same=False, weight=1.0),
    }


@each
@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (2, 9, 2, 2), (3, 5, 4)])
def test_equal_features_give_zero_and_no_gradient(name: str, shape: tuple[int, ...]) -> None:
    student = drawn(*shape).requires_grad_()
    value = LOSSES[name](student, student.detach().clone())
    value.sum().backward()
    assert float(value.detach().abs().max()) < 1e-13
    assert float(student.grad.abs().max()) < 1e-13  # type: ignore[union-attr]


@each
@pytest.mark.parametrize("scale", [1e-7, 0.25, 30.0, 1e4])
def test_a_scale_changes_what_it_should(name: str, scale: float) -> None:
    student, teacher = pair()
    plain = LOSSES[name](student, teacher)
    ours, theirs = LOSSES[name](student * scale, teacher), LOSSES[name](student, teacher * scale)
    if "scale" in declared(LOSSES[name]).invariant:
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(theirs, plain)
    else:
        assert not torch.allclose(ours, plain)
    single = LOSSES[name]((student * scale).float(), teacher.float())
    np.testing.assert_allclose(single.numpy(), ours.numpy(), rtol=1e-4, atol=1e-6)


@each
def test_only_attention_does_not_see_a_rotation_of_the_channels(name: str) -> None:
    student, teacher = pair()
    turn = torch.linalg.qr(drawn(4, 4, seed=5))[0]
    plain, turned = LOSSES[name](student, teacher), LOSSES[name](torch.einsum("oc,bchw->bohw", turn, student), teacher)
    assert torch.allclose(plain, turned) == ("rotation" in declared(LOSSES[name]).invariant)


@each_per_sample
def test_a_sample_does_not_see_the_others(name: str) -> None:
    student, teacher = pair(4)
    value = LOSSES[name](student, teacher)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(LOSSES[name](student[order], teacher[order]), value[order])
    torch.testing.assert_close(
        torch.cat([LOSSES[name](student[:1], teacher[:1]), LOSSES[name](student[1:], teacher[1:])]), value
    )
    once, twice = student.clone().requires_grad_(), student.repeat(2, 1, 1, 1).requires_grad_()
    LOSSES[name](once, teacher).mean().backward()
    doubled = LOSSES[name](twice, teacher.repeat(2, 1, 1, 1)).mean()
    doubled.backward()
    assert float(doubled.detach()) == pytest.approx(float(value.mean()))
    torch.testing.assert_close(twice.grad[:4] * 2, once.grad)  # type: ignore[index]


def test_a_batch_twice_changes_pkd_by_its_degrees_of_freedom() -> None:
    student, teacher = pair()  # n = 27, then 54
    twice = pkd(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    assert float(twice) == pytest.approx(float(pkd(student, teacher)) * (53 / 54) / (26 / 27))


@each
@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (2, 9, 2, 2), (3, 4, 3)])
def test_the_gradient_is_the_derivative_and_the_teacher_has_none(name: str, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(*shape).requires_grad_(), drawn(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: LOSSES[name](one, teacher.detach()), (student,))
    LOSSES[name](student, teacher).sum().backward()
    assert teacher.grad is None
    assert float(student.grad.abs().min()) > 0  # type: ignore[union-attr]


# ---- extremes


@each
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0)])
def test_large_features_in_any_precision(name: str, dtype: torch.dtype, scale: float, samples: int) -> None:
    student, teacher = (one.mul(scale).to(dtype) for one in pair(samples, 8, 6))
    student.requires_grad_()
    value = LOSSES[name](student, teacher)
    value.sum().backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]
    np.testing.assert_allclose(value.detach().numpy(), expected(name, student.detach(), teacher), rtol=1e-4)


@each
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 12, 2, 2), (2, 3, 4)])
@pytest.mark.parametrize("dead", ["student", "teacher", "both", "a channel", "both's channel", "constant"])
def test_nothing_to_compare_is_finite_and_its_gradient_small(name: str, shape: tuple[int, ...], dead: str) -> None:
    student, teacher = drawn(*shape).float(), drawn(*shape, seed=1).float()
    channel = (slice(None), slice(None), 1) if len(shape) == 3 else (slice(None), 1)
    if dead in ("student", "both"):
        student.zero_()
    if dead in ("teacher", "both"):
        teacher.zero_()
    if dead in ("a channel", "both's channel"):
        student[channel] = 0.0
    if dead == "both's channel":
        teacher[channel] = 0.0
    if dead == "constant":
        student[channel] = 0.7
    student.requires_grad_()
    value = LOSSES[name](student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert float(student.grad.abs().max()) < 10  # type: ignore[union-attr]
    assert dead != "both" or float(value.detach().abs().max()) == 0


def test_values_with_a_dead_part_by_hand() -> None:
    student, teacher = torch.zeros(1, 2, 1, 4), torch.ones(1, 2, 1, 4)
    assert attention_transfer(student, teacher).tolist() == pytest.approx([0.25 / 4 * 4])  # Q_t = 1/2 four times
    assert nst(student, teacher).tolist() == pytest.approx([1.0])  # k(t, t) alone
    assert ickd(student, teacher).tolist() == pytest.approx([1.0])  # two rows of length 1, by C = 2
    varied = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    for flat in (torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), 0.1), torch.full((1, 1, 1, 4), 12345.678)):
        assert float(pkd(flat, varied)) == pytest.approx(3 / 8)  # Σ z_t² = n - 1, over n, halved
        assert float(pkd(flat, flat + 1)) == 0


def test_a_constant_channel_of_many_elements_stays_constant() -> None:
    varied = drawn(64, 1, 32, 32).float()
    for level in (0.1, 3.3333, 12345.678):
        flat = torch.full_like(varied, level, requires_grad=True)
        value = pkd(flat, varied)
        value.backward()
        assert float(value.detach()) == pytest.approx(0.5, rel=1e-4)
        assert float(flat.grad.abs().max()) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("keep", [[True, False, True, True], [False, False, True, False], [False] * 4])
def test_pkd_leaves_masked_samples_out(keep: list[bool]) -> None:
    student, teacher = pair(4)
    mask = torch.tensor(keep)
    student[~mask], teacher[~mask] = float("nan"), float("inf")
    student.requires_grad_()
    value = pkd(student, teacher, mask=mask)
    value.backward()
    wanted = pkd_by_hand(student.detach()[mask].numpy(), teacher[mask].numpy()) if any(keep) else 0.0
    assert float(value.detach()) == pytest.approx(wanted)
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]
    assert float(student.grad[~mask].abs().max()) == 0  # type: ignore[index]
    assert any(keep) == bool(student.grad[mask].abs().sum() > 0)  # type: ignore[index]


def test_pkd_of_one_vector_is_zero_with_a_graph() -> None:
    student = drawn(1, 3).requires_grad_()
    value = pkd(student, drawn(1, 3, seed=1))
    value.backward()
    assert float(value.detach()) == 0
    assert float(student.grad.abs().max()) == 0  # type: ignore[union-attr]


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "said"),
    [
        ("fitnet", (2, 3, 4, 4), (2, 4, 4, 4), "'fitnet' compares features of one shape"),
        ("ickd", (2, 3, 4, 4), (2, 4, 4, 4), "'ickd' compares features of one shape"),
        ("pkd", (2, 3, 4, 4), (2, 3, 2, 2), "'pkd' compares features of one shape"),
        ("ickd", (2, 3), (2, 3), "'ickd' takes tokens"),
        ("pkd", (2,), (2,), "'pkd' takes vectors"),
        ("nst", (2, 3, 4, 4), (3, 3, 4, 4), "'nst' compares the same samples"),
        ("nst", (2, 16, 3), (2, 3, 3, 3), "'nst' compares position by position"),
        ("nst", (2, 3), (2, 3), "'nst' takes tokens"),
        ("attention_transfer", (2, 3), (2, 3), "'attention_transfer' takes tokens"),
        ("attention_transfer", (2, 16, 3), (2, 17, 3), "the student's feature has 16, the teacher's 17"),
        ("attention_transfer", (2, 3, 1, 1), (2, 3, 4, 4), "at least 2 positions; this one has 1"),
    ],
)
def test_what_can_not_be_compared_is_refused(
    name: str, ours: tuple[int, ...], theirs: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        LOSSES[name](torch.zeros(ours), torch.zeros(theirs))
    assert refused.value.cure


def test_pkd_refuses_a_mask_of_another_length() -> None:
    with pytest.raises(ModelError, match="'pkd' takes a mask of one bool for each of the 3 samples"):
        pkd(*pair(), mask=torch.ones(4, dtype=torch.bool))


# ---- faults of popular code: each check tells the right loss from the wrong one


def without_the_channel_mean(student: Tensor, teacher: Tensor) -> Tensor:
    """KD_Lib's attention transfer."""
    q_s, q_t = (functional.normalize(feature.square().flatten(1)) for feature in (student, teacher))
    return (q_s - q_t).square().mean(1)


def squared_before_pooling(student: Tensor, teacher: Tensor) -> Tensor:
    maps = [feature.square().mean(1, keepdim=True) for feature in (student, teacher)]
    size = min(one.shape[2] for one in maps)
    q_s, q_t = (functional.normalize(functional.adaptive_avg_pool2d(one, size).flatten(1)) for one in maps)
    return (q_s - q_t).square().mean(1)


def norm_not_squared(student: Tensor, teacher: Tensor) -> Tensor:
    q_s, q_t = (functional.normalize(feature.square().mean(1).flatten(1)) for feature in (student, teacher))
    return (q_s - q_t).norm(dim=1)


def test_attention_is_a_map_of_places_and_knows_no_order_of_channels() -> None:
    student, teacher = pair()

    def right(loss: Loss) -> bool:
        return torch.allclose(loss(student, teacher), loss(student[:, [3, 1, 0, 2]], teacher))

    assert right(attention_transfer)
    assert not right(without_the_channel_mean)


def test_attention_pools_before_it_squares() -> None:
    checked = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).tile(1, 2)  # + and - cancel in a window: no activity there
    checked[:, 2:] = 1.0
    student, teacher = checked.view(1, 1, 2, 4), torch.tensor([[[[0.0, 1.0]]]])

    def right(loss: Loss) -> bool:
        padded = teacher.tile(1, 1, 1, 1)
        return float(loss(functional.pad(student, (0, 0, 0, 2)), functional.pad(padded, (0, 0, 0, 1)))) < 1e-12

    assert right(attention_transfer)
    assert not right(squared_before_pooling)


def test_attention_has_a_gradient_where_the_maps_are_equal() -> None:
    def right(loss: Loss) -> bool:
        student, teacher = pair()
        student.copy_(teacher)[0, 0, 0, 0] *= 1 + 1e-9  # nearly equal: a norm's gradient has not become small
        student.requires_grad_()
        loss(student, teacher).sum().backward()
        return float(student.grad.abs().max()) < 1e-6  # type: ignore[union-attr]

    assert right(attention_transfer)
    assert not right(norm_not_squared)


@pytest.mark.parametrize("name", ["fitnet", "ickd"])
def test_differences_are_squared(name: str) -> None:
    """Torchdistill's FSP and CC compare by norms."""
    student, teacher = pair()

    def right(loss: Loss) -> bool:
        return float(loss(student, teacher)[0]) == pytest.approx(BY_HAND[name](student[0].numpy(), teacher[0].numpy()))

    assert right(LOSSES[name])
    assert not right(lambda s, t: LOSSES[name](s, t).sqrt())


def test_rows_of_correlation_have_length_one_not_sum_one() -> None:
    """Torchdistill's SP divides rows by their L1 norm."""

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        rows = [one.flatten(2) for one in (student, teacher)]
        g_s, g_t = (functional.normalize(one @ one.mT, p=1, dim=2) for one in rows)
        return (g_s - g_t).square().sum((1, 2)) / g_s.shape[1]

    def right(loss: Loss) -> bool:  # G_s the identity, rows of G_t (.6, .8)
        found = loss(torch.eye(2).view(1, 2, 1, 2), torch.tensor([3.0, 0.0, 4.0, 0.0]).view(1, 2, 1, 2))
        return found.tolist() == pytest.approx([0.6])

    assert right(ickd)
    assert not right(wrong)


@pytest.mark.parametrize("name", ["attention_transfer", "ickd", "nst", "pkd"])
def test_a_gradient_along_the_feature_would_show_a_detached_norm(name: str) -> None:
    """Structured KD detaches the student's own norm: a loss that no scale changes has no slope along the feature."""

    def right(loss: Loss) -> bool:
        student, teacher = pair()
        student.requires_grad_()
        loss(student, teacher).sum().backward()
        return float((student.grad * student.detach()).sum().abs()) < 1e-10  # type: ignore[operator]

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        ours = student / student.detach().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return (ours - teacher / teacher.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).square().flatten(1).sum(1)

    assert right(LOSSES[name])
    assert not right(wrong)


@each
def test_a_detach_whose_result_is_unused_would_reach_the_teacher(name: str) -> None:
    """Structured KD calls ``x.detach()`` and goes on with x."""

    def right(loss: Loss) -> bool:
        student, teacher = (one.requires_grad_() for one in pair())
        loss(student, teacher).sum().backward()
        return teacher.grad is None and student.grad is not None

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        teacher.detach()
        return (student - teacher).square().flatten(1).mean(1)

    assert right(LOSSES[name])
    assert not right(wrong)


@each
def test_sums_of_squares_are_not_taken_in_half_precision(name: str) -> None:
    student, teacher = (one.mul(200).half() for one in pair(2, 8, 6))

    def right(loss: Loss) -> bool:
        return bool(torch.isfinite(loss(student, teacher)).all())

    assert right(LOSSES[name])
    assert not right(lambda s, t: (s - t).square().flatten(1).cumsum(1)[:, -1])


class Largest(TorchDispatchMode):
    """Remember the most elements that any result had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def nst_by_broadcasting(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = (functional.normalize(one.flatten(2), dim=2) for one in (student, teacher))

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one.unsqueeze(2) * other.unsqueeze(1)).sum(3).square().mean((1, 2))

    return kernel(ours, ours) + kernel(theirs, theirs) - 2 * kernel(ours, theirs)


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (2, 32, 4, 4)])
def test_nst_holds_no_product_of_all_pairs_at_all_positions(shape: tuple[int, ...]) -> None:
    student, teacher = drawn(*shape), drawn(*shape, seed=1)

    def right(loss: Loss) -> bool:
        with Largest() as largest:
            loss(student, teacher)
        return largest.elements <= student.numel()

    torch.testing.assert_close(nst(student, teacher), nst_by_broadcasting(student, teacher))
    assert right(nst)
    assert not right(nst_by_broadcasting)


def test_pkd_is_blind_to_the_scale_of_a_nearly_constant_channel() -> None:
    """An epsilon beside the standard deviation, as in DIST's product of norms, dominates where features hardly vary."""
    student, teacher = pair()

    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        z_s, z_t = (
            (one - one.mean((0, 2, 3), keepdim=True)) / (one.std((0, 2, 3), keepdim=True) + 1e-6)
            for one in (student, teacher)
        )
        return (z_s - z_t).square().mean() / 2

    def right(loss: Loss) -> bool:
        return torch.allclose(loss(student * 1e-6, teacher), loss(student, teacher))

    assert right(pkd)
    assert not right(wrong)
    assert torch.allclose(pkd(student, teacher), wrong(student, teacher), rtol=1e-5)
