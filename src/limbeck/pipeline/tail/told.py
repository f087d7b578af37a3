"""What the stages after the student did, for the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.evaluation.names import is_share, title
from limbeck.evaluation.statistics import change
from limbeck.pipeline.experiment import Experiment
from limbeck.pipeline.outcome import Outcome

_RESULT = ("kind", "from", "round_to", "widths", "sparsity", "sparsities")


def stages(
    found: Outcome, sizes: Mapping[str, Mapping[str, Any]], experiment: Experiment, split: str
) -> list[dict[str, Any]]:
    """One entry a stage: its name, what it did, and its model's metric and sizes.

    Args:
        found: what the trainings left.
        sizes: by role.
        experiment: whose stages they are.
        split: that models are compared on.
    """
    told, metric = [], experiment.task.primary
    for stage in (one for one in experiment.stages if one.name in found.trained):
        made = found.trained[stage.name][0]
        one: dict[str, Any] = {"name": stage.name, "does": type(stage).__name__.lower(), "seed": made.seed}
        one |= {key: made.result[key] for key in _RESULT if key in made.result}
        for role, key in ((stage.name, "metric"), (f"{stage.name}_control", "control")):
            if role in found.evaluations:
                one[key] = found.evaluations[role][0]["selected"][split][metric]
        told.append({**one, **{key: sizes[stage.name][key] for key in ("parameters", "macs", "weights_bytes")}})
    return told


def sentence(summary: Mapping[str, Any], role: str) -> str:
    """What ships against the student that it was made from.

    Example:
        >>> sizes = {"parameters": 50, "macs": 400, "latency_ms": 1.0}
        >>> metrics = {"selected": {"test": {"accuracy": 0.9}}}
        >>> student = {"parameters": 100, "macs": 1000, "latency_ms": 2.0, "runs": [{"seed": 0, "metrics": metrics}]}
        >>> other = {**sizes, "runs": [{"seed": 0, "metrics": {"selected": {"test": {"accuracy": 0.89}}}}]}
        >>> summary = {"models": {"student": student, "recovered": other}, "shipped_seed": 0, "metric": "accuracy"}
        >>> sentence(summary, "recovered").partition(": ")[2]
        "40 % of the student's MACs and 50 % of its parameters, -1.00 points of accuracy on test."
    """
    metric, models, seed = summary["metric"], summary["models"], summary["shipped_seed"]
    own, student = models[role], models["student"]
    made, before = (
        next(run for run in one["runs"] if run["seed"] == seed)["metrics"]["selected"] for one in (own, student)
    )
    split = "test" if "test" in made else "validation"
    difference = change(made[split][metric] - before[split][metric], metric)
    unit = " points of" if is_share(metric) else " in"
    shares = [f"{100 * own[key] / student[key]:.0f} %" for key in ("macs", "parameters")]
    return (
        f"What ships is {role.replace('_', ' ')}: {shares[0]} of the student's MACs and {shares[1]} of its parameters, "
        f"{difference}{unit} {title(metric)} on {split}."
    )


__all__ = ["sentence", "stages"]
