"""``summary.json``: what a run found, in the form that is promised, and what a reader must be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.evaluation.metrics import scalars
from limbeck.evaluation.names import is_share, sign, title
from limbeck.evaluation.statistics import Interval, change, gain, interval, paired_difference, points
from limbeck.pipeline.given import Given
from limbeck.pipeline.stages import Trained

SPLITS = ("train", "validation", "test")
Evaluations = Mapping[str, list[dict[str, Any]]]


def models(
    trained: Mapping[str, Sequence[Trained | Given]], evaluations: Evaluations, sizes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The summary's ``models``: sizes, mean metrics of the selected epochs over seeds, and every single run."""
    found: dict[str, Any] = {}
    for role, evaluated in evaluations.items():
        runs = []
        for one, scored in zip(trained.get(role, []), evaluated, strict=False):
            if isinstance(one, Given) and not one.kept:  # a function or an estimator: no file
                continue
            runs.append(
                {
                    "seed": one.seed,
                    "selected_epoch": one.result.get("selected_epoch"),
                    "last_epoch": one.result.get("last_epoch"),
                    "metrics": {which: _by_split(scored[which]) for which in ("selected", "last")},
                    "file": f"models/{role}/seed{one.seed}/{one.file().name}",
                    "sha256": one.digest,
                    "seconds": one.result.get("seconds"),
                }
            )
        means = _mean([_by_split(scored["selected"]) for scored in evaluated])
        empty = dict.fromkeys(("parameters", "macs", "weights_bytes", "gzip_bytes", "latency_ms"))
        found[role] = {**empty, **sizes.get(role, {}), "metrics": means, "runs": runs}
    return found


def difference(
    evaluations: Evaluations, metric: str, against: str, split: str, *, role: str = "student"
) -> dict[str, Any] | None:
    """The student's paired difference to a control over seeds, with its 95 % interval; None without that control."""
    if against not in evaluations:
        return None
    first, second = ([scored["selected"][split][metric] for scored in evaluations[one]] for one in (role, against))
    found = paired_difference(first, second)
    return {
        "metric": metric,
        "split": split,
        "against": against,
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "seeds": found.n,
        "better": "higher" if sign(metric) > 0 else "lower",
    }


def sentence(differences: Mapping[str, dict[str, Any] | None]) -> str:
    """Where the gain comes from, in words.

    Example:
        >>> gain = {"mean": 0.05, "low": 0.03, "high": 0.07, "seeds": 5, "split": "test", "metric": "auc"}
        >>> sentence({"control": gain, "control_hard_labels": None})
        'On test, the distilled student beats its control in AUC: +5.00 points (95 % interval +3.00 to +7.00, 5 seeds).'
    """
    control, hard = differences.get("control"), differences.get("control_hard_labels")
    if control is None:
        return "No control was trained, so what distillation adds is not known."
    where, metric = f"On {control['split']}", title(control["metric"])
    verb = {1: "beats", -1: "falls behind", 0: "is compared with"}[gain(control)]
    text = f"{where}, the distilled student {verb} its control in {metric}: {_points(control)}."
    if gain(control) == 0 and control["low"] is not None:
        text = f"{where}, no difference to the control in {metric} is shown: {_points(control)}."
    if hard is not None:
        share = "soft targets add" if gain(hard) > 0 else "soft targets are not shown to add anything"
        text += f" Over the teacher's hard labels on the same images, {share}: {_points(hard)}; "
        rest = change(control["mean"] - hard["mean"], control["metric"])
        unit = " points come" if is_share(control["metric"]) else " comes"
        text += f"{rest}{unit} from the images without labels."
    return text


def mean_interval(evaluations: Evaluations, role: str, metric: str, split: str) -> dict[str, Any]:
    """Mean of a metric over seeds with its interval."""
    found = interval([scored["selected"][split][metric] for scored in evaluations[role]])
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.n}


def _points(found: Mapping[str, Any]) -> str:
    return points(Interval(found["mean"], found["low"], found["high"], found["seeds"]), found["metric"])


def _by_split(scored: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {split: scalars(scored[split]) | _operating(scored[split]) for split in SPLITS if split in scored}


def _operating(scored: Mapping[str, Any]) -> dict[str, float]:
    """The operating point's numbers as metrics among the others."""
    point = scored.get("operating_point", {})
    return {f"operating_{key}": point[key] for key in ("threshold", "sensitivity", "specificity") if key in point}


def _mean(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        split: {
            name: sum(run[split][name] for run in runs) / len(runs)
            for name in values
            if all(run[split].get(name) is not None for run in runs)
        }
        for split, values in runs[0].items()
    }
