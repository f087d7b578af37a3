"""The same sample twice: in two splits, or twice in one, by a hash of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch

from limbeck.data.split import Split
from limbeck.errors import DataError

_SHOWN = 5


def common(splits: Mapping[str, Split]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """For each pair of splits, pairs of addresses: each sample of the second that is in the first, and its first twin.

    Splits whose samples can not be hashed (a user's Dataset or DataLoader) are left out. Pictures are compared as they
    are in their files, before they are cropped and resized.

    Example:
        >>> train = Split(torch.arange(10.0).reshape(5, 2), [0, 1, 0, 1, 0], ["a", "b"], "train")
        >>> common({"train": train, "test": train.subset([3, 4], "test")})
        {('train', 'test'): [(3, 0), (4, 1)]}
    """
    known = {name: digests for name, split in splits.items() if (digests := split.digests()) is not None}
    places: dict[str, dict[bytes, int]] = {}
    for name, digests in known.items():
        places[name] = {}
        for at, digest in enumerate(digests):
            places[name].setdefault(digest, at)
    return {
        (first, second): [
            (places[first][digest], at) for at, digest in enumerate(known[second]) if digest in places[first]
        ]
        for first, second in combinations(known, 2)
    }


def within(split: Split) -> tuple[int, int]:
    """How many samples are copies of an earlier one of the split, and how many of these have another label.

    Example:
        >>> within(Split(torch.tensor([[1.0], [2.0], [1.0]]), [0, 1, 1], ["a", "b"], "train"))
        (1, 1)
    """
    first: dict[bytes, int] = {}
    copies = contrary = 0
    for digest, label in zip(split.digests() or (), split.targets.tolist(), strict=False):
        if digest in first:
            copies, contrary = copies + 1, contrary + (first[digest] != label)
        first.setdefault(digest, label)
    return copies, contrary


def without_later(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The same splits, without those samples that are in a later one too: of train, whatever is in the others."""
    left = dict(splits)
    names = list(splits)
    for number, name in enumerate(names):
        later = {digest for other in names[number + 1 :] for digest in splits[other].digests() or ()}
        digests = splits[name].digests()
        if digests is not None and not later.isdisjoint(digests):
            keep = [at for at, digest in enumerate(digests) if digest not in later]
            if not keep:
                raise DataError(f"every sample of split '{name}' is in another split too", cure="divide anew")
            left[name] = splits[name].subset(torch.tensor(keep))
    return left


def refuse(splits: Mapping[str, Split]) -> None:
    """See that no sample is in two splits.

    Raises:
        DataError: naming the first ones.
    """
    for (first, second), pairs in common(splits).items():
        if pairs:
            shown = [f"{_name(splits[first], one)} and {_name(splits[second], two)}" for one, two in pairs[:_SHOWN]]
            raise DataError(
                f"{len(pairs)} samples of split '{second}' are in '{first}' too, pixel by pixel: {', '.join(shown)}",
                cure="take them out, or set data.duplicates: drop",
            )


def notes(splits: Mapping[str, Split]) -> list[str]:
    """On copies within a split."""
    found = []
    for name, split in splits.items():
        copies, contrary = within(split)
        if copies:
            told = f" ({contrary} under another label)" if contrary else ""
            found.append(f"split '{name}' holds copies of its own samples, pixel by pixel: {copies}{told}")
    return found


def dropped(before: Mapping[str, Split], after: Mapping[str, Split]) -> list[str]:
    """A note on what :func:`without_later` left out."""
    gone = {name: len(split) - len(after[name]) for name, split in before.items()}
    return [
        f"left out of split '{name}', being in a later split too, pixel by pixel: {count}"
        for name, count in gone.items()
        if count
    ]


def _name(split: Split, at: int) -> str:
    return split.names[at] if split.names else f"sample {at}"
