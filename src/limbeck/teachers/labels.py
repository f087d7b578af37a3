"""A teacher's labels in the data's order, by class name: the logits of a wrong order look like those of a bad model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from limbeck.errors import ModelError, nearest


def places(names: Sequence[str], classes: Sequence[str], who: str = "the teacher") -> tuple[int, ...] | None:
    """Where each class of the data stands among a teacher's own names; None where nothing is to be moved.

    A teacher may know more classes, if every class of the data is among them.

    Args:
        names: of the teacher's classes, in its order.
        classes: of the data, in theirs.
        who: the teacher's name for the message.

    Raises:
        ModelError: naming a class that stands twice, or one that the other lacks.

    Example:
        >>> places(["cat", "dog", "cow"], ["cow", "cat"])
        (2, 0)
        >>> places(["cat", "dgo"], ["cat", "dog"])
        Traceback (most recent call last):
        limbeck.errors.ModelError: the teacher does not name class 'dog' of the data; did you mean 'dgo'?
          cure: its classes are 'cat', 'dgo'; name them as the data do, in the teacher's order
    """
    names, classes = [str(one) for one in names], [str(one) for one in classes]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise ModelError(f"{who} names class '{twice}' twice", cure="name each of its classes once, in its order")
    missing = [one for one in classes if one not in names]
    if missing:
        more = "" if len(missing) == 1 else f", and {len(missing) - 1} more"
        shown = ", ".join(f"'{one}'" for one in names[:20]) + (", …" if len(names) > 20 else "")
        raise ModelError(
            f"{who} does not name class '{missing[0]}' of the data{more}{nearest(missing[0], names)}",
            cure=f"its classes are {shown}; name them as the data do, in the teacher's order",
        )
    found = tuple(names.index(one) for one in classes)
    return None if found == tuple(range(len(names))) else found


def told(names: Sequence[str], classes: Sequence[str], who: str) -> str | None:
    """What was done to a teacher's labels, in words; None if nothing was.

    Example:
        >>> told(["cat", "dog", "cow"], ["cow", "cat"], "the teacher")
        'the teacher knows 3 classes: its logits of the 2 classes of the data are taken, by name'
        >>> told(["b", "a"], ["a", "b"], "the teacher")
        'the teacher has its labels in another order: they are matched to the data by name'
    """
    if len(names) > len(classes):
        return (
            f"{who} knows {len(names)} classes: its logits of the {len(classes)} classes of the data are taken, by name"
        )
    if [str(one) for one in names] != [str(one) for one in classes]:
        return f"{who} has its labels in another order: they are matched to the data by name"
    return None


def chosen(logits: Tensor, order: Tensor, width: int) -> Tensor:
    """The logits ``[B, width, …]`` at the places ``order``.

    Raises:
        ModelError: if there are not ``width`` of them: a name for each must be known.
    """
    if logits.ndim < 2 or logits.shape[1] != width:
        raise ModelError(
            f"the teacher gives outputs of shape {tuple(logits.shape)}, and {width} classes are named",
            cure="name every class of the teacher, in its order",
        )
    return logits.index_select(1, order.to(logits.device))
