"""A loss under examination: what it is given, how it is built and called."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import ModelError, RecipeError, nearest
from limbeck.losses.declare import declared
from limbeck.objective.signatures import EMPTY, asked, built, called

BATCH, CLASSES, SAMPLES = 6, 5, 16
Shapes = tuple[tuple[int, ...], ...]


class Broken(Exception):
    """What is asked of the loss can not be computed at all; its text is the finding."""


@dataclass(frozen=True)
class Given:
    """What one call is given; a loss of one layer is given the first tensor of each side."""

    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...]
    target: Tensor
    index: Tensor
    mask: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor], side: str = "both") -> Given:
        """The features or logits of a side, or of both, changed."""
        student = self.student if side == "teacher" else tuple(change(one) for one in self.student)
        teacher = self.teacher if side == "student" else tuple(change(one) for one in self.teacher)
        return replace(self, student=student, teacher=teacher)

    def to(self, dtype: torch.dtype) -> Given:
        return self.map(lambda tensor: tensor.to(dtype))

    def rows(self, which: Any) -> Given:
        """Some of the samples: by number, slice or bool."""
        return replace(self.map(lambda tensor: tensor[which]), target=self.target[which], index=self.index[which])

    def copied(self) -> Given:
        return self.map(lambda tensor: tensor.detach().clone())


@dataclass(frozen=True)
class Outcome:
    """A value with its gradients: of each student's tensor, of the teacher's (None: none), of parameters."""

    value: Tensor
    student: tuple[Tensor, ...]
    teacher: tuple[Tensor | None, ...]
    parameters: dict[str, Tensor | None]

    def gradients(self) -> list[Tensor]:
        """All that there are but the teacher's."""
        return [*self.student, *(one for one in self.parameters.values() if one is not None)]


class Subject:
    """A loss with its hyperparameters.

    Args:
        loss: a function, a module's class, or a recipe's name.
        hyper: its hyperparameters.
        dense: give it logits ``[B, C, H, W]``.
    """

    def __init__(self, loss: Any, hyper: dict[str, Any], *, dense: bool = False) -> None:
        self.loss, self.hyper = found(loss), hyper
        if isinstance(self.loss, nn.Module):
            raise RecipeError(
                f"{type(self.loss).__name__} is a module that is built already",
                cure="give its class, and its arguments",
            )
        self.compares = declared(self.loss)
        self.takes = called(self.loss)
        self.dense = dense or self.compares.dense
        self._modules: dict[tuple[Shapes, Shapes], nn.Module] = {}
        self._masks_rows: bool | None = None

    @property
    def logits(self) -> bool:
        return self.compares.site == "logits"

    @property
    def relational(self) -> bool:
        return self.compares.relational

    @property
    def labels(self) -> bool:
        """Whether the loss needs labels."""
        return "target" in self.takes and self.takes["target"].default is EMPTY

    @property
    def sides(self) -> tuple[str, ...]:
        return ("student", "teacher") if "teacher" in self.takes else ("student",)

    def with_hyper(self, **hyper: Any) -> Subject:
        """The same with other hyperparameters."""
        return Subject(self.loss, {**self.hyper, **hyper}, dense=self.dense)

    def given(self, seed: int = 0, *, batch: int = BATCH, classes: int = CLASSES, same: bool = False) -> Given:
        """Random inputs in float64; ``same``: of one shape."""
        random = torch.Generator().manual_seed(1000 + seed)
        student, teacher = self._shapes(classes, same or self.compares.same)
        index = torch.randperm(max(SAMPLES, batch), generator=random)[:batch]
        target = index.view(batch, *[1] * (2 * self.places)) % classes
        if self.places:
            target = (target + torch.arange(student[0][-1])).expand(batch, *student[0][1:]) % classes
        size = 2.0 if self.logits else 1.0

        def drawn(shapes: Shapes) -> tuple[Tensor, ...]:
            return tuple(size * torch.randn(batch, *one, generator=random, dtype=torch.float64) for one in shapes)

        return Given(drawn(student), drawn(teacher), target.contiguous(), index)

    @property
    def places(self) -> bool:
        """Whether it is given logits of maps, ``[B, C, H, W]``."""
        return self.logits and self.dense

    def _shapes(self, classes: int, same: bool) -> tuple[Shapes, Shapes]:
        site = self.compares.site
        if site == "logits":
            one: Shapes = ((classes, 4, 4) if self.dense else (classes,),)
            return one, one
        if site == "all_stages":
            student: Shapes = ((4, 8, 8), (5, 4, 4), (6, 2, 2))
            return student, student if same else ((5, 8, 8), (6, 4, 4), (4, 2, 2))
        student, teacher = (((4,),), ((6,),)) if site == "pooled" else (((4, 4, 4),), ((6, 4, 4),))
        return student, student if same else teacher

    def masked(self, given: Given, kept: Tensor) -> Given:
        """With a mask of whole samples: one bool for each row of logits, or for each sample."""
        if self._masks_rows is None and self.places:
            try:
                self(replace(given, mask=torch.ones(given.target.shape, dtype=torch.bool)))
                self._masks_rows = True
            except ModelError:
                self._masks_rows = False
        if self._masks_rows and kept.ndim == 1:
            kept = kept.view(-1, *[1] * (given.target.ndim - 1)).expand(given.target.shape).contiguous()
        return replace(given, mask=kept)

    def module(self, given: Given, *, training: bool = False) -> nn.Module | None:
        """A copy of the module for inputs of these shapes, after a first step; None: the loss is a function."""
        if not built(self.loss):
            return None
        shapes = (_shapes(given.student), _shapes(given.teacher))
        if shapes not in self._modules:
            self._modules[shapes] = self._built(given, *shapes)
        module = copy.deepcopy(self._modules[shapes])
        return module.to(given.student[0].dtype if given.student[0].dtype == torch.float64 else torch.float32).train(
            training
        )

    def _built(self, given: Given, student: Shapes, teacher: Shapes) -> nn.Module:
        many = self.compares.site == "all_stages"
        classes = torch.arange(max(SAMPLES, len(given.index))) % CLASSES
        offers = {
            "student_shape": list(student) if many else student[0],
            "teacher_shape": list(teacher) if many else teacher[0],
            "samples": len(classes), "classes": CLASSES, "targets": classes,
        }  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            module: nn.Module = self.loss(**{key: offers[key] for key in asked(self.loss)}, **self.hyper)
            first = self.given(seed=99, same=student == teacher).to(torch.float32)
            if _shapes(first.student) == student and _shapes(first.teacher) == teacher:
                self.through(module.train(), first)  # what the first batch fixes is fixed
                getattr(module, "after_step", lambda: None)()
        return module

    def __call__(self, given: Given, *, module: nn.Module | None = None, training: bool = False) -> Tensor:
        """The loss's value."""
        if module is None:
            module = self.module(given, training=training)
        return self.through(self.loss if module is None else module, given)

    def through(self, loss: Callable[..., Any], given: Given) -> Tensor:
        """The value that a function, or a module, gives in the loss's place."""
        many = self.compares.site == "all_stages"
        sides = [list(getattr(given, one)) if many else getattr(given, one)[0] for one in self.sides]
        values = {one.name: getattr(given, one.name) for one in fields(Given)}
        named = {key: values[key] for key in ("target", "index", "mask") if key in self.takes}
        if named.get("mask", 0) is None:
            del named["mask"]
        value = loss(*sides, **named, **({} if built(self.loss) else self.hyper))
        if not isinstance(value, Tensor):
            raise Broken(f"it returns {type(value).__name__}, not a tensor")
        return value

    def outcome(self, given: Given, *, call: Callable[..., Any] | None = None, training: bool = False) -> Outcome:
        """The value and the gradients of its sum.

        Args:
            given: the inputs, which stay as they are.
            call: instead of the loss, such as what was compiled of it.
            training: of a module.
        """
        given = given.map(lambda tensor: tensor.detach().clone().requires_grad_())
        module = call if isinstance(call, nn.Module) else self.module(given, training=training)
        value = self.through(next(one for one in (call, module, self.loss) if one is not None), given)
        if not value.requires_grad:
            raise Broken("the value has no graph: the student gets no gradient")
        parameters = dict(module.named_parameters()) if module is not None else {}
        wanted = [*given.student, *given.teacher, *parameters.values()]
        gradients = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
        own, both = len(given.student), len(given.student) + len(given.teacher)
        student = tuple(
            torch.zeros_like(one) if gradient is None else gradient
            for one, gradient in zip(given.student, gradients, strict=False)
        )
        return Outcome(
            value.detach(), student, gradients[own:both], dict(zip(parameters, gradients[both:], strict=True))
        )


