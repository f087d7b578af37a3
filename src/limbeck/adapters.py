"""Adapters: what brings the features of two layers to one shape. Only the student's side is ever trained."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, nearest

Shape = tuple[int, ...]
KINDS = ("auto", "none", "resize", "conv", "linear", "tokens", "pooled")
_NAMES = {3: "map", 2: "tokens", 1: "vector"}
# Tokens beside the grid, first in the sequence: none, a class token, that and a distillation token, four register
# tokens without and with a class token.
_BESIDE = (0, 1, 2, 4, 5)


@dataclass(frozen=True)
class Report:
    """What an adapter does and what it costs.

    Args:
        kind: its steps, such as ``resize + conv``.
        student: the shape of the student's features, without the batch.
        teacher: of the teacher's.
        shape: of both afterwards.
        parameters: trained with the student; the teacher's side has none.
        macs: multiply-accumulates for each sample, of convolution and linear layers; None: not known.

    Example:
        >>> print(Report("conv", (64, 8, 8), (128, 8, 8), (128, 8, 8), 8448, 524288))
        conv 64×8×8 → 128×8×8, 8,448 parameters, 0.52 M MACs
    """

    kind: str
    student: Shape
    teacher: Shape
    shape: Shape
    parameters: int
    macs: int | None

    def __str__(self) -> str:
        text = f"{self.kind} {_by(self.student)} → {_by(self.shape)}"
        if self.teacher != self.shape:
            text += f", teacher's {_by(self.teacher)} → {_by(self.shape)}"
        text += f", {self.parameters:,} parameters" if self.parameters else ", no parameters"
        return text + (f", {_millions(self.macs)} MACs" if self.macs else "")


class Adapter(nn.Module):
    """Brings the features of both layers to one shape: ``(student, teacher) -> (student, teacher)``.

    Args:
        student: trained with the student.
        teacher: without parameters.
        report: what they do.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, report: Report) -> None:
        super().__init__()
        self.student, self.teacher, self.report = student, teacher, report

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(student), self.teacher(teacher)

    def extra_repr(self) -> str:
        return str(self.report)


class Given(nn.Module):
    """A user's module as an adapter.

    Args:
        module: takes student and teacher and gives both, or takes and gives the student alone.
        both: which of these.
        report: what it does.
    """

    def __init__(self, module: nn.Module, both: bool, report: Report) -> None:
        super().__init__()
        self.module, self.both, self.report = module, both, report

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.module(student, teacher) if self.both else (self.module(student), teacher)


def adapter(student_shape: Shape, teacher_shape: Shape, kind: str = "auto") -> Adapter:
    """A new adapter between two layers, its starting weights from torch's global generator.

    ``auto`` takes the least that is needed. Where sizes differ, the larger side is averaged to the smaller; where
    widths differ, the student's go through a 1×1 convolution with BatchNorm (maps) or a linear layer (tokens, vectors).

    Args:
        student_shape: without the batch: ``(C, H, W)`` a map, ``(N, D)`` tokens, ``(D,)`` a vector.
        teacher_shape: the same of the teacher.
        kind: ``auto``; ``none``: shapes are equal; ``resize``: sizes only; ``conv``: to maps, always a 1×1 convolution;
            ``linear``: to tokens or vectors, always a linear layer; ``tokens``: maps are read as tokens;
            ``pooled``: to vectors, the mean over positions. Tokens become a map of h·w positions of the other map's
            proportions (else a square); up to two class tokens and four registers before them are dropped.

    Raises:
        ModelError: if there is no such kind, or it does not fit the shapes.

    Example:
        >>> print(adapter((64, 8, 8), (128, 8, 8)).report)  # 64 · 128 weights, 2 · 128 of the BatchNorm
        conv 64×8×8 → 128×8×8, 8,448 parameters, 0.52 M MACs
        >>> vit = adapter((256, 7, 7), (197, 384))
        >>> print(vit.report)
        tokens + resize + conv 256×7×7 → 384×7×7, teacher's 197×384 → 384×7×7, 99,072 parameters, 4.82 M MACs
        >>> [tuple(side.shape) for side in vit(torch.zeros(2, 256, 7, 7), torch.zeros(2, 197, 384))]
        [(2, 384, 7, 7), (2, 384, 7, 7)]
    """
    plan = _planned(tuple(student_shape), tuple(teacher_shape), kind)
    trained = plan.trained()
    student = nn.Sequential(*plan.sides[0].steps, *trained)
    return Adapter(student, nn.Sequential(*plan.sides[1].steps), plan.report(trained))


def estimate(student_shape: Shape, teacher_shape: Shape, kind: str = "auto") -> Report:
    """What :func:`adapter` would make, without drawing any weights.

    Raises:
        ModelError: as :func:`adapter` does.

    Example:
        >>> print(estimate((10,), (20,)))
        linear 10 → 20, 220 parameters, 200 MACs
    """
    plan = _planned(tuple(student_shape), tuple(teacher_shape), kind)
    with torch.device("meta"):
        return plan.report(plan.trained())


