"""Classification: one label a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.split import Split
from limbeck.errors import RecipeError
from limbeck.evaluation.explain import Normalize, write_explanations
from limbeck.evaluation.gallery import write_gallery
from limbeck.evaluation.metrics import classification, curves, quick
from limbeck.evaluation.names import check_metric, check_positive
from limbeck.evaluation.operating import at_threshold, choose_threshold, probability
from limbeck.evaluation.predict import predict
from limbeck.evaluation.sampling import intervals, paired
from limbeck.evaluation.slices import slices
from limbeck.tasks.task import Task

Said = Mapping[str, tuple[Tensor, Tensor]]  # by split: logits [N, C], targets [N]


def classification_task(
    classes: Sequence[str] = (),
    *,
    positive: str | None = None,
    metric: str = "accuracy",
    specificity: float | None = None,
) -> Task:
    """Classification as a recipe asks for it.

    Args:
        classes: names; needed where a positive class or a metric of one class is asked for.
        positive: the class that is looked for. Its F1, sensitivity and specificity are told only if it is declared:
            which of two classes is meant is not guessed.
        metric: that models are compared by; see ``limbeck.evaluation.names``.
        specificity: share of the other samples to leave alone. The threshold for it is chosen on validation.

    Raises:
        RecipeError: if there is no such metric or class, or a positive class is needed and not declared.

    Example:
        >>> classification_task(["benign", "malignant"], positive="malignant", metric="auc", specificity=0.9).primary
        'auc'
        >>> classification_task(["benign", "malignant"], specificity=0.9)
        Traceback (most recent call last):
        limbeck.errors.RecipeError: specificity is 0.9, and the key 'positive' does not say of which class
          cure: set positive to one of benign, malignant
    """
    check_metric(metric, classes, positive)
    number = None if positive is None else check_positive(positive, classes)
    if specificity is not None and positive is None:
        raise RecipeError(
            f"specificity is {specificity:g}, and the key 'positive' does not say of which class",
            cure=f"set positive to one of {', '.join(list(classes)[:20])}",
        )
    if specificity is not None and not 0 < specificity < 1:
        raise RecipeError(f"specificity is {specificity:g}, expected a share between 0 and 1, such as 0.9")
    return Task(
        name="classification",
        primary=metric,
        hear=predict,
        quick=lambda said, wanted=(): quick(said[0], said[1], wanted, positive=number),
        metrics=lambda said, split, classes: classification(said[0], said[1], classes, positive=number),
        score=partial(score, primary=metric, positive=number, specificity=specificity),
        paired=lambda first, second, split: paired(
            first, second, split.targets, metric, positive=number, groups=split.groups
        ),
        reference=lambda said: said[0],
        pictures=pictures,
        positive=positive,
        specificity=specificity,
    )


def pictures(
    folder: str | Path,
    splits: Mapping[str, Split],
    classes: Sequence[str],
    said: Mapping[str, Mapping[str, Tensor]],
    models: Mapping[str, tuple[nn.Module, Normalize | None]],
    *,
    seed: int = 0,
    colors: Any = None,
) -> None:
    """Write the galleries of mistakes and the explanation maps of the test split into a run folder.

    Args:
        folder: the run folder.
        splits: that the logits are of.
        classes: names.
        said: by role and split logits ``[N, C]``, with ``student`` at least.
        models: module and preparation of its inputs by role; a role without them gets no maps.
        seed, colors: of no use here: nothing is drawn by chance, and classes have no colors.
    """
    split, logits = splits["test"], {role: one["test"] for role, one in said.items()}
    write_gallery(folder, split, classes, logits)
    write_explanations(folder, split, classes, logits, models)


def score(
    said: Said,
    splits: Mapping[str, Split],
    classes: Sequence[str],
    teacher_says: Mapping[str, Tensor] | None = None,
    *,
    primary: str = "accuracy",
    positive: int | None = None,
    specificity: float | None = None,
    detailed: bool = True,
) -> dict[str, dict[str, Any]]:
    """Everything that is said of one model on all splits.

    Args:
        said: what it said of the samples of each split, with their targets.
        splits: the same splits, for the groups and slices of their samples.
        classes: names.
        teacher_says: the teacher's logits by split, to compare with.
        primary: the metric that models are compared by.
        positive: number of the declared positive class.
        specificity: that a threshold is chosen for, on validation.
        detailed: also curves, slices and intervals from the draw of the samples, of all splits but ``train``.

    Returns:
        By split what :func:`limbeck.evaluation.metrics.classification` gives; with a specificity the
        ``operating_point`` (``threshold``, ``specificity_wanted``, ``sensitivity``, ``specificity``, ``chosen_on``);
        and in detail ``pr``, ``roc``, ``slices``, ``sampling``.
    """
    point = None
    if positive is not None and specificity is not None:
        point = _operating_point(*said["validation"], positive, specificity)
    found = {}
    for name, (logits, targets) in said.items():
        groups = getattr(splits[name], "groups", None)
        other = teacher_says.get(name) if teacher_says else None
        found[name] = classification(logits, targets, classes, other, positive=positive)
        in_detail = detailed and name != "train"
        if in_detail:
            found[name] |= curves(logits, targets, classes, positive)
            found[name]["sampling"] = _sampling(logits, targets, primary, positive, groups)
        if positive is not None and point is not None:
            threshold = point["threshold"]
            found[name]["operating_point"] = point | _operating(logits, targets, positive, threshold)
            if in_detail:
                sampling = _operating_sampling(logits, targets, positive, threshold, groups)
                found[name]["operating_point"]["sampling"] = sampling
        columns = getattr(splits[name], "slices", {})
        if in_detail and columns:
            threshold = None if point is None else point["threshold"]
            found[name]["slices"] = slices(logits, targets, columns, positive=positive, threshold=threshold)
    return found


def _operating_point(logits: Tensor, targets: Tensor, positive: int, specificity: float) -> dict[str, Any] | None:
    labeled = targets >= 0
    scores = probability(logits[labeled], positive)
    threshold = choose_threshold(scores, targets[labeled] == positive, specificity)
    if threshold is None:
        return None
    return {"threshold": threshold, "specificity_wanted": specificity, "chosen_on": "validation"}


def _operating(logits: Tensor, targets: Tensor, positive: int, threshold: float) -> dict[str, float | None]:
    labeled = targets >= 0
    return at_threshold(probability(logits[labeled], positive), targets[labeled] == positive, threshold)


def _sampling(
    logits: Tensor, targets: Tensor, primary: str, positive: int | None, groups: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    names = ["accuracy", "balanced_accuracy", "macro_f1"]
    if positive is not None:
        names += ["f1", "sensitivity", "specificity", "average_precision"]
    if positive is not None or logits.shape[1] == 2:
        names.append("auc")  # of many classes it takes seconds
    return intervals(logits, targets, list(dict.fromkeys([*names, primary])), positive=positive, groups=groups)


def _operating_sampling(
    logits: Tensor, targets: Tensor, positive: int, threshold: float, groups: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Intervals of sensitivity and specificity at the threshold: those of two classes, called or not."""
    called = (probability(logits, positive) >= threshold).double()
    two = torch.where(targets < 0, targets, (targets == positive).long())
    both = torch.stack([1 - called, called], dim=1)
    return intervals(both, two, ["sensitivity", "specificity"], positive=1, groups=groups)


CLASSIFICATION = classification_task()
