"""Binding an objective to its models: which layers its terms read, and the adapters and modules that this needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.adapters import adapter, checked
from limbeck.data.order import stream_seed
from limbeck.errors import ModelError, NumericsError
from limbeck.losses.shapes import wide
from limbeck.objective.foreign import guarded
from limbeck.objective.links import Link
from limbeck.objective.places import Pair
from limbeck.objective.reduction import reduced
from limbeck.objective.signatures import asked, built
from limbeck.objective.terms import Term
from limbeck.objective.weighted import Objective
from limbeck.outputs import Outputs
from limbeck.pairing import Pairing, pair_layers, sites
from limbeck.taps import Tap
from limbeck.teachers import Keeps, ModuleTeacher, Teacher, evaluating, reading

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """What an objective is bound to.

    Args:
        student: the module that is trained; it is run once, in eval mode.
        preparation: of its inputs.
        teacher: what the terms compare with.
        inputs: a few samples ``[B, …]`` before any preparation.
        targets: int64 ``[N]``, labels of the training samples; -1 for none.
        classes: number of classes.
        seed: of the starting weights of adapters and loss modules.
    """

    student: nn.Module
    preparation: Callable[[Tensor], Tensor]
    teacher: Teacher | None
    inputs: Tensor
    targets: Tensor
    classes: int
    seed: int = 0

    @property
    def kept(self) -> bool:
        """Whether the teacher is a store, of which features are kept as one vector for each sample."""
        return isinstance(self.teacher, Keeps)

    def pooled(self) -> Pair | None:
        """The vectors that both classifiers are given; of a store, the single layer whose features are kept."""
        if not self.kept:
            return self.pairing.pooled
        theirs = getattr(self.teacher, "pooled", None)
        own = sites(self.student, self.preparation(self.inputs)).pooled if theirs else None
        return (theirs, own.address) if theirs and own else None

    @cached_property
    def pairing(self) -> Pairing:
        """Layers of both models that belong together.

        Raises:
            ModelError: if the teacher is no module.
        """
        if not isinstance(self.teacher, ModuleTeacher):
            kind = type(self.teacher).__name__
            raise ModelError(
                f"layers of {kind} can not be found by themselves",
                cure="say which layers with at=(teacher's, student's); a teacher must be a torch module for that",
            )
        theirs = self.inputs if self.teacher.normalization is None else self.teacher.normalization(self.inputs)
        return pair_layers(self.teacher.inside, self.student, self.preparation(self.inputs), theirs)


def bind(objective: Objective, scene: Scene, *, rehearse: bool = False) -> Objective:
    """The objective with links to the layers of these models; itself if no term waits for them.

    Both models are run once on the scene's inputs, so that what can not be computed is refused before any training.
    Adapters and loss modules start from weights that depend on the seed alone.

    Args:
        objective: whose terms may wait.
        scene: the models.
        rehearse: compute losses that are none of limbeck's once, too, where they wait for nothing: they may fail.

    Raises:
        ModelError: if a layer does not exist or is not called, or shapes can not be brought together.
        NumericsError: if a feature is not finite.

    Example:
        >>> from limbeck.objective import term
        >>> student, teacher = (nn.Sequential(nn.Linear(2, width), nn.Linear(width, 3)) for width in (4, 8))
        >>> scene = Scene(student, lambda x: x, ModuleTeacher(teacher), torch.ones(2, 2), torch.zeros(2).long(), 3)
        >>> bound = bind(Objective([term("fitnet", at="0")]), scene)
        >>> bound.layers("student"), sum(one.numel() for one in bound.modules.parameters())  # 4 · 8 weights, 8 biases
        (('0',), 40)
    """
    waiting = [one.name for one in objective.terms if one.waits or (rehearse and one.foreign)]
    if not waiting:
        return objective
    if scene.teacher is None and (term := next((one for one in objective.terms if one.needs_teacher), None)):
        raise ModelError(f"term '{term.name}' compares with a teacher, and there is no teacher", cure="give one")
    pairs = {one.name: _pairs(one, scene) for one in objective.terms if one.name in waiting}
    student, teacher = _features(pairs, scene)
    terms = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(scene.seed, 0, 0))
        for one in objective.terms:
            if one.name in waiting:
                one = replace(one, links=_links(one, pairs[one.name], student, teacher, scene))
                _try(one, student, teacher, scene)
            terms.append(one)
    return Objective(terms, balance=objective.balance)


def told(objective: Objective) -> list[str]:
    """A line for each pair of layers that the terms of a bound objective read, with its adapter and what that costs."""
    return [
        f"term '{name}': teacher's {theirs}, student's {own}: {how}"
        for name, theirs, own, how in layers_read(objective)
    ]


def layers_read(objective: Objective) -> list[tuple[str, str, str, str]]:
    """Each pair of layers that a bound objective reads: term, teacher's layer, student's, and the adapter in words."""
    found = []
    for one in objective.terms:
        for link in one.links:
            for theirs, own, made in zip(link.teacher, link.student, link.adapters, strict=True):
                how = "as they are" if made is None else str(getattr(made, "report", type(made).__name__))
                found.append((one.name, theirs, own, how))
    return found


def _pairs(one: Term, scene: Scene) -> tuple[Pair, ...]:
    """The pairs of layers that a term reads; none: it reads logits."""
    place = one.place
    if not isinstance(place, str):
        return place
    if place == "logits":
        return ()
    if place == "pooled":
        chosen = tuple(filter(None, [scene.pooled()]))
        if not chosen and not scene.kept and scene.pairing.decoded:
            raise ModelError(
                f"term '{one.name}' reads 'pooled', and models that give a score for each pixel pool no vector",
                cure="compare maps: at: last_stage, or at: [teacher's, student's]; limbeck layers MODEL shows names",
            )
        return _found(one, chosen)
    found = scene.pairing
    if place in ("each_stage", "all_stages"):
        chosen = tuple(found.stages)
    else:
        single = {"middle_stage": found.middle, "last_stage": found.last}[place]
        chosen = (single,) if single else ()
    return _found(one, chosen)


def _found(one: Term, chosen: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """The pairs of a site, of which there is one."""
    if not chosen:
        raise ModelError(
            f"term '{one.name}' reads '{one.place}', which is not found in both models",
            cure="say which layers with at: [teacher's, student's]; limbeck layers MODEL shows their names",
        )
    return chosen


def _features(pairs: Mapping[str, tuple[Pair, ...]], scene: Scene) -> tuple[Outputs, Outputs | None]:
    """What both models give at these layers, seen to be finite."""
    theirs = tuple(dict.fromkeys(teacher for found in pairs.values() for teacher, _ in found))
    own = tuple(dict.fromkeys(student for found in pairs.values() for _, student in found))
    with torch.no_grad():
        with evaluating(scene.student), Tap(scene.student, own) as tap:
            said = Outputs.of(scene.student(scene.preparation(scene.inputs)))
            student = replace(said, features=tap.read())
        teacher = None if scene.teacher is None else _said(reading(scene.teacher, theirs), scene.inputs)
    for whose, outputs in (("student", student), ("teacher", teacher)):
        for name, value in outputs.features.items() if outputs else ():
            if not bool(torch.isfinite(value).all()):
                raise NumericsError(
                    f"the features of layer '{name}' of the {whose} are not finite",
                    cure="look at its weights and its normalization, or choose another layer",
                )
    return student, teacher


def _said(teacher: Teacher, inputs: Tensor) -> Outputs:
    """What a teacher gives for these inputs; a store, which only knows its views, gives something of that shape."""
    like = getattr(teacher, "like", None)
    return teacher(inputs) if like is None else like(inputs)


def _links(
    one: Term, pairs: tuple[Pair, ...], student: Outputs, teacher: Outputs | None, scene: Scene
) -> tuple[Link, ...]:
    if not pairs:
        return (Link(_made(one, _shape(student.logits), _shape(student.logits), scene)),)
    if teacher is None:
        raise ModelError(f"term '{one.name}' reads layers of a teacher, and there is none", cure="use logits alone")
    adapters, own, theirs = [], [], []
    for pair in pairs:
        features = student.features[pair[1]], teacher.features[pair[0]]
        if scene.kept and one.adapter is None and features[0].ndim > 2:
            raise ModelError(
                f"term '{one.name}' reads layer '{pair[1]}' of the student, which gives {_shape(features[0])} for each "
                f"sample, and of the teacher's '{pair[0]}' one vector for each sample is kept: their mean",
                cure="compare it with a layer of the student that gives a vector, or ask the live teacher",
            )
        made = _adapter(one, pair, *map(_shape, features))
        if made is not None:
            with torch.no_grad(), evaluating(made):
                features = made(*(wide(side) for side in features))
        adapters.append(made)
        own.append(_shape(features[0]))
        theirs.append(_shape(features[1]))
    if one.compares.site == "all_stages":
        them, us = (tuple(side) for side in zip(*pairs, strict=True))
        return (Link(_made(one, own, theirs, scene), us, them, tuple(adapters), many=True),)
    return tuple(
        Link(_made(one, mine, their, scene), (name,), (their_name,), (made,))
        for (their_name, name), mine, their, made in zip(pairs, own, theirs, adapters, strict=True)
    )


def _try(one: Term, student: Outputs, teacher: Outputs | None, scene: Scene) -> None:
    """Compute a term once: a loss that does not take these shapes says so now. A copy: a loss may have a memory."""
    index, logits = torch.arange(len(scene.inputs)), student.logits
    target, mask = scene.targets[: len(index)].to(index.device), None
    if logits.ndim == 4:  # pixels have labels then, and may be ignored
        target = torch.zeros((len(logits), *logits.shape[2:]), dtype=torch.int64, device=logits.device)
        mask = target == 0
    with torch.no_grad():
        reduced(copy.deepcopy(one), student, teacher, target, None, None, index=index, mask=mask)


def _adapter(one: Term, pair: Pair, own: Shape, theirs: Shape) -> nn.Module | None:
    """What brings the student's features to the teacher's shape."""
    kind = one.adapter if one.adapter is not None else ("auto" if one.compares.same else "none")
    try:
        if isinstance(kind, nn.Module):
            return checked(copy.deepcopy(kind), own, theirs)
        made = None if kind == "none" else adapter(own, theirs, kind)
    except ModelError as error:
        text = f"term '{one.name}', layers '{pair[0]}' of the teacher and '{pair[1]}' of the student: {error.what}"
        raise ModelError(text, cure=error.cure) from None
    return made


def _made(one: Term, own: Any, theirs: Any, scene: Scene) -> Any:
    """The loss of a link: a function as it is, a module copied, a class built for the shapes."""
    if not built(one.loss):
        return copy.deepcopy(one.loss) if isinstance(one.loss, nn.Module) else one.loss
    known = {
        "student_shape": own,
        "teacher_shape": theirs,
        "samples": len(scene.targets),
        "classes": scene.classes,
        "targets": scene.targets,
    }
    given = {key: known[key] for key in asked(one.loss)}
    return guarded(one.name, lambda: one.loss(**given, **one.hyper)) if one.foreign else one.loss(**given, **one.hyper)


def _shape(features: Tensor) -> Shape:
    return tuple(features.shape[1:])


__all__ = ["Scene", "bind", "told"]