def checked(module: nn.Module, student_shape: Shape, teacher_shape: Shape) -> nn.Module:
    """A user's module as an adapter, tried on zeros in eval mode.

    Args:
        module: ``(student, teacher) -> (student, teacher)``, or a module of one input for the student alone.
        student_shape: without the batch.
        teacher_shape: without the batch.

    Returns:
        An adapter with its ``report``; the module is its part ``module``, or the module itself if it has a report.

    Raises:
        ModelError: if the module fails on these shapes, gives something else than two tensors of one shape, or would
            change the teacher's side by training.

    Example:
        >>> print(checked(nn.Conv2d(8, 16, 1, bias=False), (8, 4, 4), (16, 4, 4)).report)
        Conv2d 8×4×4 → 16×4×4, 128 parameters
    """
    first = next(iter([*module.parameters(), *module.buffers()]), None)
    device = None if first is None else first.device
    shapes = tuple(student_shape), tuple(teacher_shape)
    given = [torch.zeros(2, *shape, device=device) for shape in shapes]
    name, was = type(module).__name__, [part for part in module.modules() if part.training]
    both = _takes_two(module)
    told = f"the adapter {name}, given the student's {_by(shapes[0])} and the teacher's {_by(shapes[1])},"
    module.eval()
    try:
        with torch.enable_grad():
            found = module(*given) if both else (module(given[0]), given[1])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{told} fails: {type(error).__name__}: {text}", cure="limbeck layers shows shapes") from error
    finally:
        for part in was:
            part.training = True
    two = isinstance(found, tuple | list) and len(found) == 2
    if not two or not all(isinstance(one, Tensor) for one in found):
        raise ModelError(f"{told} gives {type(found).__name__}", cure="return two tensors: student's and teacher's")
    after = [tuple(one.shape) for one in found]
    if after[0] != after[1] or after[0][:1] != (2,):
        text = " and ".join(_by(shape) for shape in after)
        raise ModelError(f"{told} makes {text} of a batch of two", cure="both need one shape, the samples first")
    if found[1].requires_grad:
        cure = "leave the teacher's side without parameters"
        raise ModelError(f"{told} has parameters on the teacher's side: trained, it could make both sides 0", cure=cure)
    if hasattr(module, "report"):
        return module
    count = sum(one.numel() for one in module.parameters())
    return Given(module, both, Report(name, *shapes, after[0][1:], count, None))


@dataclass
class _Side:
    """The features of one side on their way: their shape, and the steps so far, none with parameters."""

    shape: Shape
    steps: list[nn.Module]

    def add(self, step: nn.Module, shape: Shape) -> None:
        self.steps.append(step)
        self.shape = shape


class _Plan:
    """The steps of an adapter: both sides to one form and size, then the student's to the teacher's width."""

    def __init__(self, student: Shape, teacher: Shape, kind: str) -> None:
        self.before, self.kind = (student, teacher), kind
        self.sides = _Side(student, []), _Side(teacher, [])
        self.names: list[str] = []

    def to_vectors(self) -> None:
        for side in self.sides:
            if len(side.shape) > 1:
                self._name("pooled")
                width = side.shape[-1] if len(side.shape) == 2 else side.shape[0]
                side.add(_Mean(-2 if len(side.shape) == 2 else (-2, -1)), (width,))

    def to_maps(self) -> None:
        """Tokens become maps, then the larger is averaged to the smaller."""
        like = next((side.shape[1:] for side in self.sides if len(side.shape) == 3), (1, 1))
        for side in self.sides:
            if len(side.shape) == 2:
                self._name("tokens")
                grid = _grid(side.shape[0], like)
                if grid is None:
                    raise self.refused(f"{side.shape[0]} tokens are no grid of {_by(like)} proportions")
                side.add(_Grid(grid), (side.shape[1], *grid))
        self.resize()

    def resize(self) -> None:
        sizes = [side.shape[1:] for side in self.sides]
        height, width = (min(pair) for pair in zip(*sizes, strict=True))
        for side in self.sides:
            if side.shape[1:] != (height, width):
                self._name("resize")
                side.add(nn.AdaptiveAvgPool2d((height, width)), (side.shape[0], height, width))

    def to_tokens(self) -> None:
        """Both as tokens; where their numbers differ they have to be grids, and are made equal as maps are."""
        counts = [side.shape[0] if len(side.shape) == 2 else math.prod(side.shape[1:]) for side in self.sides]
        if counts[0] != counts[1]:
            self.to_maps()
        for side in self.sides:
            if len(side.shape) == 3:
                self._name("tokens")
                side.add(_Flat(), (math.prod(side.shape[1:]), side.shape[0]))

    def trained(self) -> list[nn.Module]:
        """New layers for the student's side; the last step of the plan."""
        (shape, target), force = (side.shape for side in self.sides), self.kind in ("conv", "linear")
        if shape == target and not force:
            return []
        if len(shape) == 3:
            return [nn.Conv2d(shape[0], target[0], 1, bias=False), nn.BatchNorm2d(target[0])]
        return [nn.Linear(shape[-1], target[-1])]

    def report(self, trained: list[nn.Module]) -> Report:
        target = self.sides[1].shape
        positions = math.prod(target) // target[0 if len(target) == 3 else -1]
        names = [*self.names, *("conv" if isinstance(one, nn.Conv2d) else "linear" for one in trained[:1])]
        parameters = sum(value.numel() for one in trained for value in one.parameters())
        macs = positions * (next(iter(trained[0].parameters())).numel() if trained else 0)
        return Report(" + ".join(names) or "none", *self.before, target, parameters, macs)

    def refused(self, why: str) -> ModelError:
        student, teacher = self.before
        return ModelError(
            f"adapter '{self.kind}' does not bridge the student's {_said(student)} and the teacher's {_said(teacher)}: "
            f"{why}",
            cure="choose layers of like shapes (limbeck layers MODEL --pair OTHER proposes some), "
            "or give an nn.Module that takes both and gives both in one shape",
        )

    def _name(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)


