"""What a store depends on: teacher, data, views, precision; and what of it differs."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import singledispatch
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.replay import Replay, Seer
from limbeck.data.split import JoinedSplit, Split
from limbeck.errors import ModelError, ResumeError
from limbeck.taps import plain
from limbeck.teachers import Ensemble, FunctionTeacher, ModuleTeacher, OnnxTeacher, Recorded, Teacher
from limbeck.teachers.digest import all_tensors, structure_digest, tensors_digest
from limbeck.teachers.modules import ReorderedModule
from limbeck.teachers.reordered import ReorderedTeacher

_SHOWN = 6  # differences that a message names
_LIBRARIES = {"numpy": "numpy", "Pillow": "Pillow"}


def identity(teacher: Teacher, see: Seer, replay: Replay, precision: str) -> dict[str, Any]:
    """What the records of a store depend on, in plain data; each field can be told apart, see :func:`differences`.

    Labels are no part of it, except where views are mixed with samples that are drawn by class.

    Args:
        teacher: that is kept.
        see: the views.
        replay: their seed and number.
        precision: that the teacher computes in.

    Raises:
        ModelError: if what the teacher says can not be told from what another one says.
    """
    split, views = see.split, see.views
    found = {
        "teacher": of_teacher(teacher),
        "data": {
            "samples": len(split),
            "shape": list(split.shape),
            "classes": list(split.classes),
            "input_range": split.input_range,
            "contents": _bare(split).fingerprint(),
        },
        "views": {
            "count": replay.views,
            "seed": replay.seed,
            **views.plain(),
            **_sampling(see),
        },
        "precision": precision,
    }
    return json.loads(json.dumps(found))


@singledispatch
def of_teacher(teacher: Any) -> dict[str, Any]:
    """What a teacher's answers depend on, in plain data.

    Raises:
        ModelError: if that is not known: of a function, or an object of another kind, that has no ``digest``.

    Example:
        >>> of_teacher(FunctionTeacher(lambda x: 2 * x, digest="twice, second edition"))
        {'kind': 'function', 'digest': 'twice, second edition', 'inputs': {'normalization': None, 'input_size': None}}
    """
    return {"kind": type(teacher).__name__, "digest": _declared(teacher)}


@of_teacher.register
def _(teacher: ModuleTeacher) -> dict[str, Any]:
    given = plain(teacher.module)
    module, order = given, None
    if isinstance(given, ReorderedModule):
        module, order = plain(given.module), given.order.tolist()
    return {
        "kind": "module",
        "class": type(module).__name__,
        "structure": structure_digest(module),
        "weights": tensors_digest(all_tensors(module)),
        "inputs": _inputs(teacher.normalization),
        "order": order,
    }


@of_teacher.register
def _(teacher: FunctionTeacher) -> dict[str, Any]:
    return {"kind": "function", "digest": _declared(teacher), "inputs": _inputs(teacher.normalization)}


@of_teacher.register
def _(teacher: OnnxTeacher) -> dict[str, Any]:
    return {
        "kind": "onnx",
        "file": teacher.graph.sha256,
        "output": teacher.graph.output,
        "probabilities": teacher.probabilities,
        "inputs": _inputs(teacher.normalization),
        "order": None if teacher.order is None else list(teacher.order),
    }


@of_teacher.register
def _(teacher: Ensemble) -> dict[str, Any]:
    members = {str(number): of_teacher(one) for number, one in enumerate(teacher.members, start=1)}
    shares = {str(number): share for number, share in enumerate(teacher.weights.tolist(), start=1)}
    return {"kind": "ensemble", "members": members, "shares": shares}


@of_teacher.register
def _(teacher: ReorderedTeacher) -> dict[str, Any]:
    return {"kind": "reordered", "order": list(teacher.order), "of": of_teacher(teacher.teacher)}


@of_teacher.register
def _(teacher: Recorded) -> dict[str, Any]:
    said = teacher.outputs
    parts = {"logits": said.logits, "members": said.members, "weights": said.weights}
    return {"kind": "recorded", "digest": tensors_digest({name: one for name, one in parts.items() if one is not None})}


def differences(kept: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two identities, a line for each field, by its name.

    Example:
        >>> differences({"views": {"shift": 2, "flip": True}}, {"views": {"shift": 4, "flip": True}})
        ['views.shift: kept 2, now 4']
        >>> differences({"teacher": {"weights": "a" * 64}}, {"teacher": {"weights": "b" * 64}})
        ['teacher.weights: kept aaaaaaaaaaaa, now bbbbbbbbbbbb']
    """
    sides = [one for one in (kept, now) if isinstance(one, Mapping)]
    if not (len(sides) == 2 or (sides and None in (kept, now))):
        return [] if kept == now else [f"{name}: kept {_short(kept)}, now {_short(now)}"]
    before, after = kept or {}, now or {}  # what one side does not have is told by field too
    fields = dict.fromkeys([*before, *after])
    if before.get("kind") != after.get("kind"):
        fields = {"kind": None}  # two kinds have no field in common
    found: list[str] = []
    for key in fields:
        found += differences(before.get(key), after.get(key), f"{name}.{key}" if name else str(key))
    return found


