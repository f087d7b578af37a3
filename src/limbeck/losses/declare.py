"""What a loss says of itself: what it compares, where that is found, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Site = Literal["logits", "each_stage", "middle_stage", "last_stage", "all_stages", "pooled"]
Invariance = Literal["shift", "scale_row", "scale", "rotation"]
Any_ = TypeVar("Any_", bound=Callable[..., Any])


@dataclass(frozen=True)
class Compares:
    """What a loss compares, said once by :func:`compares`; the objective, the docs and the conformance suite read it.

    Args:
        site: where student and teacher are taken from if a term does not say ``at``. ``logits``: what the models give.
            ``each_stage``: the last feature map of each stage, a call for each pair, the values added.
            ``middle_stage``, ``last_stage``: of one of them. ``all_stages``: a call with the lists of all.
            ``pooled``: the vector that the classifier is given.
        same: whether both must have one shape: features then go through an adapter by default.
        relational: the samples of a batch are compared with each other: the value is a scalar, and several processes
            gather their samples first.
        weight: the published factor, which a term takes if it is not given one.
        equal: the value where student and teacher are equal; None: it depends on them.
        invariant: what changes nothing: ``shift``: a number added to all logits of a sample, of the student or of the
            teacher; ``scale_row``: logits of a sample times a positive number; ``scale``: all features of a model times
            a positive number; ``rotation``: features of a model times an orthogonal matrix.
        classes: least number of classes.
        batch: least number of samples that give a gradient; fewer give 0.
        dense: logits are ``[B, C, H, W]``.
        pixels: of logits ``[B, C, H, W]`` each pixel is compared by itself, the value is ``[B, H, W]``: any part of a
            map has the values that it has in the whole.
        summed: a scalar that is no mean over samples, so that pieces of a batch do not add up to the batch's value; a
            batch that is computed in pieces is refused.
        held: a part of the value that depends on the student is a constant in the gradient, as the method wants it.
        grouped: a divergence of softened probabilities that may also be computed between groups of classes, so that of
            a teacher with many classes the largest logits and the weight of the rest suffice; it is then at most what
            it is of all classes. A loss with ``standardize`` is so without it.
        largest: of the teacher's logits it only looks which is the largest.

    Example:
        >>> Compares("pooled", same=False).adapted, Compares("last_stage").adapted
        (False, True)
    """

    site: Site = "logits"
    same: bool = True
    relational: bool = False
    weight: float = 1.0
    equal: float | None = None
    invariant: tuple[Invariance, ...] = ()
    classes: int = 2
    batch: int = 1
    dense: bool = False
    pixels: bool = False
    summed: bool = False
    held: bool = False
    grouped: bool = False
    largest: bool = False

    @property
    def adapted(self) -> bool:
        """Whether features go through an adapter by default."""
        return self.same and self.site != "logits"


def compares(site: Site = "logits", **more: Any) -> Callable[[Any_], Any_]:
    """Declare what a loss compares, see :class:`Compares`.

    Example:
        >>> @compares("pooled", same=False, relational=True, weight=25.0, equal=0.0)
        ... def mine(student, teacher): ...
        >>> declared(mine).weight
        25.0
    """

    def declare(loss: Any_) -> Any_:
        loss.compares = Compares(site, **more)  # type: ignore[attr-defined]
        return loss

    return declare


def declared(loss: Any) -> Compares:
    """What a loss, or a module that computes one, has declared; a loss that says nothing compares logits.

    Example:
        >>> declared(lambda student, teacher: student).site
        'logits'
    """
    return getattr(loss, "compares", Compares())
