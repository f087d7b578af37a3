"""Findings about the splits: the same samples, or samples of the same group, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch

from limbeck.data.duplicates import common
from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.doctor.finding import Finding, percent

CLEAR = 0.005  # share of the smaller split from which on an overlap is a warning
SHOWN = 5


def overlap(splits: Mapping[str, Split]) -> list[Finding]:
    """Samples that two splits have in common, pixel by pixel.

    ``overlap``: a warning from 0.5 % of the later split on, else an info.

    Args:
        splits: by name.

    Example:
        >>> import torch
        >>> train = Split(torch.arange(10.0).reshape(5, 2), [0, 1, 0, 1, 0], ["a", "b"], "train")
        >>> overlap({"train": train, "test": train.subset([3, 4], "test")})[0].evidence["samples"]
        2
    """
    found = []
    for (first, second), pairs in common(splits).items():
        if not pairs:
            continue
        samples = len({at for _, at in pairs})
        share = samples / len(splits[second])
        examples = [[_address(splits[first], one), _address(splits[second], two)] for one, two in pairs[:SHOWN]]
        several = "samples" if samples > 1 else "sample"
        text = f"'{first}' also holds {samples} {several} of '{second}' ({percent(share)}), pixel by pixel"
        evidence = {"splits": [first, second], "samples": samples, "share": round(share, 5), "examples": examples}
        cause = "pictures copied into several folders, frames of one film, or a data set that holds duplicates"
        cure = "leave them out (data.duplicates: drop), or divide anew"
        found.append(Finding("overlap", "warning" if share >= CLEAR else "info", text, evidence, cause, cure))
    return found


def groups(splits: Mapping[str, Split]) -> list[Finding]:
    """Groups (tiles, patients) with samples in two splits: ``group_overlap``, a warning.

    Args:
        splits: by name; those without groups are left out, and scenes, of which :mod:`limbeck.doctor.scenes` tells.
    """
    found = []
    plain = {name: split for name, split in splits.items() if not isinstance(split, SceneSplit)}
    named = {name: split.groups for name, split in plain.items() if split.groups is not None}
    for first, second in combinations(named, 2):
        both = sorted((set(named[first]) & set(named[second])) - {""})
        if not both:
            continue
        shared = set(both)
        samples = sum(one in shared for one in named[second])
        text = f"{len(both)} groups have samples in '{first}' and in '{second}', such as {', '.join(both[:SHOWN])}"
        evidence = {"splits": [first, second], "groups": len(both), "samples": samples, "examples": both[:SHOWN]}
        cause = "the table's own splits cut through groups"
        cure = "divide by group: leave the split column out and name data.group"
        found.append(Finding("group_overlap", "warning", text, evidence, cause, cure))
    return found


def few(split: Split, most: int = 1024) -> Split:
    """At most so many labeled samples (any, where none has a label), spread over a split; itself if it has no more.

    Example:
        >>> import torch
        >>> len(few(Split(torch.zeros(3000, 1), [0] * 3000, ["a"], "validation")))
        1024
    """
    labeled = (split.targets >= 0).nonzero().flatten()
    labeled = labeled if len(labeled) else torch.arange(len(split))
    if len(labeled) == len(split) <= most or not split.replayable:
        return split
    return split.subset(labeled[:: max(len(labeled) // most, 1)][:most])


def _address(split: Split, at: int) -> Any:
    """A sample's file where it has one, else its number."""
    names = getattr(split, "names", None)
    return names[at] if names is not None else at


__all__ = ["common", "few", "groups", "overlap"]
