"""The doctor over a run that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.doctor import Finding, ordered
from limbeck.doctor.after import about_gain, about_predictions, about_training
from limbeck.doctor.models import grown, not_smaller
from limbeck.errors import ExportError, LimbeckError
from limbeck.files import Journal
from limbeck.pipeline import reusing
from limbeck.pipeline.stages import Context


def after(
    context: Context,
    evaluations: Mapping[str, list[dict[str, Any]]],
    sizes: Mapping[str, Mapping[str, Any]],
    differences: Mapping[str, dict[str, Any] | None],
    failed: LimbeckError | None = None,
) -> list[Finding]:
    """What a finished run shows.

    Args:
        context: of the run, whose journals are read.
        evaluations: by role, one for each seed.
        sizes: by role.
        differences: of the student to its controls.
        failed: why the export, or a stage after the student, failed, if one did.
    """
    experiment, split = context.experiment, context.compared
    data = experiment.data
    histories = {
        role: [_history(context.run.path / "models" / role / f"seed{one['seed']}" / "metrics.jsonl") for one in runs]
        for role, runs in evaluations.items()
    }
    found = [Finding("data_split_made", "info", note) for note in data.notes]
    found += [Finding("model_begins", "info", note) for note in experiment.notes]
    found += about_predictions(evaluations, split, data.classes)
    if experiment.generations == 1:  # a generation is as large as the one before it, as it should be
        found += not_smaller(sizes.get("student", {}), sizes.get("teacher", {}))
    widened = reusing.counted(experiment)
    found += grown(widened) if widened and experiment.control else []
    found += about_gain(evaluations, differences, split)
    found += about_training(evaluations, histories)
    if not data.train.replayable:
        text = "the training data can not be replayed (its own order or augmentation): resuming is not bit-identical"
        cause, cure = "a DataLoader, or a Dataset with random transforms", "give the Dataset without them, and views"
        found.append(Finding("not_replayable", "warning", text, {}, cause, cure))
    if failed is not None:
        code = "export_failed" if isinstance(failed, ExportError) else "stage_failed"
        found.append(Finding(code, "error", failed.what, {}, "", failed.cure or ""))
    return found


def together(before: Sequence[Finding], later: Sequence[Finding]) -> list[dict[str, Any]]:
    """All findings of a run in plain data; what is known better at its end is told once."""
    known = {(one.code, one.evidence.get("role")) for one in later}
    kept = [one for one in before if (one.code, one.evidence.get("role")) not in known]
    return [one.to_dict() for one in ordered([*kept, *later])]


def _history(journal: Path) -> list[float]:
    """The validation accuracy of each epoch; of segmentation the mean IoU."""
    lines = [line["validation"] for line in Journal(journal).read()]
    found = [line["mean_iou"] if "mean_iou" in line else line.get("accuracy") for line in lines]
    return [one for one in found if one is not None]


__all__ = ["after", "together"]
