"""What a model card says of a segmenter besides: what it takes, how its data were divided, and each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.evaluation.dense.stitching import OVERLAP
from limbeck.evaluation.names import shown, title

_METRICS = (
    "mean_iou", "mean_dice", "pixel_accuracy", "micro_precision", "micro_recall", "macro_precision", "macro_recall",
    "agreement",
)  # fmt: skip
_OF_CLASS = {"iou": "IoU", "dice": "Dice", "recall": "recall", "precision": "precision"}


def takes(told: Mapping[str, Any], exports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The patches that it learned from, the heights and widths that its graph takes, and how pictures are looked at.

    Args:
        told: content of ``student.json``.
        exports: of the run's summary.
    """
    patch = told.get("patch") or list(told.get("shape", ()))[-2:]
    size = "×".join(map(str, patch)) if patch else "as in training"
    sizes = [one["sizes"] for one in exports if one.get("sizes")]
    share = f"{100 * told.get('overlap', OVERLAP):.0f} %"
    return [
        f"- It learned from patches of {size} (height × width)"
        + (f"; heights and widths that `student.onnx` takes: {sizes[0]}" if sizes else ""),
        f"- A picture is looked at in windows of {size}, each of which shares {share} of a side with the next; where "
        "they overlap their probabilities are blended, and a smaller picture is filled up with black. Every number "
        "below is of whole pictures looked at so, and counts pixels that have a label",
    ]


def by_split(scored: Mapping[str, Mapping[str, float]], metric: str) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: the shipped student on each split, the metric that models are compared by first.

    Args:
        scored: metrics by split.
        metric: its name.
    """
    names = {name: title(name) for name in dict.fromkeys([metric, *_METRICS])}
    names |= {"micro_precision": "micro precision at 1/2", "micro_recall": "micro recall at 1/2"}
    names |= {"agreement": "agreement with the teacher"}
    names = {name: head for name, head in names.items() if any(name in values for values in scored.values())}
    heads = ["split", "pictures", "labeled pixels", "without a label", *names.values()]
    heads += ["pixel accuracy of always the most frequent class"]
    rows = []
    for split, values in scored.items():
        labeled, ignored = values.get("pixels", 0), values.get("ignored", 0)
        share = ignored / (labeled + ignored) if labeled + ignored else None
        without = f"{ignored:,.0f} ({shown('pixel_accuracy', share)})"
        cells = [f"{values['samples']:,.0f}", f"{labeled:,.0f}", without]
        cells += [shown(name, values.get(name)) for name in names]
        rows.append([split, *cells, shown("pixel_accuracy", values.get("majority_baseline"))])
    return heads, rows


def by_class(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: pixels, IoU, Dice, recall and precision of each class.

    Args:
        rows: ``per_class`` of an evaluation.
    """
    every = sum(one["support"] for one in rows)
    table = []
    for one in rows:
        share = one["support"] / every if every else None
        cells = [f"{one['support']:,}", shown("recall", share), *(shown(name, one.get(name)) for name in _OF_CLASS)]
        table.append([str(one["class"]), *cells])
    return ["class", "pixels", "share", *_OF_CLASS.values()], table


__all__ = ["by_class", "by_split", "takes"]
