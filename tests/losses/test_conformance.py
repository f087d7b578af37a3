"""Every loss of the table passes the conformance suite; the suite fails losses that are wrong, each by its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.conformance import CHECKS, check, examine
from limbeck.conformance.compiled import compiled
from limbeck.conformance.subject import Subject
from limbeck.errors import ConformanceError, ModelError, RecipeError
from limbeck.losses import compares, cross_entropy, kl


@pytest.mark.parametrize("name", losses.TABLE)
@pytest.mark.parametrize("one", CHECKS)
def test_every_loss_has_every_property(name: str, one: str) -> None:
    report = examine(name, checks=[one])
    assert not report.failures, str(report)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        (name, {key: value})
        for name, loss in losses.TABLE.items()
        for key, value in (("standardize", True), ("temperature", 1.0))
        if {key, "standardize"} <= set(Subject(loss, {}).takes)
    ],
)
def test_hyperparameters_go_through_the_suite(name: str, hyper: dict[str, Any]) -> None:
    names = [one for one in CHECKS if one not in ("compiled", "huge", "degenerate")]
    report = examine(name, checks=names, **hyper)
    assert not report.failures, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", losses.TABLE)
def test_inductor_gives_the_same(name: str) -> None:
    assert not list(compiled(Subject(name, {}), backend="inductor"))


# Right losses, written here: the suite is not made for the table alone.


@compares("logits", equal=0.0, invariant=("shift",))
def right(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """KL, once more."""
    log_s, log_t = ((z.float() if z.dtype != torch.float64 else z) / temperature for z in (student, teacher.detach()))
    log_s, log_t = log_s.log_softmax(1), log_t.log_softmax(1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(1)


def test_a_users_own_loss_passes_in_one_line() -> None:
    assert check(right).failures == ()
    assert check(right).checks == tuple(CHECKS)
    assert check(right, temperature=1.5).name == "right"


def test_a_failure_names_property_and_numbers() -> None:
    def half(student: Tensor, teacher: Tensor) -> Tensor:
        return right(student, teacher) + 0.5

    half.compares = losses.Compares(equal=0.0)  # type: ignore[attr-defined]
    with pytest.raises(ConformanceError) as error:
        check(half)
    assert "loss 'half' fails 1 of 30 properties" in str(error.value)
    assert "equal: values at student = teacher, 0.5, and the stated differ by 0.5" in str(error.value)


def test_what_is_no_loss_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="did you mean 'fitnet'"):
        check("fitnets")
    with pytest.raises(RecipeError, match="Identity is a module that is built already"):
        check(nn.Identity())


# Wrong losses. Each is caught by the check that is named beside it.


def widened(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def kl_by(log_p: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        log_s, log_t = log_p(widened(student)), log_p(widened(teacher.detach()))
        return (log_t.exp() * (log_t - log_s)).sum(1)

    return loss


def detached_student(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student.detach(), teacher)


def half_detached(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher) * kl(student.detach(), teacher)


def teacher_not_detached(student: Tensor, teacher: Tensor) -> Tensor:
    return (widened(student) - widened(teacher)).square().mean(1)


def scalar(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher).mean()


def summed_over_samples(student: Tensor, teacher: Tensor) -> Tensor:
    value = kl(student, teacher)
    return value / value.detach().sum()


def no_square(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    return kl(student, teacher, temperature=temperature, square=False)


def one_sided_temperature(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    return kl(student * temperature, teacher, temperature=temperature)


def random_noise(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student + 0.01 * torch.randn_like(student), teacher)


def counting() -> Callable[[Tensor, Tensor], Tensor]:
    calls: list[int] = []

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        calls.append(1)
        return kl(student, teacher) * len(calls)

    return loss


def in_place(student: Tensor, teacher: Tensor) -> Tensor:
    teacher.data.sub_(teacher.mean(1, keepdim=True))
    return kl(student, teacher)


def target_in_place(student: Tensor, *, target: Tensor) -> Tensor:
    value = cross_entropy(student, target=target)
    target.clamp_(min=1)
    return value


def first_sample_counts_double(student: Tensor, teacher: Tensor) -> Tensor:
    value = kl(student, teacher)
    return value * torch.cat([value.new_full((1,), 2.0), value.new_ones(len(value) - 1)])


def first_class_counts_double(student: Tensor, teacher: Tensor) -> Tensor:
    """Right of any number of classes, and not the same in another order of them."""
    log_s, log_t = widened(student).log_softmax(1), widened(teacher.detach()).log_softmax(1)
    return ((log_t.exp() - log_s.exp()).square() * torch.tensor([2.0, *[1.0] * (student.shape[1] - 1)])).sum(1)


def mean_over_classes(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher, temperature=1.0) / student.shape[1]


def uphill(student: Tensor, teacher: Tensor) -> Tensor:
    value = kl(student, teacher)
    return value.detach() * 2 - value


def kept_half(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher).to(student.dtype)


def computed_in_half(student: Tensor, teacher: Tensor) -> Tensor:
    offset = student + 1000 - (teacher.detach() + 1000)  # half precision keeps steps of 0.5 there
    return widened(offset).square().mean(1)


def unlabeled_counts(student: Tensor, *, target: Tensor) -> Tensor:
    return cross_entropy(student, target=target.clamp(min=0))


def root_at_zero(student: Tensor, teacher: Tensor) -> Tensor:
    return (widened(student) - widened(teacher.detach())).square().sum(1).sqrt()


def masked_after(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    value = kl(student, teacher)
    return value if mask is None else torch.where(mask, value, 0.0)


def mask_ignored(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    return kl(student, teacher)


def leaky_by_numbers(student: Tensor, teacher: Tensor) -> Tensor:
    if len(student) == 1:
        return kl(student, teacher) * float("nan")
    return kl(student, teacher)


def refuses_two(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape[1] < 3:
        raise ModelError("too few classes", cure="use more")
    return kl(student, teacher)


@compares("logits", relational=True)
def nan_when_all_masked(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    value = kl(student, teacher, mask=mask)
    return value.mean() if mask is None else value.sum() / mask.sum()


@compares("logits", relational=True)
def constant_when_all_masked(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    if mask is not None:
        student, teacher = student[mask], teacher[mask]
    return kl(student, teacher).mean() if len(student) else torch.zeros((), dtype=widened(student).dtype)


@compares("logits", relational=True)
def relational_without_mask(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher).mean()


@compares("logits", relational=True)
def by_neighbor(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    s, t = (widened(z if mask is None else z[mask]) for z in (student, teacher.detach()))
    return ((s[1:] - s[:-1]) - (t[1:] - t[:-1])).square().sum() + 0 * s.sum()


@compares("logits", relational=True)
def stops_at_other_parts(student: Tensor, teacher: Tensor) -> Tensor:
    s = student if student.is_leaf else student[:2]
    return (widened(s) - widened(teacher.detach())[: len(s)]).square().mean()


def one_column(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.fitnet(student, teacher)[:, None]


class Unlearned(nn.Module):
    """With a parameter that the value does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return self.used * kl(student, teacher)


