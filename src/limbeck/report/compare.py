"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.report.read import primary, read_run


def compare(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """One row a run: what a reader would hold side by side.

    Args:
        folders: of finished runs.

    Returns:
        Rows with ``run``, ``data``, its ``fingerprint``, ``split``, ``metric``, its mean for ``teacher``, ``control``
        and ``student``, ``majority_baseline``, ``difference``, and the student's ``parameters``, ``weights_bytes``,
        ``latency_ms``.

    Raises:
        FileError: if one is not the folder of a finished run.
    """
    rows = []
    for folder in folders:
        found = read_run(folder)
        models, split, metric = found.summary["models"], found.split, primary(found.summary)
        scores = {
            role: models[role]["metrics"][split].get(metric) if role in models else None
            for role in ("teacher", "control", "student")
        }
        rows.append(
            {
                "run": str(folder),
                "data": found.summary["data"]["name"],
                "fingerprint": found.summary["data"]["fingerprint"],
                "split": split,
                "metric": metric,
                **scores,
                "majority_baseline": models["student"]["metrics"][split].get("majority_baseline"),
                "difference": found.summary.get("difference"),
                **{key: models["student"][key] for key in ("parameters", "weights_bytes", "latency_ms")},
            }
        )
    return rows
