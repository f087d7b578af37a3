"""SimKD's student: a projector and the trained teacher's classifier become part of what is trained and shipped.

Chen et al., CVPR 2022, https://arxiv.org/abs/2203.14001. The control stays the plain student.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.order import stream_seed
from limbeck.errors import ModelError, RecipeError
from limbeck.evaluation.sizes import parameters
from limbeck.losses import simkd
from limbeck.models.reuse import ReusesClassifier, reuse_classifier
from limbeck.objective import Objective, Scene, Term
from limbeck.objective.places import Pair
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.fits import some_inputs
from limbeck.teachers import ModuleTeacher, Teacher
from limbeck.teachers.modules import ReorderedModule

PROJECTOR = "projector"  # the layer of ReusesClassifier that the loss reads
FEW = 4  # samples that show the shapes
CURE = "give one torch module as the teacher, or distill with a term such as kl or fitnet"


def keeps_classifier(objective: Objective) -> bool:
    """Whether a term makes the teacher's classifier a part of the student.

    Example:
        >>> from limbeck.objective import term
        >>> keeps_classifier(Objective([term("simkd")])), keeps_classifier(Objective([term("kl")]))
        (True, False)
    """
    return any(one.loss is simkd for one in objective.terms)


def check(experiment: Experiment) -> None:
    """Refuse what simkd can not have: no teacher, several, or one without a classifier that could be taken.

    Raises:
        RecipeError: if there is not one teacher, or the term reads other layers than one pair.
        ModelError: if the teacher is no module.
    """
    if not keeps_classifier(experiment.objective):
        return
    name = _term(experiment.objective).name
    if len(experiment.teachers) != 1:
        having = f"{len(experiment.teachers)} teachers" if experiment.teachers else "no trained teacher"
        raise RecipeError(f"term '{name}' keeps the classifier of one teacher; this run has {having}", cure=CURE)
    if not isinstance(experiment.teachers[0], Candidate):
        raise _no_module(name, experiment.teachers[0])


def reuse(objective: Objective, scene: Scene) -> tuple[ReusesClassifier, Objective]:
    """The student that simkd trains, and the objective that reads its projector.

    Args:
        objective: with a term simkd. Its ``at`` names the last maps (teacher's, student's); None: they are found.
        scene: the plain student, which is copied, and the teacher, whose classifier is; the projector starts from
            weights that depend on the seed alone.

    Raises:
        RecipeError: if the term has an adapter, or another place than one pair of layers.
        ModelError: if the teacher is no module, or its logits are not its head's of the mean of its last map.

    Example:
        >>> from limbeck.models import CifarResNet
        >>> from limbeck.objective import term
        >>> teacher, student = (CifarResNet((1, 8, 8), 3, depth=8, width=width) for width in (8, 4))
        >>> inputs, targets = torch.ones(2, 1, 8, 8), torch.zeros(2).long()
        >>> scene = Scene(student, lambda x: x, ModuleTeacher(teacher), inputs, targets, 3)
        >>> made, terms = reuse(Objective([term("simkd")]), scene)
        >>> sum(one.numel() for one in made.head.parameters()), terms.terms[0].at  # 32 · 3 weights and 3 biases
        (99, (('blocks', 'projector'),))
    """
    if isinstance(scene.student, ReusesClassifier):  # made by its user
        return scene.student, objective
    pair = _pair(_term(objective), scene)
    return _made(scene, pair), _reading(objective, pair)


def resolved(experiment: Experiment, teacher: nn.Module | None = None) -> Experiment:
    """The experiment with the student that simkd trains as ``distilled``; as it is, where no term is simkd.

    Args:
        experiment: with the plain student, which the controls stay.
        teacher: trained; None: as it begins, which has the same layers and counts.

    Raises:
        LimbeckError: as of :func:`check` and :func:`reuse`.
    """
    if not keeps_classifier(experiment.objective) or experiment.distilled is not None:
        return experiment
    check(experiment)
    student, (taught,), seed = experiment.student, experiment.candidates, experiment.seeds[0]
    module = taught.make(seed) if teacher is None else teacher
    start = student.make(seed)
    if isinstance(start, ReusesClassifier):
        return experiment
    scene = Scene(
        student=start,
        preparation=student.preparation,
        teacher=ModuleTeacher(module, taught.preparation),
        inputs=some_inputs(experiment.data.train)[:FEW],
        targets=experiment.data.train.targets,
        classes=len(experiment.data.classes),
        seed=seed,
    )
    pair = _pair(_term(experiment.objective), scene)
    _made(scene, pair)
    distilled = _candidate(student, taught, pair, partial(_begin, scene, student, pair))
    return replace(experiment, objective=_reading(experiment.objective, pair), distilled=distilled)


def counted(experiment: Experiment) -> dict[str, int]:
    """Parameters of the ``student``, of its ``projector`` and ``classifier``, and of the plain student (``control``).

    Args:
        experiment: one that :func:`resolved` gave; empty without such a student.
    """
    if experiment.distilled is None:
        return {}
    seed = experiment.seeds[0]
    module: Any = experiment.distilled.make(seed)
    parts = {"student": module, "projector": module.projector, "classifier": module.head}
    return {name: parameters(one) for name, one in {**parts, "control": experiment.student.make(seed)}.items()}


def parts(candidate: Candidate, module: nn.Module) -> dict[str, str]:
    """What the names in the file of such a student begin with, and what is meant; nothing for any other module.

    Args:
        candidate: of the student.
        module: the student.
    """
    if not isinstance(module, ReusesClassifier) or not {"teacher", "student"} <= set(candidate.options):
        return {}
    teacher, student = (candidate.options[role] for role in ("teacher", "student"))
    return {
        "student.": f"{student['model']} without its classifier, read at its layer '{student['layer']}'",
        "projector.": f"from there to the teacher's '{teacher['layer']}', trained with the student",
        "head.": f"the classifier of the teacher, {teacher['model']}, as it was",
    }


def _term(objective: Objective) -> Term:
    """The term simkd, seen to be one that can be computed so."""
    one, *more = (one for one in objective.terms if one.loss is simkd)
    if more:
        raise RecipeError(
            f"terms '{one.name}' and '{more[0].name}' are both simkd; a student has one projector",
            cure="leave one of them out, or make it fitnet, whose projector does not ship",
        )
    if one.adapter not in (None, "auto", "none"):
        raise RecipeError(
            f"objective.{one.name}.adapter: simkd has a projector of its own, which ships with the student",
            cure="leave the adapter out, or use fitnet, whose adapter does not ship",
        )
    place = one.place
    if place != "last_stage" and (isinstance(place, str) or len(place) != 1):
        given = place if isinstance(place, str) else [list(pair) for pair in place]
        raise RecipeError(
            f"objective.{one.name}.at is {given}; simkd reads the last feature map of each model",
            cure="leave it out, or write [teacher's layer, student's layer]",
        )
    return one


def _pair(one: Term, scene: Scene) -> Pair:
    """The last maps (teacher's, student's)."""
    if not isinstance(scene.teacher, ModuleTeacher):
        raise _no_module(one.name, scene.teacher)
    if not isinstance(one.place, str):
        return one.place[0]
    found = scene.pairing.last
    if found is None:
        raise ModelError(
            f"term '{one.name}' reads the last feature map, which is not found in both models",
            cure="say which layers with at: [teacher's, student's]; limbeck layers MODEL shows their names",
        )
    return found


def _made(scene: Scene, pair: Pair) -> ReusesClassifier:
    teacher: Any = scene.teacher
    inputs = scene.inputs[:FEW]
    theirs = inputs if teacher.normalization is None else teacher.normalization(inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(scene.seed, 0, 0))
        made = reuse_classifier(teacher.inside, scene.student, theirs, scene.preparation(inputs), *pair)
    if isinstance(teacher.module, ReorderedModule):
        made.head = _ordered(made.head, teacher.module.order)
    return made


def _begin(scene: Scene, student: Candidate, pair: Pair, seed: int) -> ReusesClassifier:
    """The student with the starting weights of a seed."""
    return _made(replace(scene, student=student.make(seed), seed=seed), pair)


def _reading(objective: Objective, pair: Pair) -> Objective:
    """The objective whose term compares the projected map with the teacher's, as they are."""
    terms = [
        replace(one, at=((pair[0], PROJECTOR),), adapter="none") if one.loss is simkd else one
        for one in objective.terms
    ]
    return Objective(terms, balance=objective.balance)


