"""Findings about splits whose pixels have labels: pictures on both sides, classes that are missing, pixels without."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.doctor.finding import Finding, percent

IGNORED = 0.2  # share of the pixels from which on it is told that they have no label
SHOWN = 5


def about_scenes(splits: Mapping[str, Split]) -> list[Finding]:
    """All that is found here, of the splits that have scenes.

    Args:
        splits: by name.
    """
    scenes = {name: split for name, split in splits.items() if isinstance(split, SceneSplit)}
    return [*leaky(scenes), *neighbors(scenes), *absent(scenes), *unlabeled(scenes)]


def leaky(splits: Mapping[str, SceneSplit]) -> list[Finding]:
    """Pictures of which one split has some patches and another one others: ``split_leaky``, a warning.

    Args:
        splits: by name.
    """
    found = []
    for first, second in combinations(splits, 2):
        both = _names(splits[first]) & _names(splits[second])
        if not both:
            continue
        regions = sum(one.scene.name in both for one in splits[second].regions)
        shown = sorted(both)[:SHOWN]
        several = "picture has" if len(both) == 1 else "pictures have"
        text = f"{len(both)} {several} patches in '{first}' and in '{second}', such as {', '.join(shown)}: "
        text += f"scores on '{second}' are too good, since a patch is seldom unlike the one beside it"
        evidence = {"splits": [first, second], "pictures": len(both), "regions": regions, "examples": shown}
        cure = "divide by picture: data.split_by: image; tell the split's name beside each score"
        found.append(Finding("split_leaky", "warning", text, evidence, "data.split_by: patch", cure))
    return found


def neighbors(splits: Mapping[str, SceneSplit]) -> list[Finding]:
    """Groups (folders, tiles) of which two splits have different pictures: ``group_overlap``, an info.

    Where all pictures are of one group, it is not told.
    """
    found = []
    for first, second in combinations(splits, 2):
        one, other = (_groups(splits[name]) for name in (first, second))
        both = sorted(one & other)
        if len(one | other) < 2 or not both or _names(splits[first]) & _names(splits[second]):
            continue
        several = "group has" if len(both) == 1 else "groups have"
        text = f"{len(both)} {several} pictures in '{first}' and in '{second}', such as {', '.join(both[:SHOWN])}: "
        text += f"scores on '{second}' are of new pictures, not of new groups"
        evidence = {"splits": [first, second], "groups": len(both), "examples": both[:SHOWN]}
        cause, cure = "data.split_by: image", "to know of groups never seen, hold whole ones out: data.split_by: group"
        found.append(Finding("group_overlap", "info", text, evidence, cause, cure))
    return found


def absent(splits: Mapping[str, SceneSplit]) -> list[Finding]:
    """Classes without a pixel in a split: ``class_absent``, a warning for training, else an info.

    A class that no split has is told too: a color table may name it in vain.

    Args:
        splits: by name.
    """
    found = []
    for name, split in splits.items():
        missing = [one for one, count in zip(split.classes, split.class_counts().tolist(), strict=True) if not count]
        if not missing:
            continue
        training, told = name == "train", ", ".join(missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        text = f"split '{name}' has no pixel of class {told}: "
        text += "it can not be learned" if training else "its scores are of the other classes"
        evidence = {"split": name, "classes": missing, "of": len(split.classes)}
        cause = "a rare class and few pictures, or a color that is written otherwise than in the masks"
        cure = "divide anew (data.seed, data.held_out), or take the class out of data.colors"
        found.append(Finding("class_absent", "warning" if training else "info", text, evidence, cause, cure))
    return found


def unlabeled(splits: Mapping[str, SceneSplit]) -> list[Finding]:
    """Splits of which more than a fifth of the pixels have no label: ``many_ignored``, a warning.

    Args:
        splits: by name.
    """
    found = []
    for name, split in splits.items():
        labeled, ignored = int(split.class_counts().sum()), split.ignored
        share = ignored / max(labeled + ignored, 1)
        if share <= IGNORED:
            continue
        text = f"{percent(share)} of the pixels of split '{name}' have no label: they teach nothing and count nowhere"
        evidence = {"split": name, "ignored": ignored, "pixels": labeled + ignored, "share": round(share, 4)}
        cause = "colors that the table does not name, a class under data.ignore, or masks of parts of pictures"
        cure = "see the colors that are told of these masks, and name them in data.colors"
        found.append(Finding("many_ignored", "warning", text, evidence, cause, cure))
    return found


def _names(split: SceneSplit) -> set[str]:
    return {one.scene.name for one in split.regions}


def _groups(split: SceneSplit) -> set[str]:
    return {one.scene.group for one in split.regions if one.scene.group}


__all__ = ["about_scenes", "absent", "leaky", "neighbors", "unlabeled"]
