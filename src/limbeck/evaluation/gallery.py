"""Pictures of mistakes: which samples the models disagree about, the surest mistakes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.split import Split
from limbeck.evaluation.drawing import drawable, encoded, shown
from limbeck.files import write_bytes, write_json

LIMITS = {"teacher_right": 12, "control_right": 6, "both_wrong": 6, "surest_errors": 6}  # most pictures of a kind


def write_gallery(
    folder: str | Path, split: Split, classes: Sequence[str], logits: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """Write ``evaluation/gallery.json`` and its pictures under ``folder``.

    Args:
        folder: the run folder.
        split: the samples; nothing is drawn of those that are no pictures.
        classes: names.
        logits: ``[N, C]`` by role, with ``teacher`` and ``student`` at least.

    Returns:
        The items written: ``kind`` (a key of :func:`mistakes`), ``file``, ``index``, ``target``, ``name`` (the sample's
        own file, where it has one), and by model the ``class`` it names and its ``probability``. A picture of several
        kinds is one file.
    """
    folder = Path(folder)
    found = mistakes(logits, split.targets) if drawable(split) else {}
    probabilities = {role: torch.softmax(one, dim=1) for role, one in logits.items()}
    files: dict[int, str] = {}
    items = []
    for kind, indices in found.items():
        for at in indices[: LIMITS[kind]]:
            if at not in files:
                data, suffix = encoded(shown(split.fetch(torch.tensor([at]))[0][0]), split.shape)
                files[at] = f"evaluation/gallery/{len(files):03d}{suffix}"
                write_bytes(folder / files[at], data)
            said = {role: named(one[at], classes) for role, one in probabilities.items()}
            items.append({"kind": kind, "file": files[at], **about(split, at), "models": said})
    totals = {kind: len(indices) for kind, indices in found.items()}
    write_json(folder / "evaluation" / "gallery.json", {"split": split.name, "totals": totals, "items": items})
    return items


def mistakes(logits: Mapping[str, Tensor], targets: Tensor) -> dict[str, list[int]]:
    """Addresses of the student's errors by kind, the student's surest first; samples without a label are left out.

    Args:
        logits: ``[N, C]`` by role, with ``student`` at least.
        targets: int64 ``[N]``, -1 for no label.

    Returns:
        ``teacher_right`` (with a teacher), ``control_right`` (with a control), ``both_wrong`` (teacher and student),
        and ``surest_errors`` (all of them).

    Example:
        >>> t = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> s = torch.tensor([[0.0, 1.0], [0.0, 5.0], [0.0, 3.0]])
        >>> mistakes({"teacher": t, "student": s}, torch.tensor([0, 0, 0]))
        {'teacher_right': [1, 0], 'both_wrong': [2], 'surest_errors': [1, 2, 0]}
    """
    right = {role: one.argmax(dim=1) == targets for role, one in logits.items()}
    wrong = (targets >= 0) & ~right["student"]
    kinds = {"teacher_right": wrong & right["teacher"]} if "teacher" in right else {}
    if "control" in right:
        kinds["control_right"] = wrong & right["control"]
    if "teacher" in right:
        kinds["both_wrong"] = wrong & ~right["teacher"]
    kinds["surest_errors"] = wrong
    sure = torch.softmax(logits["student"], dim=1).amax(dim=1)
    return {kind: _surest(sure, mask) for kind, mask in kinds.items()}


def about(split: Split, at: int) -> dict[str, Any]:
    """What a page says of a sample: its address, the class of its label, and its file's name if it has one."""
    target = int(split.targets[at])
    told = {"index": at, "target": split.classes[target] if target >= 0 else None}
    return {**told, "name": split.names[at]} if split.names else told


def named(probabilities: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """The class that a model names for one sample, and its probability."""
    return {"class": classes[int(probabilities.argmax())], "probability": float(probabilities.max())}


def _surest(sure: Tensor, mask: Tensor) -> list[int]:
    found = mask.nonzero().flatten()
    return found[sure[found].argsort(descending=True, stable=True)].tolist()