def refuse(folder: Path, found: list[str]) -> None:
    """See that there is no difference between what a folder keeps and what is wanted.

    Args:
        folder: of a store, or of the beginning of one.
        found: the differences.

    Raises:
        ResumeError: naming each field that differs.
    """
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ResumeError(
            f"{folder} is a store of something else: {'; '.join(found[:_SHOWN])}{more}",
            cure="put that back, or build another store at another path",
        )


def surroundings() -> dict[str, Any]:
    """When, where and with what something is built: for people, nothing depends on it."""
    from limbeck import __version__

    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "limbeck": __version__,
        "torch": str(torch.__version__),
        **{name: _version(package) for name, package in _LIBRARIES.items()},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def other_versions(built: Mapping[str, Any]) -> str:
    """How what is here differs from what a store was built with, in words; empty if it does not.

    Example:
        >>> other_versions({**surroundings(), "torch": "1.0"}).startswith("built with torch 1.0, this is ")
        True
    """
    here = surroundings()
    names = [name for name in ("torch", "Pillow", "numpy", "limbeck", "instructions", "platform") if built.get(name)]
    told = [f"{name} {built[name]}, this is {here[name]}" for name in names if built[name] != here[name]]
    return f"built with {'; '.join(told)}" if told else ""


def _declared(teacher: Any) -> str:
    """The digest that a teacher says of itself."""
    digest = getattr(teacher, "digest", None)
    if isinstance(digest, str) and digest:
        return digest
    raise ModelError(
        f"a store can not tell what {type(teacher).__name__} says from what another teacher says: it has no digest",
        cure='give the teacher as a torch module, or name this version of it: teacher.digest = "…"',
    )


def _inputs(prepared: Callable[..., Any] | None) -> dict[str, Any]:
    """What a teacher's inputs go through first."""
    if isinstance(prepared, Preparation):
        size = None if prepared.input_size is None else list(prepared.input_size)
        return {"normalization": prepared.normalization.to_dict(), "input_size": size}
    if isinstance(prepared, Normalization):
        return {"normalization": prepared.to_dict(), "input_size": None}
    if prepared is None:
        return {"normalization": None, "input_size": None}
    if isinstance(prepared, nn.Module):
        weights = tensors_digest(all_tensors(prepared))
        return {"normalization": {"structure": structure_digest(prepared), "weights": weights}, "input_size": None}
    named = prepared if hasattr(prepared, "__qualname__") else type(prepared)
    about = getattr(prepared, "digest", None) or f"{named.__module__}.{named.__qualname__}"
    return {"normalization": str(about), "input_size": None}


def _sampling(see: Seer) -> dict[str, Any]:
    """How samples that are mixed in are drawn; where they are drawn by class, the labels count."""
    if not (see.views.mixes and see.sampler.balanced):
        return {"sampling": "none", "labels": None}
    rows, counts = (np.ascontiguousarray(one, "<i8").tobytes() for one in (see.sampler.rows, see.sampler.counts))
    return {"sampling": "balanced", "labels": hashlib.sha256(rows + counts).hexdigest()}


def _bare(split: Split) -> Split:
    """The samples alone: without labels and class names, which are no part of their contents."""
    bare = copy.copy(split.without_labels([]))
    bare.classes = ()
    if isinstance(bare, JoinedSplit):
        bare.parts = [_bare(part) for part in bare.parts]
    return bare


def _short(value: Any) -> str:
    """A value in a message; a digest by its beginning."""
    if value is None:
        return "none"
    text = str(value)
    if isinstance(value, str) and len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 60 else f"{text[:57]}…"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


__all__ = ["differences", "identity", "of_teacher", "other_versions", "refuse", "surroundings"]
