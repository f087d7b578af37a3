"""Reading a run folder: the only source of a report."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import FileError
from limbeck.evaluation.dense.told import division, is_dense
from limbeck.files import Journal, read_json

COMPARED = ("teacher", "control", "control_hard_labels", "student")  # the roles of every run
ROLES = (*COMPARED[:-1], "control_direct", "student")


class _Names(dict[str, str]):
    """Names of roles; one that is not known by heart is told as it is written."""

    def __missing__(self, role: str) -> str:
        return re.sub(r"(?<=[a-z])(?=[0-9]+$)", " ", role.replace("_", " "))


NAMES = _Names(
    {
        "teacher": "teacher",
        "control": "control",
        "control_hard_labels": "control, hard labels",
        "control_direct": "control without assistants",
        "student": "student",
    }
)
MAX_PICTURE = 150_000  # bytes; a larger one is left out
MAX_PICTURES = 3_600_000  # bytes of all: as text they grow by a third, and the page stays below 6 MB


@dataclass(frozen=True)
class Found:
    """What a run folder holds; ``beside`` is what was trained beside a model, and the layers that were compared."""

    folder: Path
    run: dict[str, Any]
    summary: dict[str, Any]
    curves: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    gallery: dict[str, Any] = field(default_factory=dict)
    explained: dict[str, Any] = field(default_factory=dict)
    beside: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    segments: dict[str, Any] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """Whether pixels have labels, and not samples."""
        return is_dense(self.summary)

    @property
    def where(self) -> str:
        """The split that models are compared on, and how it was divided from the others, where pixels have labels."""
        divided = division(self.summary)
        return f"{self.split}, {divided}" if divided else self.split

    @property
    def roles(self) -> list[str]:
        """The roles that were evaluated, in the order they are shown."""
        return ranked(self.summary["models"])

    @property
    def split(self) -> str:
        """The split that models are compared on."""
        metrics = self.summary["models"]["student"]["metrics"]
        return "test" if "test" in metrics else "validation"

    @property
    def metric(self) -> str:
        """The metric that models are compared by."""
        return primary(self.summary)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.summary["data"]["classes"]

    @property
    def positive(self) -> str | None:
        """The declared positive class."""
        return self.summary.get("positive")

    def shipped(self, role: str) -> dict[str, Any] | None:
        """A role's evaluation of the seed that ships, or of its first; None if it has none."""
        runs = self.evaluations.get(role, [])
        return next((one for one in runs if one["seed"] == self.summary.get("shipped_seed")), runs[0] if runs else None)

    def scored(self, role: str) -> dict[str, Any]:
        """What :meth:`shipped` says of the split that models are compared on; empty if there is none."""
        one = self.shipped(role)
        return {} if one is None else one["selected"][self.split]


def ranked(roles: Iterable[str]) -> list[str]:
    """Roles in the order they are shown: the teacher, what stands between, controls, the student, and the rest.

    Example:
        >>> ranked(["student", "assistant2", "assistant", "control", "teacher", "ensemble"])
        ['teacher', 'assistant', 'assistant2', 'control', 'student', 'ensemble']
    """
    between = ("assistant", "generation")
    order = {role: number for number, role in enumerate(ROLES, start=2)} | {"teacher": 0}

    def place(role: str) -> tuple[int, int, str]:
        if role.startswith(between):
            return 1, len(role), role
        return order.get(role, len(order) + 2), 0, ""  # the rest in the order of the run

    return sorted(roles, key=place)


def primary(summary: dict[str, Any]) -> str:
    """The metric that a run's models are compared by.

    Example:
        >>> primary({"metric": "auc"}), primary({"difference": {"metric": "accuracy"}}), primary({"difference": None})
        ('auc', 'accuracy', 'accuracy')
    """
    return summary.get("metric") or (summary.get("difference") or {}).get("metric") or "accuracy"


def read_run(folder: str | Path) -> Found:
    """Read a run folder.

    Raises:
        FileError: if ``run.json`` or ``summary.json`` is missing, damaged, or lacks what is promised.
    """
    folder = Path(folder)
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    for name, value, keys in (
        ("run.json", run, ("name", "created", "recipe", "environment")),
        ("summary.json", summary, ("limbeck", "data", "models", "findings", "environment")),
    ):
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise FileError(
                f"{folder / name} lacks {', '.join(missing)}", cure="it is no summary of a run: run it again"
            )
    if "student" not in summary["models"]:
        raise FileError(f"{folder / 'summary.json'} holds no student")
    evaluations: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "evaluation").glob("*-seed*.json"), key=_seed):
        found = read_json(path)
        evaluations.setdefault(found["role"], []).append(found)
    gallery, explained, segments = (_shown(folder, name) for name in ("gallery", "explain", "segments"))
    left = _embed(folder, [*gallery.get("items", []), *explained.get("items", [])])
    _embed_rows(folder, segments.get("items", []), left)
    return Found(folder, run, summary, _curves(folder), evaluations, gallery, explained, _beside(folder), segments)


def _seed(path: Path) -> tuple[str, int]:
    role, _, seed = path.stem.rpartition("-seed")
    return role, int(seed) if seed.isdigit() else 0


def _curves(folder: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    paths = sorted(folder.glob("models/*/seed*/metrics.jsonl"))
    order = ranked({path.parent.parent.name for path in paths})
    for path in sorted(paths, key=lambda path: order.index(path.parent.parent.name)):
        lines = Journal(path).read()
        seed = path.parent.name.removeprefix("seed")
        if lines and seed.isdigit():
            found.setdefault(path.parent.parent.name, {})[int(seed)] = lines
    return found


def _beside(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(folder.glob("models/*/seed*/manifest.json")):
        seed = path.parent.name.removeprefix("seed")
        kept = (read_json(path).get("result") or {}).get("beside")
        if kept and seed.isdigit():
            found[(path.parent.parent.name, int(seed))] = kept
    return found


def _shown(folder: Path, name: str) -> dict[str, Any]:
    file = folder / "evaluation" / f"{name}.json"
    return read_json(file) if file.exists() else {}


def _embed(folder: Path, items: list[dict[str, Any]]) -> int:
    """Put pictures into their items as ``data``; what is too large, or would make the page so, gets None.

    The maps of a model (``models[role].file``) are pictures too.

    Returns:
        How many bytes of pictures the page still has room for.
    """
    left = MAX_PICTURES
    for holder in [one for item in items for one in (item, *item["models"].values()) if one.get("file")]:
        picture = _picture(folder, holder["file"])
        size, holder["data"] = picture.stat().st_size, None
        if size <= min(MAX_PICTURE, left):
            left -= size
            holder["data"] = _as_data(picture)
    return left


def _embed_rows(folder: Path, items: list[dict[str, Any]], left: int) -> None:
    """Put the pictures of whole rows into them as ``data``; for a row that there is no room for, all are None."""
    for item in items:
        holders = [item["input"], item["truth"], *item["models"].values(), item["disagreement"]]
        pictures = [_picture(folder, holder["file"]) for holder in holders]
        size = sum(picture.stat().st_size for picture in pictures)
        fits, left = size <= left, left - size if size <= left else left
        for holder, picture in zip(holders, pictures, strict=True):
            holder["data"] = _as_data(picture) if fits else None


def _picture(folder: Path, file: str) -> Path:
    picture = folder / file
    if not picture.resolve().is_relative_to(folder.resolve()) or not picture.is_file():
        raise FileError(f"{folder / 'evaluation'} names {file}, which is not in the run folder")
    return picture


def _as_data(picture: Path) -> str:
    kind = "jpeg" if picture.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
