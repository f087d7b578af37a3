"""Losses between samples against a second implementation in numpy, their properties, the faults of popular code."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.errors import ModelError, RecipeError
from limbeck.losses import TABLE, Compares, declared
from limbeck.losses.relations import cc, pkt, rkd_angle, rkd_distance, sp

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (cc, pkt, rkd_angle, rkd_distance, sp)}
each = pytest.mark.parametrize("name", LOSSES)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(samples: int = 6, ours: int = 4, theirs: int = 7) -> tuple[Tensor, Tensor]:
    return drawn(samples, ours), drawn(samples, theirs, seed=1) + 0.3


def gradient(loss: Loss, student: Tensor, teacher: Tensor, **more: Any) -> Tensor:
    student = student.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(student, teacher, **more), student)
    return found


# ---- the second implementation: float64, pair by pair


def huber(a: float) -> float:
    return a * a / 2 if abs(a) < 1 else abs(a) - 0.5


def distances(rows: np.ndarray) -> np.ndarray:
    found = np.array([[math.dist(a, b) for b in rows] for a in rows])
    positive = [one for one in found.flat if one > 0]
    return found / (math.fsum(positive) / len(positive)) if positive else found


def distance_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    pairs = zip(distances(student).flat, distances(teacher).flat, strict=True)
    return math.fsum(huber(s - t) for s, t in pairs) / len(student) ** 2


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return float(np.dot(a, b)) / lengths if lengths else 0.0


def angle_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    count = range(len(student))
    differences = [
        cosine(student[j] - student[i], student[k] - student[i])
        - cosine(teacher[j] - teacher[i], teacher[k] - teacher[i])
        for i, j, k in product(count, count, count)
    ]
    return math.fsum(map(huber, differences)) / len(student) ** 3


def sp_by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    def similarities(rows: np.ndarray) -> list[np.ndarray]:
        found = [np.array([np.dot(a, b) for b in rows]) for a in rows]
        return [row / (math.hypot(*row) or 1.0) for row in found]

    rows = zip(similarities(student), similarities(teacher), strict=True)
    return math.fsum(((s - t) ** 2).sum() for s, t in rows) / len(student) ** 2


def cc_by_hand(student: np.ndarray, teacher: np.ndarray, gamma: float = 0.4) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        terms = [(2 * gamma) ** p / math.factorial(p) * cosine(a, b) ** p for p in range(3)]
        return math.exp(-2 * gamma) * math.fsum(terms)

    pairs = list(product(range(len(student)), repeat=2))
    squares = [(kernel(student[i], student[j]) - kernel(teacher[i], teacher[j])) ** 2 for i, j in pairs]
    return math.fsum(squares) / len(pairs)


def pkt_by_hand(student: np.ndarray, teacher: np.ndarray, e: float = 1e-7) -> float:
    def picks(rows: np.ndarray, i: int) -> dict[int, float]:
        kernel = {j: (cosine(rows[i], rows[j]) + 1) / 2 for j in range(len(rows)) if j != i}
        return {j: one / math.fsum(kernel.values()) for j, one in kernel.items()}

    total = 0.0
    for i in range(len(student)):
        p_s, p_t = picks(student, i), picks(teacher, i)
        total += math.fsum(p_t[j] * math.log((p_t[j] + e) / (p_s[j] + e)) for j in p_t)
    return total / len(student) ** 2


BY_HAND: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "cc": cc_by_hand,
    "pkt": pkt_by_hand,
    "rkd_angle": angle_by_hand,
    "rkd_distance": distance_by_hand,
    "sp": sp_by_hand,
}


def expected(name: str, student: Tensor, teacher: Tensor) -> float:
    return BY_HAND[name](student.double().flatten(1).numpy(), teacher.double().flatten(1).numpy())


@each
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((6, 4), (6, 7)), ((2, 3), (2, 5)), ((9, 1), (9, 2)), ((5, 3, 2, 2), (5, 4, 3, 3)), ((4, 6, 2), (4, 5))],
)
def test_against_the_second_implementation(name: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    student, teacher = drawn(*ours), drawn(*theirs, seed=1) + 0.3
    value, single = LOSSES[name](student, teacher), LOSSES[name](student.float(), teacher.float())
    assert value.shape == single.shape == ()
    assert (value.dtype, single.dtype) == (torch.float64, torch.float32)
    wanted = expected(name, student, teacher)
    assert float(value) == pytest.approx(wanted, rel=1e-10, abs=1e-14)
    assert float(single) == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_numbers_by_hand() -> None:
    corner, line = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    # sides 3, 4, 5 by 4 against 1, 2, 1 by 4/3: (3/4, 1, 5/4) - (3/4, 3/2, 3/4)
    assert float(rkd_distance(corner, line)) == pytest.approx(2 * (0.5**2 / 2 + 0.5**2 / 2) / 9)
    # cosines 0, 3/5, 4/5 against 1, -1, 1
    assert float(rkd_angle(corner, line)) == pytest.approx(2 * (0.5 + 1.1 + 0.2**2 / 2) / 27)
    apart, same = torch.eye(2), torch.tensor([[1.0], [2.0]])
    assert float(sp(apart, same)) == pytest.approx(((1 - 0.2**0.5) ** 2 + 0.8 + 0.2 + (1 - 0.8**0.5) ** 2) / 4)
    assert float(cc(apart, same)) == pytest.approx(2 * (math.exp(-0.8) * 1.12) ** 2 / 4)
    assert float(cc(apart, same, gamma=1.0)) == pytest.approx(2 * (math.exp(-2) * 4) ** 2 / 4)
    three = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    assert float(pkt(three, torch.ones(3, 1))) == pytest.approx((math.log(3 / 4) + math.log(3 / 2)) / 9, rel=1e-4)


# ---- what is declared


def test_what_is_declared() -> None:
    both = {"same": False, "relational": True, "equal": 0.0, "invariant": ("scale", "rotation")}
    assert {name: declared(TABLE[name]) for name in LOSSES} == {
        "cc": Compares("pooled", weight=1.0, batch=2, **both),  # type: ignore[arg-type]
        "pkt": Compares("pooled", weight=3e4, batch=3, **both),  # type: ignore[arg-type]
        "rkd_angle": Compares("pooled", weight=50.0, batch=3, **both),  # type: ignore[arg-type]
        "rkd_distance": Compares("pooled", weight=25.0, batch=3, **both),  # type: ignore[arg-type]
        "sp": Compares("last_stage", weight=3000.0, batch=2, **both),  # type: ignore[arg-type]
    }


@each
def test_equal_features_give_zero_and_no_gradient(name: str) -> None:
    features = drawn(6, 4)
    assert abs(float(LOSSES[name](features, features))) < 1e-14
    assert float(gradient(LOSSES[name], features, features).abs().max()) < (1e-7 if name == "pkt" else 1e-14)


@each
@pytest.mark.parametrize("scale", [1e-20, 0.25, 1e4, 1e18])
def test_a_scale_of_either_model_changes_nothing(name: str, scale: float) -> None:
    student, teacher = pair()
    plain = LOSSES[name](student, teacher)
    if name in ("cc", "pkt") and scale < 1e-12:
        return  # such a row counts as zero
    torch.testing.assert_close(LOSSES[name](student * scale, teacher), plain)
    torch.testing.assert_close(LOSSES[name](student, teacher * scale), plain)
    single = LOSSES[name]((student * scale).float(), teacher.float())
    assert float(single) == pytest.approx(float(plain), rel=1e-3)


@each
def test_a_rotation_of_either_model_changes_nothing(name: str) -> None:
    student, teacher = pair()
    ours, theirs = (torch.linalg.qr(drawn(n, n, seed=5))[0] for n in (4, 7))
    torch.testing.assert_close(LOSSES[name](student @ ours, teacher @ theirs), LOSSES[name](student, teacher))


@each
def test_what_is_not_invariant(name: str) -> None:
    """A shift is nothing to differences of samples only; a scale of each row only to losses of cosines."""
    student, teacher = pair()
    plain = LOSSES[name](student, teacher)
    rows = torch.linspace(0.5, 2.0, 6, dtype=torch.float64).unsqueeze(1)
    assert torch.allclose(LOSSES[name](student + 2.0, teacher), plain) == name.startswith("rkd")
    assert torch.allclose(LOSSES[name](student * rows, teacher), plain) == (name in ("cc", "pkt"))
    assert not torch.allclose(LOSSES[name](student * drawn(4, seed=3), teacher), plain)


@each
def test_the_order_of_the_samples_changes_nothing(name: str) -> None:
    student, teacher = pair()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(LOSSES[name](student[order], teacher[order]), LOSSES[name](student, teacher))
    assert not torch.allclose(LOSSES[name](student[order], teacher), LOSSES[name](student, teacher))
    torch.testing.assert_close(
        gradient(LOSSES[name], student[order], teacher[order]), gradient(LOSSES[name], student, teacher)[order]
    )


@each
def test_the_gradient_is_the_derivative_and_the_teacher_has_none(name: str) -> None:
    student, teacher = pair()
    student.requires_grad_()
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda one: LOSSES[name](one, teacher.detach()), (student,))
    LOSSES[name](student, teacher).backward()
    assert teacher.grad is None
    assert float(student.grad.abs().min()) > 0  # type: ignore[union-attr]


@each
def test_a_step_down_the_gradient_lowers_the_loss(name: str) -> None:
    student, teacher = pair()
    downhill = gradient(LOSSES[name], student, teacher)
    step = 1e-3 / float(downhill.norm())
    assert LOSSES[name](student - step * downhill, teacher) < LOSSES[name](student, teacher)


# ---- extremes


@each
@pytest.mark.parametrize("samples", [1, 2])
def test_batches_of_one_and_two(name: str, samples: int) -> None:
    student, teacher = pair(samples)
    value, found = float(LOSSES[name](student, teacher)), gradient(LOSSES[name], student, teacher)
    assert value == pytest.approx(expected(name, student, teacher), abs=1e-15)
    if samples < declared(LOSSES[name]).batch:
        assert abs(value) < 1e-14
        assert float(found.abs().max()) < 1e-14
    else:
        assert value > 1e-6
        assert float(found.abs().max()) > 1e-6


@each
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e4), (torch.bfloat16, 1e4), (torch.float16, 200.0)])
def test_large_features_in_any_precision(name: str, dtype: torch.dtype, scale: float) -> None:
    student, teacher = (one.clamp(-1, 1).mul(scale).to(dtype) for one in pair(5, 16, 16))
    value = LOSSES[name](student, teacher)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(expected(name, student, teacher), rel=1e-3)
    found = gradient(LOSSES[name], student, teacher)
    assert found.dtype == dtype
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient(LOSSES[name], torch.full_like(student, scale), teacher)).all()


@each
@pytest.mark.parametrize("what", ["zero row", "zero rows", "all zero", "duplicates", "all equal", "nearly equal"])
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
def test_rows_without_a_direction_or_a_distance(name: str, what: str, whose: str) -> None:
    sides = [one.float() for one in pair(5)]
    for side in sides if whose == "both" else sides[whose == "teacher" :][:1]:
        if what == "zero row":
            side[0] = 0.0
        elif what == "zero rows":
            side[:2] = 0.0
        elif what == "all zero":
            side.zero_()
        elif what == "duplicates":
            side[1] = side[3] = side[0]
        elif what == "all equal":
            side.copy_(side[:1].expand_as(side).clone())
        else:
            side[1] = side[0] * (1 + 2e-7)
    value, found = LOSSES[name](*sides), gradient(LOSSES[name], *sides)
    assert float(value) == pytest.approx(expected(name, *sides), rel=2e-3, abs=1e-6)
    assert torch.isfinite(found).all()
    if what != "nearly equal":
        assert float(found.abs().max()) < 10


def test_equal_rows_get_no_gradient_from_each_other() -> None:
    """Their distance could only grow: a side would have to be chosen."""
    student, teacher = pair(5)
    student[1] = student[0]
    for loss in (rkd_distance, rkd_angle):
        found = gradient(loss, student, teacher)
        assert torch.isfinite(found).all()
        apart = torch.tensor([0, 0, 1, 1, 1], dtype=torch.bool)
        assert float(found[apart].abs().min()) > 0
    together = torch.ones(4, 3, dtype=torch.float64)
    assert float(gradient(rkd_distance, together, teacher[:4]).abs().max()) == 0
    assert float(gradient(rkd_angle, together, teacher[:4]).abs().max()) == 0


def test_opposite_samples_have_no_neighbors() -> None:
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    teacher = drawn(3, 4)
    assert math.isfinite(float(pkt(student, teacher)))
    assert torch.isfinite(gradient(pkt, student, teacher)).all()
    assert math.isfinite(float(pkt(teacher, student)))


# ---- masks


@each
@pytest.mark.parametrize("keep", [[1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 1, 0], [0] * 6, [1] * 6])
def test_a_mask_drops_samples(name: str, keep: list[int]) -> None:
    student, teacher = pair()
    mask = torch.tensor(keep, dtype=torch.bool)
    student[~mask], teacher[~mask] = math.nan, math.inf
    student.requires_grad_()
    value = LOSSES[name](student, teacher, mask=mask)
    value.backward()
    found = student.grad
    assert found is not None
    assert torch.equal(found[~mask], torch.zeros_like(found[~mask]))
    if any(keep):
        kept, theirs = student.detach()[mask], teacher[mask]
        assert float(value.detach()) == pytest.approx(expected(name, kept, theirs), abs=1e-14)
        torch.testing.assert_close(found[mask], gradient(LOSSES[name], kept, theirs))
    else:
        assert (float(value.detach()), value.dtype) == (0.0, torch.float64)


# ---- angles in pieces


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_angles_in_pieces_are_those_of_the_whole(chunk: int) -> None:
    student, teacher = pair(7)
    student[3] = student[1]
    torch.testing.assert_close(rkd_angle(student, teacher, chunk=chunk), rkd_angle(student, teacher))
    torch.testing.assert_close(
        gradient(rkd_angle, student, teacher, chunk=chunk), gradient(rkd_angle, student, teacher)
    )
    assert torch.autograd.gradcheck(lambda one: rkd_angle(one, teacher, chunk=chunk), (pair(7)[0].requires_grad_(),))


class Largest(TorchDispatchMode):
    """The most numbers that any tensor has had."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return result


