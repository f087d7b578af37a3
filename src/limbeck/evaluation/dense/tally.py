"""What is counted of a model's answers about pixels: enough for every metric, and no more as pictures grow.

Of a picture stay three counts a class and its loss, for intervals; everything else is counted over all pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data.scenes import IGNORED

FORMAT = 2  # of :meth:`Tally.tensors`
STEPS = 64  # bins from one power of 2 to the next
OCTAVES = 20  # from 1/2 down to 2^-21, and from 1/2 up to 1 - 2^-21
SIDE = OCTAVES * STEPS
BINS = 2 * SIDE  # of a class's scores; an edge lies at probability 1/2
CONFIDENCES = 15  # bins of the most probable class's probability
_LEAST = 1e-12  # probability that a loss is computed of
_SHIFT = 23 - STEPS.bit_length() + 1  # bits of a float32 that are left out of account
_FIRST = (127 - OCTAVES - 1) << (23 - _SHIFT)  # what is left of the lowest edge


@dataclass
class Tally:
    """Counts over the labeled pixels of some regions.

    Args:
        margins: int64 ``[R, 3, C]``: pixels of each region that are right, that are of the class, that are said to be.
        losses: float64 ``[R]``: sum of each region's cross-entropy.
        confusion: int64 ``[C, C]`` over all regions: truth in rows, prediction in columns.
        inside, outside: int64 ``[C, BINS]``: how many pixels of a class, and of all others, gave the class a score in
            each bin; see :func:`binned`.
        confidence: float64 ``[3, 15]``: number, sum of probabilities and right answers of the pixels whose most
            probable class has a probability in each of 15 equal bins.
    """

    margins: Tensor
    losses: Tensor
    confusion: Tensor
    inside: Tensor
    outside: Tensor
    confidence: Tensor

    @classmethod
    def empty(cls, regions: int, classes: int) -> Tally:
        """Nothing counted yet."""
        return cls(
            margins=torch.zeros(regions, 3, classes, dtype=torch.int64),
            losses=torch.zeros(regions, dtype=torch.float64),
            confusion=torch.zeros(classes, classes, dtype=torch.int64),
            inside=torch.zeros(classes, BINS, dtype=torch.int64),
            outside=torch.zeros(classes, BINS, dtype=torch.int64),
            confidence=torch.zeros(3, CONFIDENCES, dtype=torch.float64),
        )

    def add(self, region: int, probabilities: Tensor, mask: Tensor) -> Tensor:
        """Count some rows of a region, or all of them, and give their labels as the model sees them.

        Args:
            region: its number.
            probabilities: ``[C, H, W]``.
            mask: uint8 ``[H, W]``, the truth; 255: not counted.

        Returns:
            uint8 ``[H, W]``: the most probable class, the first among equals.

        Example:
            >>> tally = Tally.empty(1, 2)
            >>> tally.add(0, torch.tensor([[[0.9, 0.2]], [[0.1, 0.8]]]), torch.tensor([[0, 0]]).byte())
            tensor([[0, 1]], dtype=torch.uint8)
            >>> tally.confusion.tolist()
            [[1, 1], [0, 0]]
        """
        guess, most = most_probable(probabilities)
        kept = (mask != IGNORED).flatten()
        index = None if bool(kept.all()) else kept.nonzero().flatten()
        truth, said, most = (_chosen(one, index) for one in (mask, guess, most))
        truth = truth.long()
        self._count(region, truth, said)
        own = _own(probabilities, truth, index)
        inside = torch.bincount(truth * BINS + binned(own), minlength=self.inside.numel()).reshape(self.inside.shape)
        self.inside += inside
        self.outside -= inside
        for number, plane in enumerate(probabilities):  # a class at a time stays in the processor's cache
            self.outside[number] += torch.bincount(binned(_chosen(plane, index)), minlength=BINS)
        self.losses[region] -= own.double().clamp(min=_LEAST).log().sum()
        self._trust(most, said == truth)
        return guess

    def _count(self, region: int, truth: Tensor, said: Tensor) -> None:
        classes = len(self.confusion)
        cells = torch.bincount(truth * classes + said, minlength=classes**2).reshape(classes, classes)
        self.confusion += cells
        self.margins[region] += margins(cells)

    def _trust(self, most: Tensor, right: Tensor) -> None:
        bins = (most * CONFIDENCES).ceil().long().clamp(1, CONFIDENCES) - 1
        pairs = torch.bincount(2 * bins + right, minlength=2 * CONFIDENCES).reshape(CONFIDENCES, 2)
        sums = torch.bincount(bins, weights=most.double(), minlength=CONFIDENCES)
        self.confidence += torch.stack([pairs.sum(1).double(), sums, pairs[:, 1].double()])

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.confusion.sum())

    @property
    def loss(self) -> float:
        """Sum of the cross-entropy over all regions."""
        return float(self.losses.sum())

    @property
    def total(self) -> Tensor:
        """The confusion matrix of all regions, float64 ``[C, C]``."""
        return self.confusion.double()

    def tensors(self) -> dict[str, Tensor]:
        """As a file holds it."""
        return dict(vars(self))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Tally:
        """From what :meth:`tensors` gave, among others."""
        return cls(**{name: tensors[name] for name in cls.__dataclass_fields__})


def margins(confusion: Tensor) -> Tensor:
    """What most metrics are made of: pixels that are right, of the class, and said to be, ``[…, 3, C]``.

    Args:
        confusion: ``[…, C, C]``, truth in rows.

    Example:
        >>> margins(torch.tensor([[3, 1], [0, 4]])).tolist()
        [[3, 4], [4, 4], [3, 5]]
    """
    return torch.stack([confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), confusion.sum(-2)], dim=-2)


def most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable class of each pixel, uint8 ``[H, W]``, the first among equals, and its probability.

    Class by class: where classes lie far apart in memory this is many times quicker than ``argmax``.

    Args:
        probabilities: ``[C, H, W]`` of at most 255 classes.

    Example:
        >>> most_probable(torch.tensor([[[0.4]], [[0.6]]]))
        (tensor([[1]], dtype=torch.uint8), tensor([[0.6000]]))
    """
    most = probabilities[0].clone()
    guess = torch.zeros(most.shape, dtype=torch.uint8)
    for number in range(1, len(probabilities)):
        plane = probabilities[number]
        torch.maximum(guess, (plane > most).view(torch.uint8) * number, out=guess)
        torch.maximum(most, plane, out=most)
    return guess, most


