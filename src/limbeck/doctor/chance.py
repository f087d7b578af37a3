"""What chance alone would give: a model's answers against guessing, and paired answers against a fair coin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEVIATIONS = 3.0  # of the distribution by chance: exceeded once in 700 times by chance alone
PIXELS = 0.05  # of the way from chance to 1, that pixels must go: how many are independent is not known


@dataclass(frozen=True)
class Knowledge:
    """How far a model's answers go beyond guessing.

    Args:
        accuracy: share of right answers.
        majority: share of the most frequent class: what always naming it would give.
        balanced: mean recall over the classes that occur.
        chance: what ``balanced`` would be if the same answers were given to samples at random.
        deviation: its standard deviation then.
        samples: number of them.
        unit: what they are, ``samples`` or ``pixels``.
    """

    accuracy: float
    majority: float
    balanced: float
    chance: float
    deviation: float
    samples: int
    unit: str = "samples"

    @property
    def beyond_chance(self) -> bool:
        """Whether the answers depend on the samples' classes: more than three deviations above chance.

        Pixels of one picture resemble each other, so that their deviation would be far too small: they must go a
        twentieth of the way from chance to 1.
        """
        if self.unit == "pixels":
            return self.balanced - self.chance > PIXELS * (1 - self.chance)
        return self.balanced - self.chance > max(DEVIATIONS * self.deviation, 1e-9)

    @property
    def beyond_majority(self) -> bool:
        """Whether the accuracy is above the majority's by 2 points and by 2.33 deviations (or half the way to 1)."""
        noise = 2.33 * math.sqrt(self.majority * (1 - self.majority) / self.samples)
        return self.accuracy > self.majority + max(0.02, min(noise, (1 - self.majority) / 2))

    def to_dict(self) -> dict[str, Any]:
        """As evidence."""
        values = ("accuracy", "majority", "balanced", "chance")
        named = {"majority": "majority_baseline", "balanced": "balanced_accuracy"}
        return {named.get(key, key): round(getattr(self, key), 4) for key in values} | {self.unit: self.samples}


def knowledge(confusion: Tensor, unit: str = "samples") -> Knowledge:
    """What a confusion matrix says about a model's knowledge.

    Chance is that of answers which are independent of the classes: the recall of class c is then the share q of
    answers that name it, with variance q (1 - q) / (samples of c).

    Args:
        confusion: counts ``[C, C]``, rows: truth, columns: answer.
        unit: what was counted, ``samples`` or ``pixels``.

    Example:
        >>> found = knowledge(torch.tensor([[40, 10], [10, 40]]))
        >>> found.balanced, found.chance, found.beyond_chance
        (0.8, 0.5, True)
        >>> knowledge(torch.tensor([[50, 0], [50, 0]])).beyond_chance
        False
    """
    counts = confusion.double()
    total, support = counts.sum(), counts.sum(dim=1)
    there = support > 0
    answers = (counts.sum(dim=0) / total)[there]
    recall = counts.diag()[there] / support[there]
    variance = (answers * (1 - answers) / support[there]).sum() / len(answers) ** 2
    return Knowledge(
        accuracy=float(counts.diag().sum() / total),
        majority=float(support.max() / total),
        balanced=float(recall.mean()),
        chance=float(answers.mean()),
        deviation=float(variance.sqrt()),
        samples=int(total),
        unit=unit,
    )


def confusion(logits: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Counts ``[C, C]`` of truth by answer over the labeled samples.

    Example:
        >>> confusion(torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1]), 2).tolist()
        [[1, 0], [1, 0]]
    """
    labeled = targets >= 0
    answers = logits.argmax(dim=1)[labeled].cpu()
    return torch.bincount(targets[labeled] * classes + answers, minlength=classes * classes).reshape(classes, classes)


def sign_test(more: int, less: int) -> float:
    """Probability of at least ``more`` heads in so many throws of a fair coin.

    Example:
        >>> sign_test(3, 0)
        0.125
    """
    from scipy.stats import binomtest

    return float(binomtest(more, more + less, 0.5, alternative="greater").pvalue) if more + less else 1.0
