"""What a test split of this size can show: the draw of the samples in the summary, and the operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.data.split import Split
from limbeck.evaluation.names import is_share, shown, title
from limbeck.pipeline.experiment import Experiment
from limbeck.tasks.task import Task

Evaluations = Mapping[str, list[dict[str, Any]]]
WORTH_TELLING = 0.01  # half of an interval, from which a reader is told


def add_uncertainty(
    summary: dict[str, Any],
    experiment: Experiment,
    scored: Mapping[str, Mapping[str, Any]],
    said: Mapping[str, Any],
) -> None:
    """Put into the summary what the draw of the samples leaves open, and the operating point, of the seed that ships.

    Args:
        summary: gains ``sampling``, ``sampling_note``, ``sampling_difference`` and ``operating_point``.
        experiment: what was run.
        scored: what :func:`of_shipped` gives.
        said: by role what of its answers about the test split is compared; nothing where that is not looked at.
    """
    task, test = experiment.task, experiment.data.test
    split = "test" if said else "validation"
    summary["sampling"] = sampling(scored, task.primary, split)
    groups = None if not said or test.groups is None else len(set(test.groups))
    told = [sampling(scored, metric, split).get("student") for metric in dict.fromkeys([task.primary, "accuracy"])]
    unit = "pictures" if task.dense else "samples"
    summary["sampling_note"] = note([one for one in told if one is not None], None if task.dense else groups, unit)
    summary["sampling_difference"] = differences(task, test, said) if said else None
    summary["operating_point"] = operating_points(scored, task, split)
    if summary["sampling_note"]:
        summary["verdict"] += f" {summary['sampling_note']}"


def of_shipped(evaluations: Evaluations, seed: int, split: str) -> dict[str, dict[str, Any]]:
    """By role, what was said of the selected epoch on a split: of the seed that ships, or the teacher's only one."""
    return {
        role: next((one for one in runs if one["seed"] == seed), runs[0])["selected"][split]
        for role, runs in evaluations.items()
    }


def sampling(scored: Mapping[str, Mapping[str, Any]], metric: str, split: str) -> dict[str, dict[str, Any]]:
    """By role, a metric with its 95 % interval from the draw of the samples.

    Args:
        scored: what :func:`of_shipped` gives.
        metric: the metric that models are compared by.
        split: its name.

    Example:
        >>> one = {"accuracy": 0.9, "samples": 200, "sampling": {"accuracy": {"low": 0.85, "high": 0.93}}}
        >>> sampling({"student": one}, "accuracy", "test")["student"]["low"]
        0.85
    """
    found = {}
    for role, one in scored.items():
        interval = one.get("sampling", {}).get(metric)
        if interval is not None:
            about = {"metric": metric, "split": split, "samples": one["samples"], "value": one[metric]}
            found[role] = {**about, **interval}
    return found


def note(found: Sequence[Mapping[str, Any]], groups: int | None = None, unit: str = "samples") -> str | None:
    """A sentence where the draw of the samples alone moves a share by more than a point; else None.

    Args:
        found: of one role, what :func:`sampling` gives for each metric.
        groups: that the samples belong to.
        unit: what a sample is.

    Example:
        >>> note([{"metric": "accuracy", "split": "test", "samples": 200, "low": 0.90, "high": 0.962}])
        'The test split has 200 samples: its draw alone moves accuracy by ± 3.1 points.'
    """
    halves = {title(one["metric"]): (one["high"] - one["low"]) / 2 for one in found if is_share(one["metric"])}
    wide = [f"{name} by ± {100 * half:.1f} points" for name, half in halves.items() if half > WORTH_TELLING]
    if not wide:
        return None
    size = f"{found[0]['samples']:,} {unit}" + ("" if groups is None else f" of {groups:,} groups")
    return f"The {found[0]['split']} split has {size}: its draw alone moves {' and '.join(wide)}."


def differences(task: Task, split: Split, said: Mapping[str, Any]) -> dict[str, Any] | None:
    """The student's difference to its control on the same samples of the shipped seed, with its interval.

    Args:
        task: whose metric is compared.
        split: the samples, in an order of their own.
        said: by role, see :attr:`Task.reference`.

    Returns:
        ``metric``, ``split``, ``against``, ``mean``, ``low``, ``high``, ``samples``, ``groups``; None without a
        control, or where the samples have no fixed order.
    """
    if "control" not in said or not split.replayable:
        return None
    found = task.paired(said["student"], said["control"], split)
    if found is None:
        return None
    return {"metric": task.primary, "split": split.name, "against": "control", **found}


def operating_points(scored: Mapping[str, Mapping[str, Any]], task: Task, split: str) -> dict[str, Any] | None:
    """By role, the operating point of the shipped seed, and a sentence; None where no specificity was asked for.

    Example:
        >>> point = {"specificity_wanted": 0.9, "sensitivity": 0.8, "specificity": 0.85, "chosen_on": "validation"}
        >>> from limbeck.tasks.classification import classification_task
        >>> task = classification_task(["no", "yes"], positive="yes", specificity=0.9)
        >>> found = operating_points({"student": {"operating_point": point}}, task, "test")
        >>> found["sentence"].partition("validation, ")[2]
        'the student finds 80.00 % of yes on test and leaves 85.00 % of the others alone.'
    """
    found = {role: one["operating_point"] for role, one in scored.items() if "operating_point" in one}
    if not found:
        return None
    point = found["student"]
    sentence = (
        f"At its threshold for a specificity of {100 * point['specificity_wanted']:g} %, chosen on "
        f"{point['chosen_on']}, the student finds {shown('sensitivity', point['sensitivity'])} of {task.positive} on "
        f"{split} and leaves {shown('specificity', point['specificity'])} of the others alone."
    )
    return {"positive": task.positive, "split": split, "sentence": sentence, "models": found}
