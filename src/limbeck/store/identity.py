"""What a store depends on: teacher, data, views, precision; and what of it differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from limbeck.data.replay import Replay, Seer
from limbeck.teachers import Ensemble, ModuleTeacher, Teacher


def identity(teacher: Teacher, see: Seer, replay: Replay, precision: str) -> dict[str, Any]:
    """What the records of a store depend on, in plain data.

    Args:
        teacher: that is kept.
        see: the views.
        replay: their seed and number.
        precision: that the teacher computes in.
    """
    split = see.split
    found = {
        "teacher": of_teacher(teacher),
        "data": {
            "samples": len(split),
            "shape": list(split.shape),
            "classes": list(split.classes),
            # without labels, which the teacher does not see
            "contents": split.without_labels([]).fingerprint(),
        },
        "views": {
            "count": replay.views,
            "seed": replay.seed,
            **asdict(see.views),
            "sampling": _sampling(see),
        },
        "precision": precision,
    }
    return json.loads(json.dumps(found, default=str))


def of_teacher(teacher: Teacher) -> dict[str, Any]:
    """What a teacher's answers depend on."""
    if isinstance(teacher, Ensemble):
        members = [of_teacher(one) for one in teacher.members]
        return {"kind": "Ensemble", "members": members, "weights": teacher.weights.tolist()}
    if isinstance(teacher, ModuleTeacher):
        prepared: Any = teacher.normalization
        described = prepared.to_dict() if hasattr(prepared, "to_dict") else str(prepared)
        return {"kind": "module", "weights": _digest(teacher.module.state_dict()), "inputs": described}
    return {"kind": type(teacher).__name__, "weights": str(getattr(teacher, "digest", ""))}


def differences(kept: Any, now: Any, name: str = "") -> Iterator[str]:
    """What differs between two identities, by name.

    Example:
        >>> list(differences({"views": {"shift": 2, "flip": True}}, {"views": {"shift": 4, "flip": True}}))
        ['views.shift: kept 2, now 4']
    """
    if isinstance(kept, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*kept, *now]):
            yield from differences(kept.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif kept != now:
        yield f"{name}: kept {kept!s:.60}, now {now!s:.60}"


def _sampling(see: Seer) -> str | None:
    """How samples that are mixed in are drawn, where any are."""
    if not see.views.mixes:
        return None
    if not see.sampler.balanced:
        return "none"
    return "balanced " + hashlib.sha256(see.sampler.rows.tobytes() + see.sampler.counts.tobytes()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