def _planned(student: Shape, teacher: Shape, kind: str) -> _Plan:
    if kind not in KINDS:
        raise ModelError(f"there is no adapter '{kind}'{nearest(kind, KINDS)}", cure=f"known: {', '.join(KINDS)}")
    plan = _Plan(student, teacher, kind)
    forms = sorted(len(shape) for shape in (student, teacher))
    if kind == "none" or (kind == "auto" and student == teacher):
        if student != teacher:
            raise plan.refused("they are not equal")
        return plan
    for shape, other in ((student, teacher), (teacher, student)):
        if len(shape) not in _NAMES or min(shape) < 1:
            raise plan.refused(f"{_by(shape)} is no map (C, H, W), no tokens (N, D) and no vector (D,)")
        if len(shape) == 3 and _channels_last(shape, other):
            raise plan.refused(f"{_by(shape)} looks like a map whose channels come last")
    if kind == "resize":
        if forms != [3, 3] or student[0] != teacher[0]:
            raise plan.refused("it changes the size of maps of equally many channels; conv changes channels too")
        plan.resize()
    elif kind == "pooled" or (kind in ("auto", "linear") and forms[0] == 1):
        plan.to_vectors()
    elif forms[0] == 1:
        raise plan.refused("a vector has no positions; pooled brings both to vectors")
    elif kind == "conv" or (kind == "auto" and forms[1] == 3):
        plan.to_maps()
    elif kind == "linear" and forms == [3, 3]:
        raise plan.refused("it is for vectors and tokens; conv is for maps")
    else:
        plan.to_tokens()
    return plan


class _Mean(nn.Module):
    """The mean over positions."""

    def __init__(self, dims: int | tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=self.dims)


class _Grid(nn.Module):
    """Tokens ``[B, k + h·w, D]`` as a map ``[B, D, h, w]``; the first k are dropped."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.grid[0] * self.grid[1]
        return tokens[:, tokens.shape[1] - positions :].transpose(1, 2).unflatten(2, self.grid)


class _Flat(nn.Module):
    """A map ``[B, C, h, w]`` as tokens ``[B, h·w, C]``."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)


def _grid(count: int, like: Shape) -> tuple[int, int] | None:
    """Rows and columns of so many tokens, in the proportions of a map; None if there is no such grid."""
    common = math.gcd(*like)
    rows, columns = (side // common for side in like)
    for beside in _BESIDE:
        times = math.isqrt(max(count - beside, 0) // (rows * columns))
        if times and rows * columns * times**2 == count - beside:
            return rows * times, columns * times
    return None


def _channels_last(shape: Shape, other: Shape) -> bool:
    """Whether a map seems to end in its channels: only then it has the proportions of the other map, or of a square."""
    if len(other) == 3 and shape != other:
        rows, columns = other[1:]
        if shape[0] * columns == shape[1] * rows and shape[1] * columns != shape[2] * rows:
            return True
    return shape[0] == shape[1] and shape[2] > 2 * shape[1]


def _takes_two(module: nn.Module) -> bool:
    parameters: list[Any] = list(inspect.signature(module.forward).parameters.values())
    needed = [one for one in parameters if one.default is one.empty and one.kind in (0, 1)]
    return len(needed) >= 2 or (len(needed) < 2 and any(one.kind == one.VAR_POSITIONAL for one in parameters))


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _said(shape: Shape) -> str:
    return f"{_by(shape)} ({_NAMES.get(len(shape), 'neither map nor tokens nor vector')})"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M" if count >= 1e4 else f"{count:,}"