def found(loss: Any) -> Any:
    """The loss of a recipe's name; anything else is given back."""
    if not isinstance(loss, str):
        return loss
    if loss not in losses.TABLE:
        raise RecipeError(f"there is no loss '{loss}'{nearest(loss, losses.TABLE)}")
    return losses.TABLE[loss]


def differs(found: Tensor, expected: Tensor, tolerance: float, *, scale: float | None = None) -> str | None:
    """How two results differ by more than a part of the largest expected element; None: they do not.

    Example:
        >>> differs(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), 1e-3)
        'differ by 0.5, expected at most 0.002'
        >>> differs(torch.tensor([1.0]), torch.tensor([1.0]), 1e-3)
    """
    if found.shape != expected.shape:
        return f"have shapes {tuple(found.shape)} and {tuple(expected.shape)}"
    if not found.numel():
        return None
    found, expected = found.detach().double(), expected.detach().double()
    largest = float(expected.abs().max()) if scale is None else scale
    error, allowed = float((found - expected).abs().max()), tolerance * largest + 1e-12
    return None if error <= allowed else f"differ by {error:.3g}, expected at most {allowed:.3g}"


def finite(outcome: Outcome) -> str | None:
    """What of an outcome is not finite; None: nothing."""
    parts = {"value": [outcome.value], "student's gradient": list(outcome.student)}
    parts["parameters' gradient"] = [one for one in outcome.parameters.values() if one is not None]
    for name, tensors in parts.items():
        wrong = sum(int((~torch.isfinite(one)).sum()) for one in tensors)
        if wrong:
            return f"{wrong} of {sum(one.numel() for one in tensors)} elements of the {name} are not finite"
    return None


def largest(tensors: Sequence[Tensor]) -> float:
    """The largest absolute element of all; 0 of none."""
    return max((float(one.detach().abs().max()) for one in tensors if one.numel()), default=0.0)


def _shapes(tensors: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(one.shape[1:]) for one in tensors)
