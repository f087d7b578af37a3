"""Runs as real processes, and what is compared of two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from limbeck.files import sha256


def limbeck(*arguments: str) -> subprocess.Popen[bytes]:
    """The command line, silent."""
    command = [sys.executable, "-m", "limbeck", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})


def outcome(folder: Path) -> dict[str, str]:
    """Checksums of all weights and of the exported file, if there is one, and every metric."""
    weights = {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*.safetensors")}
    metrics = json.loads((folder / "summary.json").read_text())["models"]
    said = {role: json.dumps(model["metrics"], sort_keys=True) for role, model in metrics.items()}
    exported = {path.name: sha256(path) for path in folder.glob("*.onnx")}
    return {**weights, **said, **exported}