def compiles_otherwise(student: Tensor, teacher: Tensor) -> Tensor:
    value = kl(student, teacher)
    return value * 2 if torch.compiler.is_compiling() else value


PLANTED: list[tuple[Any, str, dict[str, Any]]] = [
    (detached_student, "student_learns", {}),
    (half_detached, "gradient", {}),
    (uphill, "gradient", {}),
    (uphill, "descent", {}),
    (teacher_not_detached, "teacher_constant", {}),
    (scalar, "shape", {}),
    (kept_half, "dtype", {}),
    (computed_in_half, "half_precision", {}),
    (kl, "equal", {"equal": 1.0}),
    (cross_entropy, "invariances", {"invariant": ("scale_row",)}),
    (kl, "invariances", {"invariant": ("scale",)}),
    (losses.fitnet, "invariances", {"site": "pooled", "invariant": ("rotation",)}),
    (root_at_zero, "invariances", {"invariant": ("shift",)}),
    (root_at_zero, "degenerate", {}),
    (kl_by(lambda z: torch.log_softmax(z, 0)), "chunks", {}),
    (kl_by(lambda z: torch.log_softmax(z, 0)), "invariances", {"invariant": ("shift",)}),
    (kl_by(lambda z: torch.log(torch.softmax(z, 1))), "huge", {}),
    (kl_by(lambda z: torch.log(z.exp() / z.exp().sum(1, keepdim=True))), "huge", {}),
    (no_square, "large_temperature", {}),
    (one_sided_temperature, "large_temperature", {}),
    (summed_over_samples, "chunks", {}),
    (summed_over_samples, "twice", {}),
    (first_sample_counts_double, "order", {}),
    (by_neighbor, "order", {"relational": True}),
    (random_noise, "deterministic", {}),
    (counting(), "deterministic", {}),
    (in_place, "inputs_kept", {}),
    (target_in_place, "inputs_kept", {}),
    (masked_after, "masked", {}),
    (mask_ignored, "masked", {}),
    (mask_ignored, "all_masked", {}),
    (nan_when_all_masked, "all_masked", {"relational": True}),
    (constant_when_all_masked, "all_masked", {"relational": True}),
    (relational_without_mask, "takes_mask", {"relational": True}),
    (stops_at_other_parts, "joined", {"relational": True}),
    (unlabeled_counts, "unlabeled", {}),
    (leaky_by_numbers, "few_samples", {}),
    (kl, "few_samples", {"batch": 2}),
    (kl, "few_classes", {"classes": 3}),
    (refuses_two, "few_classes", {"classes": 3}),
    (refuses_two, "few_classes", {}),
    (one_column, "other_forms", {"site": "pooled"}),
    (Unlearned, "student_learns", {}),
    (losses.logit_mse, "grouped", {"grouped": True}),
    (losses.bernoulli_kl, "grouped", {"grouped": True}),
    (losses.dist, "grouped", {"grouped": True, "relational": True}),
    (losses.dkd, "grouped", {"grouped": True, "classes": 3}),
    (first_class_counts_double, "grouped", {"grouped": True}),
    (mean_over_classes, "grouped", {"grouped": True}),
    (kl, "largest_only", {"largest": True}),
    (compiles_otherwise, "compiled", {}),
    (masked_after, "ignored", {"dense": True}),
    (mask_ignored, "ignored", {"dense": True}),
    (kl_by(lambda z: torch.log_softmax(z, 2)), "pixels", {"dense": True, "pixels": True}),
    (losses.cwd, "pixels", {"dense": True, "pixels": True}),
]  # fmt: skip


