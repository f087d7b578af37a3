"""Saying where a value that is not finite came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.errors import NumericsError
from limbeck.objective.terms import Term
from limbeck.outputs import Outputs


def blame(
    terms: Sequence[Term],
    values: Mapping[str, Tensor],
    means: Mapping[str, Tensor],
    student: Outputs,
    teacher: Outputs | None,
    index: Tensor | None,
) -> NumericsError:
    """Say which term is not finite, for which samples, and on which side it came in.

    Args:
        terms: that count.
        values: of each, for each sample or a scalar.
        means: of each.
        student, teacher: what the models gave.
        index: addresses of the samples.
    """
    sides = {f"{what} of the student": rows for what, rows in _bad(student).items()}
    sides |= {f"{what} of the teacher": rows for what, rows in _bad(teacher).items()} if teacher else {}
    why = f"the {' and the '.join(sides)} are not finite" if sides else "all logits are finite"
    cure = "look at these samples' inputs; lower the learning rate, set clip: 1.0, or precision: fp32"
    if sides and all(side.endswith("teacher") for side in sides):
        cure = "look at these samples' inputs, and at the teacher's weights and normalization"
    for one in terms:
        value = values[one.name]
        if bool(torch.isfinite(means[one.name])):
            continue
        rows = bad_rows(value) if value.ndim else [row for found in sides.values() for row in found]
        if not rows:
            what = f"is {value.item()}" if not value.ndim else "overflows in its sum"
            return NumericsError(f"term '{one.name}' {what}; {why}", cure="lower its weight or temperature")
        rows = sorted(set(rows))
        names = rows if index is None else index.detach().cpu()[rows].tolist()
        where = "at these places in the batch" if index is None else "samples"
        return NumericsError(
            f"term '{one.name}' is not finite for {len(rows)} of {len(student.logits)} samples "
            f"({where}: {', '.join(map(str, names[:8]))}{', …' if len(names) > 8 else ''}); {why}",
            cure=cure,
        )
    return NumericsError("the sum of the terms overflows, each of them is finite", cure="lower the terms' weights")


def bad_rows(value: Tensor) -> list[int]:
    """The samples of a tensor ``[B, …]`` that hold something not finite.

    Example:
        >>> bad_rows(torch.tensor([[1.0], [float("nan")]]))
        [1]
    """
    flat = value.detach().reshape(len(value), -1)
    return (~torch.isfinite(flat).all(dim=1)).nonzero().flatten().tolist()


def _bad(outputs: Outputs) -> dict[str, list[int]]:
    named = {"logits": outputs.logits, **{f"features '{name}'": one for name, one in outputs.features.items()}}
    if outputs.top is not None:
        named |= {f"weight of the rest at temperature {at:g}": one for at, one in outputs.top.rest.items()}
    return {name: rows for name, one in named.items() if (rows := bad_rows(one))}
