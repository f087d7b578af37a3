"""Findings about a run that is done: what its numbers do and do not show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from limbeck.doctor.finding import Finding, percent, spoken
from limbeck.doctor.predictions import constant, near_chance, never_named
from limbeck.evaluation.names import shown, sign, title
from limbeck.evaluation.statistics import Interval, gain, points

Evaluations = Mapping[str, list[dict[str, Any]]]
Differences = Mapping[str, dict[str, Any] | None]
TRY = "let objective: auto choose temperature and weight on validation, or train longer with a larger student"


def about_predictions(evaluations: Evaluations, split: str, classes: Sequence[str]) -> list[Finding]:
    """Models that answer with one class, or know no more than chance or the most frequent class.

    Args:
        evaluations: by role, one for each seed, with ``seed`` and ``selected``.
        split: that is judged.
        classes: names.

    Of segmentation also classes that a model never names.
    """
    found: list[Finding] = []
    for role, runs in evaluations.items():

        def of(one: Mapping[str, Any], role: str = role) -> list[Finding]:
            scored = one["selected"][split]
            counts, unit = torch.tensor(scored["confusion"]), "pixels" if _dense(scored) else "samples"
            always = constant(counts, role, split, classes, unit=unit)
            more = never_named(counts, role, split, classes) if unit == "pixels" and not always else []
            if always and role != "teacher":
                return always
            return [*always, *near_chance(counts, role, split, unit=unit), *more]

        found += _of_seeds(runs, of)
    return found


def about_training(
    evaluations: Evaluations, histories: Mapping[str, Sequence[Sequence[float]]] | None = None
) -> list[Finding]:
    """Trainings that went wrong at the end, or that were not at their end.

    ``diverged``, a warning: the last epoch's validation accuracy is below the selected one's by 10 points and by five
    standard errors. ``still_improving``, an info: for most seeds the selected epoch is the last one, and over the last
    quarter of the epochs the validation accuracy rose by more than two standard errors.

    Of segmentation it is the mean IoU, and two standard errors are half its interval from the draw of the pictures:
    pixels of one picture are not independent. Without an interval, as with one picture, neither is told.

    Args:
        evaluations: see :func:`about_predictions`, with ``last`` too.
        histories: by role, the validation accuracy (mean IoU) of each epoch of each seed.
    """
    found: list[Finding] = []
    for role, runs in evaluations.items():
        found += _of_seeds(runs, partial(_diverged, role))
        best_scored = runs[0]["selected"]["validation"]
        rising = [one for one in (histories or {}).get(role, []) if _rising(one, partial(_error, best_scored))]
        if rising and 2 * len(rising) > len((histories or {})[role]):
            best = rising[0]
            text = f"the {spoken(role)} was best in its last epoch, {len(best)}, and still improving"
            before = max(best[: math.ceil(len(best) * 0.75)])
            kind = _kind(best_scored)
            evidence = {"role": role, "epochs": len(best), kind: best[-1], f"{kind}_at_three_quarters": before}
            evidence["seeds_of_all"] = [len(rising), len((histories or {})[role])]
            cause, cure = "too few epochs", f"train the {spoken(role)} longer"
            found.append(Finding("still_improving", "info", text, evidence, cause, cure))
    return found


def about_gain(evaluations: Evaluations, differences: Differences, split: str) -> list[Finding]:
    """What distillation added over the controls, or that it is not known.

    Args:
        evaluations: see :func:`about_predictions`.
        differences: of the student to ``control`` and ``control_hard_labels``, as ``summary.json`` holds them.
        split: that is judged.
    """
    control, hard = differences.get("control"), differences.get("control_hard_labels")
    found: list[Finding] = []
    if control is None:
        text = "no control was trained: what distillation adds is not known"
        cause, cure = "controls.control is false, or no training sample has a label", "set controls: {control: true}"
        found.append(Finding("no_control", "warning", text, {}, cause, cure))
    elif gain(control) < 0:
        text = f"the student is worse than its control: {_points(control)}; try another temperature or weight"
        cause = "a temperature or weight that does not suit this pair, or a teacher whose soft answers are wrong here"
        found.append(Finding("below_control", "warning", text, dict(control), cause, TRY))
    elif gain(control) == 0:
        text = f"no gain over the control is shown: {_points(control)}"
        cause = "few seeds, a control that has learned all there is, or a temperature or weight that does not suit"
        found.append(Finding("no_gain_shown", "info", text, dict(control), cause, f"train more seeds; {TRY}"))
    if control is not None and gain(control) <= 0:
        found += _nothing_to_teach(evaluations, control, split)
    if hard is not None and gain(hard) <= 0:
        text = (
            "the teacher's hard labels on the same images give as much: the gain comes from the images without labels"
        )
        cause = "the student gains from more images, not from what the teacher says about the other classes"
        cure = "compare with the control of hard labels when you tell what distillation adds"
        text = f"{text} (soft over hard: {_points(hard)})"
        found.append(Finding("gain_from_unlabeled", "info", text, dict(hard), cause, cure))
    return found


def _nothing_to_teach(evaluations: Evaluations, control: Mapping[str, Any], split: str) -> list[Finding]:
    if "teacher" not in evaluations:
        return []
    metric = control["metric"]
    teacher = evaluations["teacher"][0]["selected"][split][metric]
    scores = [one["selected"][split][metric] for one in evaluations["control"]]
    mean = math.fsum(scores) / len(scores)
    if sign(metric) * teacher > sign(metric) * mean:
        return []
    text = f"the teacher ({title(metric)} {shown(metric, teacher)}) is not better than the control "
    text += f"({shown(metric, mean)}): it has nothing to teach"
    evidence = {"metric": metric, "split": split, "teacher": teacher, "control": mean, "seeds": len(scores)}
    cause = "a teacher that was trained too shortly, on other data, or is hardly larger than the student"
    cure = "train a better teacher first: longer, larger, pretrained, or an ensemble"
    return [Finding("nothing_to_teach", "warning", text, evidence, cause, cure)]


def _diverged(role: str, one: Mapping[str, Any]) -> list[Finding]:
    best, last = (one[which]["validation"] for which in ("selected", "last"))
    kind, (high, low) = _kind(best), (scored[_kind(best)] for scored in (best, last))
    if high is None or low is None or high - low <= max(0.1, 5 * _error(best, high)):
        return []
    text = f"the {spoken(role)}'s training ended worse than it was: validation {title(kind)} {percent(high)} in "
    text += f"epoch {one['selected']['epoch']}, {percent(low)} in the last, {one['last']['epoch']}"
    evidence = {"role": role, "selected": high, "last": low}
    evidence |= {"selected_epoch": one["selected"]["epoch"], "last_epoch": one["last"]["epoch"]}
    cause, cure = "a rate that is too high towards the end", "lower the rate, use schedule: cosine, or set clip: 1.0"
    return [Finding("diverged", "warning", text, evidence, cause, cure)]


def _rising(history: Sequence[float], error: Callable[[float], float]) -> bool:
    """Whether the best epoch is the last, and better than all of the first three quarters by two standard errors."""
    if len(history) < 4 or history[-1] < max(history):
        return False
    before = max(history[: math.ceil(len(history) * 0.75)])
    return history[-1] - before > 2 * error(before)


def _error(scored: Mapping[str, Any], value: float) -> float:
    """The standard error of a validation accuracy; of a mean IoU from its interval, infinite where it has none."""
    if not _dense(scored):
        samples = scored["samples"]
        return math.sqrt(max(value * (1 - value), 1 / samples) / samples)
    ends = scored.get("sampling", {}).get(_kind(scored))
    return (ends["high"] - ends["low"]) / 4 if ends else math.inf


def _dense(scored: Mapping[str, Any]) -> bool:
    """Whether pixels were counted."""
    return "pixels" in scored


def _kind(scored: Mapping[str, Any]) -> str:
    """What an epoch's score is called here."""
    return "mean_iou" if _dense(scored) else "accuracy"


def _of_seeds(runs: Sequence[Mapping[str, Any]], check: Callable[[Mapping[str, Any]], list[Finding]]) -> list[Finding]:
    """What a check finds in the runs of a role, told once for each code, with the seeds that it concerns."""
    found: dict[str, tuple[Finding, list[int]]] = {}
    for run in runs:
        for one in check(run):
            found.setdefault(one.code, (one, []))[1].append(run["seed"])
    told = []
    for one, seeds in found.values():
        several = f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if len(runs) > 1 else ""
        told.append(replace(one, message=one.message + several, evidence={**one.evidence, "seeds": seeds}))
    return told


def _points(found: Mapping[str, Any]) -> str:
    return points(Interval(found["mean"], found["low"], found["high"], found["seeds"]), found["metric"])


__all__ = ["about_gain", "about_predictions", "about_training"]