def test_pieces_bound_the_memory_of_angles() -> None:
    student, teacher = pair(24, 8, 8)

    def largest(chunk: int) -> int:
        with Largest() as seen:
            gradient(rkd_angle, student, teacher, chunk=chunk)
        return seen.numbers

    assert largest(256) == 24**3
    assert largest(12) <= 12**3


def test_pieces_keep_no_angle_for_the_backward_pass() -> None:
    student, teacher = pair(16)
    student.requires_grad_()

    def kept(chunk: int) -> int:
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: numbers.append(one.numel()) or one, lambda one: one):
            rkd_angle(student, teacher, chunk=chunk)
        return max(numbers)

    assert kept(256) >= 16**3
    assert kept(8) <= 16 * 16


# ---- what is refused


@each
def test_what_can_not_be_compared_is_refused(name: str) -> None:
    loss = LOSSES[name]
    with pytest.raises(ModelError, match=f"'{name}' compares the same samples") as refused:
        loss(torch.zeros(3, 4), torch.zeros(4, 4))
    assert refused.value.cure
    with pytest.raises(ModelError, match=f"'{name}' takes vectors"):
        loss(torch.zeros(3), torch.zeros(3))
    for mask in (torch.ones(4, dtype=torch.bool), torch.ones(3)):
        with pytest.raises(ModelError, match=f"'{name}' takes a mask of one bool for each of the 3 samples"):
            loss(torch.zeros(3, 4), torch.zeros(3, 4), mask=mask)


