"""The run folder: what was asked for, where things are, and which of them are done."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from limbeck.errors import FileError, ResumeError
from limbeck.files import copy_folder, describe, make_folder, read_json, sha256, write_json
from limbeck.training.distributed import world

MANIFEST = "manifest.json"


class Run:
    """A run folder.

    A stage has a folder of its own; it is done when its manifest lists every file of it with size and sha256, and was
    made from the same inputs (its key). A done stage is not run again.

    Args:
        path: of the folder; made if it is not there.
        shared: a folder of stages that several runs of a sweep have in common, or None.
    """

    def __init__(self, path: str | Path, shared: Path | None = None) -> None:
        self.path, self.shared = make_folder(path), shared

    def begin(self, name: str, recipe: Mapping[str, Any], command: str, *, teacher_only: bool = False) -> None:
        """Write ``run.json``, or see that the folder holds the same run.

        Where no more than the teacher was made, the store of its outputs may be another.

        Args:
            name: of the run.
            recipe: what is asked for.
            command: that was typed.
            teacher_only: nothing but the teacher is asked for; a run that is there is left as it is.

        Raises:
            ResumeError: if it holds another run.
        """
        self.was_done, self.info = world().from_first(lambda: self._begin(name, recipe, command, teacher_only))

    def _begin(
        self, name: str, recipe: Mapping[str, Any], command: str, teacher_only: bool
    ) -> tuple[bool, dict[str, Any]]:
        asked = json.loads(json.dumps(recipe))
        file = self.path / "run.json"
        created = now()
        if file.exists():
            before = read_json(file)
            same = before.get("recipe") == asked
            alike = without_store(before.get("recipe")) == without_store(asked)
            if alike and teacher_only:
                return False, before
            if not same and self._has_work() and not (alike and not self._has_students()):
                raise ResumeError(
                    f"{self.path} holds a run of another recipe ({before.get('name')}, {before.get('created')})",
                    cure="give another folder with --out, or remove that one",
                )
            # A run that failed before it made anything leaves its folder to the corrected recipe.
            created = before["created"] if same else created
            if same and before.get("status") == "done":
                return True, before
        elif any(one for one in self.path.iterdir() if not one.name.startswith(".")):
            raise FileError(f"{self.path} is not empty and holds no run", cure="give another folder with --out")
        from limbeck import __version__

        info = {
            "limbeck": __version__,
            "name": name,
            "created": created,
            "finished": None,
            "status": "running",
            "command": command,
            "recipe": asked,
            "environment": environment(),
        }
        write_json(file, info)
        return False, info

    def _has_work(self) -> bool:
        return any(self.path.rglob("*.safetensors"))

    def _has_students(self) -> bool:
        """Whether anything but a teacher was made."""
        weights = (path.relative_to(self.path).parts for path in self.path.glob("models/*/**/*.safetensors"))
        return any(not parts[1].startswith("teacher") for parts in weights)

    def leave(self) -> None:
        """Write that a run was begun and not finished, unless it was finished before."""
        if self.info["status"] == "running":
            world().from_first(lambda: self.finish("stopped"))

    def finish(self, status: str) -> None:
        """Write how the run ended."""
        self.info.update(status=status, finished=now() if status == "done" else None)
        write_json(self.path / "run.json", self.info)

    def done(self, stage: str, key: str) -> dict[str, Any] | None:
        """What a done stage left in its manifest, or None if it is still to be run.

        Raises:
            FileError: if a file of it is not as it was written.
            ResumeError: if the stage was made from other inputs.
        """
        return world().from_first(lambda: self._done(stage, key))

    def _done(self, stage: str, key: str) -> dict[str, Any] | None:
        folder = self.path / stage
        if self.shared is not None and not (folder / MANIFEST).exists():
            kept = self.shared / f"{stage.replace('/', '-')}-{key[:16]}"
            if (kept / MANIFEST).exists():
                copy_folder(kept, folder, last=MANIFEST)
        if not (folder / MANIFEST).exists():
            return None
        manifest = read_json(folder / MANIFEST)
        if manifest["key"] != key:
            raise ResumeError(
                f"{folder} was made from other settings, data or teacher than this run has now",
                cure="give another folder with --out, or remove that stage's folder",
            )
        for name, facts in manifest["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != facts["sha256"]:
                raise FileError(
                    f"{folder / name} is missing or not as it was written", cure=f"remove {folder}: it is run again"
                )
        return manifest["result"]

    def complete(self, stage: str, key: str, result: Mapping[str, Any], files: list[str]) -> None:
        """Mark a stage as done: write its manifest over ``files`` of its folder."""
        world().from_first(lambda: self._complete(stage, key, result, files))

    def _complete(self, stage: str, key: str, result: Mapping[str, Any], files: list[str]) -> None:
        folder = self.path / stage
        write_json(
            folder / MANIFEST,
            {"key": key, "result": dict(result), "files": {name: describe(folder / name) for name in files}},
        )
        if self.shared is not None:
            kept = self.shared / f"{stage.replace('/', '-')}-{key[:16]}"
            copy_folder(folder, kept, last=MANIFEST)


def without_store(recipe: Any) -> Any:
    """A recipe without what it says of a store of its teacher's outputs.

    Example:
        >>> without_store({"teacher": {"model": "m", "store": "auto"}, "seed": 0})
        {'teacher': {'model': 'm'}, 'seed': 0}
    """
    if not isinstance(recipe, Mapping) or "teacher" not in recipe:
        return recipe
    given = recipe["teacher"]
    plain = [
        {key: value for key, value in one.items() if key != "store"} if isinstance(one, Mapping) else one
        for one in (given if isinstance(given, list) else [given])
    ]
    return {**recipe, "teacher": plain if isinstance(given, list) else plain[0]}


def key_of(value: Any) -> str:
    """sha256 over plain data: what a stage depends on.

    Example:
        >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """The machine and the versions that numbers come from."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world().size,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
