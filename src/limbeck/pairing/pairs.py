"""Which layers of two models belong together, found by running both once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from limbeck.adapters import estimate
from limbeck.errors import ModelError
from limbeck.pairing.looking import Shape, Site, Sites, by, octaves
from limbeck.pairing.sites import sites

_OCTAVE = 0.5  # sizes of stages of two models are alike up to this power of two


@dataclass(frozen=True)
class Pairing:
    """Pairs of layers ``(teacher's, student's)``; iterating gives those of the stages, as a term's ``at`` takes them.

    Args:
        stages: shallow to deep.
        pooled: the vectors that the classifiers are given; None if one is not found.
        shapes: of all of them, without the batch: the teacher's by address, the student's by address.
        notes: what was not found.
        decoded: of models that give a score for each pixel, the maps that their classifiers are given.
    """

    stages: tuple[tuple[str, str], ...]
    pooled: tuple[str, str] | None
    shapes: tuple[dict[str, Shape], dict[str, Shape]]
    notes: tuple[str, ...] = ()
    decoded: tuple[str, str] | None = None

    @property
    def middle(self) -> tuple[str, str] | None:
        """The stage in the middle; of an even number the shallower one."""
        return self.stages[(len(self.stages) - 1) // 2] if self.stages else None

    @property
    def last(self) -> tuple[str, str] | None:
        """The deepest stage."""
        return self.stages[-1] if self.stages else None

    def rows(self) -> list[dict[str, Any]]:
        """Each pair with the shapes of both sides and the adapter between them: its kind, and what it costs."""
        found = [*((pair, "stage") for pair in self.stages), (self.pooled, "pooled"), (self.decoded, "decoded")]
        return [self._row(pair, site) for pair, site in found if pair]

    def cells(self, *costs: str) -> list[list[str]]:
        """The rows as text, for a table: site, layer and shape of both models, adapter, and its ``costs``."""
        return [
            [
                row["site"],
                row["teacher"],
                by(row["teacher_shape"]),
                row["student"],
                by(row["student_shape"]),
                row["adapter"],
                *("–" if row[key] is None else f"{row[key]:,}" for key in costs),
            ]
            for row in self.rows()
        ]

    def _row(self, pair: tuple[str, str], site: str) -> dict[str, Any]:
        theirs, own = (of[address] for of, address in zip(self.shapes, pair, strict=True))
        also = [name for name in ("middle", "last") if site == "stage" and getattr(self, name) == pair]
        row = {"site": ", ".join([site, *also]), "teacher": pair[0], "teacher_shape": theirs}
        row |= {"student": pair[1], "student_shape": own}
        try:
            told = estimate(own, theirs)
        except ModelError as error:
            return row | {"adapter": f"none fits: {error.what}", "parameters": None, "macs": None}
        return row | {"adapter": told.kind, "parameters": told.parameters, "macs": told.macs}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __str__(self) -> str:
        lines = [["site", "teacher", "shape", "student", "shape", "adapter", "parameters"], *self.cells("parameters")]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([*text, *self.notes])


def pair_layers(
    teacher: nn.Module, student: nn.Module, inputs: Tensor, teacher_inputs: Tensor | None = None
) -> Pairing:
    """Propose which layers of two models to compare: their stages, and the vectors that their classifiers are given.

    Both are run once, in eval mode without gradients. The deepest stages belong together; from there to the shallow
    end, stages whose size is the same multiple of the deepest one's. Where all stages of a model have one size, as
    those of a ViT, they are counted from the deep end. Of two models that give a score for each pixel, stages of the
    same stride belong together, so that places are compared with the same places.

    Args:
        teacher: any module that takes the inputs.
        student: another.
        inputs: a few samples ``[B, …]``, prepared for the student.
        teacher_inputs: prepared for the teacher; the same by default.

    Raises:
        ModelError: if a model does not run on the inputs.

    Example:
        >>> import torch
        >>> def net(*widths):
        ...     ins = (3, *widths)
        ...     convs = [nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(ins, widths)]
        ...     return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
        >>> pairs = pair_layers(net(8, 16, 32), net(4, 8), torch.zeros(1, 3, 32, 32))
        >>> list(pairs), pairs.pooled
        ([('1', '0'), ('2', '1')], ('5:input', '4:input'))
        >>> print(pairs)  # doctest: +NORMALIZE_WHITESPACE
        site           teacher  shape   student  shape    adapter        parameters
        stage, middle  1        16×8×8  0        4×16×16  resize + conv  96
        stage, last    2        32×4×4  1        8×8×8    resize + conv  320
        pooled         5:input  32      4:input  8        linear         288
    """
    given = (("teacher", teacher, inputs if teacher_inputs is None else teacher_inputs), ("student", student, inputs))
    theirs, own = (_sites_of(*one) for one in given)
    dense = theirs.dense and own.dense
    images = (_sides(given[0][2]), _sides(given[1][2])) if dense else None
    found = _matched(theirs.stages, own.stages, images) or _matched(theirs.stages, own.stages)
    pooled = (theirs.pooled, own.pooled) if theirs.pooled and own.pooled else None
    decoded = (theirs.decoded, own.decoded) if dense and theirs.decoded and own.decoded else None
    pairs = [*found, *(pair for pair in (pooled, decoded) if pair)]
    both = tuple({pair[side].address: pair[side].shape for pair in pairs} for side in (0, 1))
    notes = [f"{who}: {one.note}" for who, one in (("teacher", theirs), ("student", own)) if one.note]
    return Pairing(
        tuple((one.address, other.address) for one, other in found),
        (pooled[0].address, pooled[1].address) if pooled else None,
        (both[0], both[1]),
        tuple(notes),
        (decoded[0].address, decoded[1].address) if decoded else None,
    )


def _sites_of(who: str, module: nn.Module, inputs: Tensor) -> Sites:
    try:
        return sites(module, inputs)
    except ModelError as error:
        raise ModelError(f"the {who}: {error.what}", cure=error.cure) from error


def _sides(inputs: Tensor) -> float:
    return octaves(tuple(inputs.shape[1:]))


def _matched(
    theirs: Sequence[Site], own: Sequence[Site], images: tuple[float, float] | None = None
) -> list[tuple[Site, Site]]:
    """Pairs of stages, shallow to deep, found from the deep end: of equal size by the deepest, or by the images."""
    if not theirs or not own:
        return []
    whole = images or (octaves(theirs[-1].shape), octaves(own[-1].shape))
    sizes = [[octaves(site.shape) - one for site in side] for side, one in zip((theirs, own), whole, strict=True)]
    counted = any(len(side) > 1 and max(side) - min(side) < _OCTAVE for side in sizes)
    pairs: list[tuple[Site, Site]] = []
    one, other = len(theirs) - 1, len(own) - 1
    while one >= 0 and other >= 0:
        apart = sizes[0][one] - sizes[1][other]
        if counted or abs(apart) <= _OCTAVE:
            pairs.append((theirs[one], own[other]))
            one, other = one - 1, other - 1
        elif apart > 0:
            other -= 1
        else:
            one -= 1
    return pairs[::-1]