@pytest.mark.parametrize(
    ("loss", "wrong"), [(cc, {"gamma": 0.0}), (cc, {"gamma": math.inf}), (pkt, {"eps": 0}), (rkd_angle, {"chunk": 0})]
)
def test_numbers_out_of_range_are_refused(loss: Loss, wrong: dict[str, float]) -> None:
    (key,) = wrong
    with pytest.raises(RecipeError, match=rf"{loss.__name__}\.{key} is {wrong[key]}"):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), **wrong)


# ---- faults of popular code: each check tells the right loss from the wrong one


def agrees(loss: Loss, name: str) -> bool:
    """The check of values by the second implementation, once more."""
    student, teacher = pair()
    return float(loss(student, teacher)) == pytest.approx(expected(name, student, teacher), rel=1e-6)


def sp_of_rows_with_sum_one(student: Tensor, teacher: Tensor) -> Tensor:
    """Torchdistill's SP: rows by their L1 norm."""
    ours, theirs = (functional.normalize(f @ f.T, p=1, dim=1) for f in (student.flatten(1), teacher.flatten(1)))
    return (ours - theirs).square().mean()


def cc_by_the_norm(student: Tensor, teacher: Tensor) -> Tensor:
    """Torchdistill's CC: a norm that is not squared."""
    ours, theirs = (functional.normalize(f) @ functional.normalize(f).T * 0.8 for f in (student, teacher))
    difference = math.exp(-0.8) * (ours + ours**2 / 2 - theirs - theirs**2 / 2)
    return difference.norm() / len(student) ** 2


