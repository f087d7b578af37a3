"""Whether what is kept of a teacher suffices for an objective; known before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from limbeck.errors import RecipeError, nearest
from limbeck.objective.places import SITES
from limbeck.objective.terms import Term, needs_all
from limbeck.objective.weighted import Objective
from limbeck.outputs import keep_cure, listed


def check_kept(
    objective: Objective,
    classes: int,
    top: int = 0,
    temperatures: Sequence[float] = (),
    features: Collection[str] = (),
) -> None:
    """See that each term can be computed from what is kept of the teacher's outputs.

    Args:
        objective: best after :func:`limbeck.objective.binding.bind`: its terms then know which layers they read.
        classes: number of classes C.
        top: number of logits that are kept of each sample; 0, or C or more: all.
        temperatures: for which the weight of the other classes is kept.
        features: addresses of the teacher's layers whose pooled features are kept.

    Raises:
        RecipeError: naming the term, and what it needs that is not kept.

    Example:
        >>> from limbeck.objective import supervised, term
        >>> check_kept(Objective([supervised(), term("kl", temperature=4)]), 1000, 10, [1, 4])
        >>> check_kept(Objective([supervised(), term("dkd")]), 1000, 10, [1, 4])
        Traceback (most recent call last):
        limbeck.errors.RecipeError: term 'dkd' needs the teacher's logits of all 1000 classes, and the 10 largest of \
each sample are kept
          cure: keep all of them with top: 0, or use kl
    """
    for one in objective.terms:
        if not one.needs_teacher:
            continue
        _layers(one, features)
        if not 0 < top < classes:
            continue
        if one.reads == "all":
            raise needs_all(one, classes, top)
        if one.reads == "groups" and one.temperature not in temperatures:
            raise RecipeError(
                f"term '{one.name}' softens at temperature {one.temperature:g}, and the weight of all but the {top} "
                f"largest classes is kept for {listed(temperatures)}",
                cure=keep_cure(one.temperature, temperatures),
            )


def temperatures_read(objective: Objective) -> tuple[float, ...]:
    """The temperatures at which terms soften a teacher's logits, ascending: what has to be kept for them.

    Example:
        >>> from limbeck.objective import hard_labels, term
        >>> temperatures_read(Objective([term("kl"), term("jsd", temperature=1), hard_labels()]))
        (1.0, 4.0)
    """
    return tuple(sorted({one.temperature for one in objective.terms if one.reads in ("groups", "all")}))


def _layers(one: Term, features: Collection[str]) -> None:
    """Refuse a term that reads a layer of the teacher of which nothing is kept."""
    place = one.place
    if place == "logits":
        return
    if one.links:
        read = [name for link in one.links for name in link.teacher]
    elif isinstance(place, str):
        if place == "pooled" and features:
            return
        read = [place]
    else:
        read = [teacher for teacher, _ in place]
    missing = next((name for name in read if name not in features), None)
    if missing is None:
        return
    there = f"features of {', '.join(features)}" if features else "no features"
    cure = "ask the live teacher, without a store, or leave the term out"
    if missing not in SITES:
        cure = f"keep it with features: [{', '.join([*features, missing])}] if it gives vectors; else {cure}"
    raise RecipeError(
        f"term '{one.name}' reads the teacher's layer '{missing}', and of its layers {there} are kept"
        f"{nearest(missing, features)}",
        cure=cure,
    )