def binned(probabilities: Tensor) -> Tensor:
    """The bin of each probability, int32 of the same shape, from 0 to BINS - 1.

    Bins hold their upper edge and not their lower one, so that those above the middle hold what is above 1/2. From 1/2
    down an octave has 64 bins of equal length, and so has the distance to 1 from 1/2 up: from one edge to the next
    they change by less than 2 %. A score's distance to 1 above 1/2 is exact in float32, and so is everything else here:
    no score falls on the wrong side of an edge.

    Example:
        >>> binned(torch.tensor([0.0, 0.5, 0.5000001, 1.0])).tolist() == [0, BINS // 2 - 1, BINS // 2, BINS - 1]
        True
    """
    scores = probabilities.float()
    above = scores > 0.5
    bits = torch.minimum(scores, 1 - scores).abs_().view(torch.int32)  # a blend may round to more than 1
    place = (((bits - (~above).int()) >> _SHIFT) - _FIRST).clamp_(0, SIDE - 1)
    return place + above.int() * (BINS - 1 - 2 * place)


def thresholds() -> list[float]:
    """The lower edge of each bin, which it does not hold: it and those after it hold all scores above."""
    edges = [2.0 ** (at // STEPS - OCTAVES - 1) * (1 + at % STEPS / STEPS) for at in range(SIDE + 1)]
    return [0.0, *edges[1:], *(1 - edges[at] for at in range(SIDE - 1, 0, -1))]


def _own(probabilities: Tensor, truth: Tensor, index: Tensor | None) -> Tensor:
    """What each pixel's own class was given, ``[N]``."""
    pixels = probabilities[0].numel()
    place = torch.arange(pixels) if index is None else index
    return torch.take(probabilities, truth * pixels + place)


def _chosen(values: Tensor, index: Tensor | None) -> Tensor:
    return values.flatten() if index is None else values.flatten()[index]


__all__ = ["BINS", "CONFIDENCES", "FORMAT", "Tally", "binned", "margins", "most_probable", "thresholds"]
