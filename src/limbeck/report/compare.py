"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.evaluation.dense.told import chance, classes_there, division
from limbeck.report.read import primary, read_run


def compare(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """One row a run: what a reader would hold side by side.

    Args:
        folders: of finished runs.

    Returns:
        Rows with ``run``, ``data``, its ``fingerprint``, ``split``, ``divided`` (how pictures with masks were, else
        None), ``metric``, its mean for ``teacher``, ``control`` and ``student``, ``majority_baseline`` (the accuracy of
        always naming the most frequent class), ``majority`` (the metric of that, where it is known), ``difference``,
        and the student's ``parameters``, ``weights_bytes``, ``latency_ms``.

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
        share = models["student"]["metrics"][split].get("majority_baseline")
        there = classes_there(found.scored("student").get("per_class", []))
        rows.append(
            {
                "run": str(folder),
                "data": found.summary["data"]["name"],
                "fingerprint": found.summary["data"]["fingerprint"],
                "split": split,
                "divided": division(found.summary),
                "metric": metric,
                **scores,
                "majority_baseline": share,
                "majority": chance(metric, share, there) if found.dense else share if metric == "accuracy" else None,
                "difference": found.summary.get("difference"),
                **{key: models["student"][key] for key in ("parameters", "weights_bytes", "latency_ms")},
            }
        )
    return rows