def cc_of_successive_samples(student: Tensor, teacher: Tensor) -> Tensor:
    """RepDistiller's CC, without its embeddings."""
    apart = (student - teacher).abs()
    return (apart[:-1] * apart[1:]).sum(1).mean()


def rkd_of_unit_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """Mmrazor's RKD: rows of length 1 first."""
    return rkd_distance(functional.normalize(student), functional.normalize(teacher))


def angle_of_unit_rows(student: Tensor, teacher: Tensor) -> Tensor:
    return rkd_angle(functional.normalize(student), functional.normalize(teacher))


def pkt_by_the_root(student: Tensor, teacher: Tensor, *, itself: bool = False) -> Tensor:
    """RepDistiller's PKT: a root at 0; with ``itself``, a sample is its own neighbor."""

    def neighbors(rows: Tensor) -> Tensor:
        rows = rows / (rows.square().sum(1, keepdim=True).sqrt() + 1e-7)
        kernel = (rows @ rows.T + 1) / 2
        kernel = kernel if itself else kernel * (1 - torch.eye(len(rows), dtype=rows.dtype))
        return kernel / kernel.sum(1, keepdim=True)

    p_s, p_t = neighbors(student), neighbors(teacher)
    return (p_t * ((p_t + 1e-7) / (p_s + 1e-7)).log()).mean()