def _candidate(student: Candidate, teacher: Candidate, pair: Pair, make: Callable[[int], nn.Module]) -> Candidate:
    """The student as it is trained and shipped, with what its file's user must know."""
    settings = student.settings
    if settings is not None and settings.transfer is not None:  # what is new is the projector
        settings = replace(settings, transfer=replace(settings.transfer, head=PROJECTOR))
    models = {"teacher": (teacher, pair[0]), "student": (student, pair[1])}
    return replace(
        student,
        name=f"{student.name} with the classifier of {teacher.name}",
        make=make,
        settings=settings,
        options={
            role: {"model": one.name, "options": dict(one.options), "layer": layer}
            for role, (one, layer) in models.items()
        },
        notes=(
            f"the student keeps the teacher's classifier: a projector leads its layer '{pair[1]}' to the teacher's "
            f"'{pair[0]}'; both are part of it, and counted",
        ),
        frame=None,
    )


def _ordered(head: nn.Module, order: Tensor) -> nn.Module:
    """A teacher's classifier with its classes in the data's order."""
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the teacher's classifier is {type(head).__name__}, whose classes can not be put in the data's order",
            cure="name the data's classes in the teacher's order",
        )
    found = nn.Linear(head.in_features, len(order), bias=head.bias is not None, device=head.weight.device)
    found.load_state_dict({key: value.detach()[order.to(value.device)] for key, value in head.state_dict().items()})
    return found.requires_grad_(False).eval()


def _no_module(name: str, teacher: Teacher | Candidate | None) -> ModelError:
    kind = str(getattr(teacher, "name", "")) or type(teacher).__name__
    return ModelError(f"term '{name}' keeps the teacher's classifier, and {kind} is no torch module", cure=CURE)


__all__ = ["check", "counted", "keeps_classifier", "parts", "resolved", "reuse"]
