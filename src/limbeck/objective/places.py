"""Where a term reads its student and its teacher: pairs of layer addresses, or a site that is found in the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from limbeck.errors import RecipeError
from limbeck.losses.declare import Site

SITES: tuple[str, ...] = get_args(Site)
Pair = tuple[str, str]
Places = str | tuple[Pair, ...]


def places(name: str, at: Any) -> Places | None:
    """What ``at`` says: a site's name, or pairs (teacher's address, student's address).

    Args:
        name: of the term.
        at: one address for both models; a pair (teacher, student); a list of pairs; a mapping with ``teacher`` and
            ``student``, of addresses or lists of them; a site, such as ``pooled``; None.

    Raises:
        RecipeError: if it is something else.

    Example:
        >>> places("sp", ("layer3", "blocks.2")), places("sp", "layer3")
        ((('layer3', 'blocks.2'),), (('layer3', 'layer3'),))
        >>> places("sp", [["layer2", "a"], ["layer3", "b"]])
        (('layer2', 'a'), ('layer3', 'b'))
        >>> places("sp", {"teacher": ["layer2", "layer3"], "student": ["a", "b"]})
        (('layer2', 'a'), ('layer3', 'b'))
    """
    if at is None or (isinstance(at, str) and at in SITES):
        return at
    if isinstance(at, str):
        return ((at, at),)
    if isinstance(at, Mapping):
        return _both(name, at)
    listed = list(at) if isinstance(at, list | tuple) or hasattr(at, "__iter__") else []
    if len(listed) == 2 and all(isinstance(one, str) for one in listed):
        return ((listed[0], listed[1]),)
    pairs = [tuple(one) for one in listed if isinstance(one, list | tuple)]
    if not listed or len(pairs) < len(listed) or not all(len(p) == 2 and all(map(_word, p)) for p in pairs):
        raise _wrong(name, at)
    return tuple((one[0], one[1]) for one in pairs)


def _both(name: str, at: Mapping[str, Any]) -> tuple[Pair, ...]:
    if sorted(at) != ["student", "teacher"]:
        raise _wrong(name, dict(at))
    teacher, student = ([one] if _word(one) else one for one in (at["teacher"], at["student"]))
    if not (isinstance(teacher, list | tuple) and isinstance(student, list | tuple)) or len(teacher) != len(student):
        raise _wrong(name, dict(at))
    if not teacher or not all(map(_word, [*teacher, *student])):
        raise _wrong(name, dict(at))
    return tuple(zip(teacher, student, strict=True))


def _word(value: Any) -> bool:
    return isinstance(value, str)


def _wrong(name: str, at: Any) -> RecipeError:
    return RecipeError(
        f"objective.{name}.at is {at!r}, expected layers",
        cure="write one name for both models, a pair [teacher's, student's], a list of pairs, "
        f"{{teacher: …, student: …}}, or one of {', '.join(SITES)}; limbeck layers MODEL shows the names",
    )