def distance_by_products(student: Tensor, teacher: Tensor, *, least: float = 0.0) -> Tensor:
    """Squared distances from a Gram matrix, which keep no digit where rows nearly agree."""

    def apart(rows: Tensor) -> Tensor:
        products = rows @ rows.T
        squares = products.diagonal()[:, None] + products.diagonal()[None] - 2 * products
        found = squares.clamp(min=least).sqrt()
        return found / found[found > 0].mean()

    return functional.smooth_l1_loss(apart(student), apart(teacher))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (sp_of_rows_with_sum_one, "sp"),
        (cc_by_the_norm, "cc"),
        (rkd_of_unit_rows, "rkd_distance"),
        (angle_of_unit_rows, "rkd_angle"),
        (partial(pkt_by_the_root, itself=True), "pkt"),
    ],
)
def test_values_tell_other_losses_apart(wrong: Loss, name: str) -> None:
    assert agrees(LOSSES[name], name)
    assert not agrees(wrong, name)


def test_the_checks_see_only_the_fault() -> None:
    """Of the wrong versions, the parts without the fault are right."""
    assert agrees(pkt_by_the_root, "pkt")
    assert agrees(distance_by_products, "rkd_distance")
    assert agrees(lambda s, t: cc_by_the_norm(s, t).square() * 36, "cc")


def test_correlation_congruence_depends_on_no_order() -> None:
    student, teacher = pair(6, 4, 4)
    order = torch.tensor([0, 2, 1, 3, 5, 4])

    def right(loss: Loss) -> bool:
        return torch.allclose(loss(student, teacher), loss(student[order], teacher[order]))

    assert right(cc)
    assert not right(cc_of_successive_samples)


def test_pkt_has_a_gradient_at_a_vector_of_zeros() -> None:
    student, teacher = pair()
    student[2] = 0.0

    def right(loss: Loss) -> bool:
        return bool(torch.isfinite(gradient(loss, student, teacher)).all())

    assert right(pkt)
    assert not right(pkt_by_the_root)


@pytest.mark.parametrize("least", [0.0, 1e-12])
def test_distances_of_equal_rows_are_zero_far_from_the_origin(least: float) -> None:
    teacher = pair()[1].float()
    student = pair()[0].float() + 300.0
    student[1] = student[0] * (1 + 1e-6)
    wanted = expected("rkd_distance", student, teacher)

    def right(loss: Loss) -> bool:
        found = gradient(loss, student, teacher)
        return bool(torch.isfinite(found).all()) and float(loss(student, teacher)) == pytest.approx(wanted, rel=1e-3)

    assert right(rkd_distance)
    assert not right(partial(distance_by_products, least=least))
