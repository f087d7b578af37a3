"""Reading a run folder: the only source of a report."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import FileError
from limbeck.files import Journal, read_json

ROLES = ("teacher", "control", "control_hard_labels", "student")
NAMES = {
    "teacher": "teacher",
    "control": "control",
    "control_hard_labels": "control, hard labels",
    "student": "student",
}
MAX_PICTURE = 150_000  # bytes; 24 of them stay far below the page's 6 MB


@dataclass(frozen=True)
class Found:
    """What a run folder holds."""

    folder: Path
    run: dict[str, Any]
    summary: dict[str, Any]
    curves: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    gallery: list[dict[str, Any]] = field(default_factory=list)

    @property
    def roles(self) -> list[str]:
        """The roles that were evaluated, in the order they are shown."""
        return [role for role in ROLES if role in self.summary["models"]]

    @property
    def split(self) -> str:
        """The split that models are compared on."""
        metrics = self.summary["models"]["student"]["metrics"]
        return "test" if "test" in metrics else "validation"


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
    return Found(folder, run, summary, _curves(folder), evaluations, _gallery(folder))


def _seed(path: Path) -> tuple[str, int]:
    role, _, seed = path.stem.rpartition("-seed")
    return role, int(seed) if seed.isdigit() else 0


def _curves(folder: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for path in sorted(folder.glob("models/*/seed*/metrics.jsonl")):
        lines = Journal(path).read()
        seed = path.parent.name.removeprefix("seed")
        if lines and seed.isdigit():
            found.setdefault(path.parent.parent.name, {})[int(seed)] = lines
    return found


def _gallery(folder: Path) -> list[dict[str, Any]]:
    file = folder / "evaluation" / "gallery.json"
    if not file.exists():
        return []
    items = []
    for item in read_json(file)["items"]:
        picture = folder / item["file"]
        if not picture.resolve().is_relative_to(folder.resolve()) or not picture.is_file():
            raise FileError(f"{file} names {item['file']}, which is not in the run folder")
        if picture.stat().st_size <= MAX_PICTURE:
            data = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
            items.append({**item, "data": data})
    return items