def planted(loss: Any, declared: dict[str, Any]) -> Any:
    """The loss with another declaration, which leaves the loss's own as it is."""
    if isinstance(loss, type):
        return type(loss.__name__, (loss,), {"compares": losses.Compares(**declared)})

    class With:
        """A callable with the loss's signature."""

        __wrapped__ = staticmethod(loss)
        __name__ = getattr(loss, "__name__", "planted")
        compares = losses.Compares(**declared)

        def __call__(self, *args: Any, **named: Any) -> Any:
            return loss(*args, **named)

    return With()


@pytest.mark.parametrize(
    ("loss", "name", "declared"), PLANTED, ids=[f"{n}-{one[1]}-{one[0].__name__}" for n, one in enumerate(PLANTED)]
)
def test_a_wrong_loss_is_caught_by_the_check_for_it(loss: Any, name: str, declared: dict[str, Any]) -> None:
    report = examine(planted(loss, declared), checks=[name])
    assert report.failures
    assert {one.check for one in report.failures} == {name}
    expected = ("no graph", "RuntimeError") if loss in (detached_student, constant_when_all_masked) else ()
    for one in report.failures:
        assert not one.what.startswith("it raises") or loss is refuses_two, one.what
        assert not expected or any(word in one.what for word in expected), one.what


def test_a_constant_part_of_the_gradient_has_to_be_declared() -> None:
    held = planted(half_detached, {"held": True})
    assert not examine(held, checks=["gradient"]).failures
    assert "Jacobian mismatch" in examine(half_detached, checks=["gradient"]).failures[0].what


def test_every_check_has_caught_something() -> None:
    assert {name for _, name, _ in PLANTED} == set(CHECKS)


def test_a_loss_that_raises_has_not_passed() -> None:
    def broken(student: Tensor, teacher: Tensor) -> Tensor:
        raise ZeroDivisionError("by design")

    report = examine(broken)
    assert "it raises ZeroDivisionError: by design" in {one.what for one in report.failures}
    assert len({one.check for one in report.failures}) >= 15
    assert [one.what for one in examine(lambda student: None, checks=["shape"]).failures] == [
        "it returns NoneType, not a tensor"
    ]
