"""Batches of an epoch: a pure function of split, seed, epoch and batch number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.datasets import LoaderSplit
from limbeck.data.order import reseeded
from limbeck.data.replay import Replay, Seer, pixel_checksum
from limbeck.data.sampling import Sampler, repeats
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.data.workers import prepared
from limbeck.errors import RecipeError


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Batches of one epoch. A last batch of one sample is joined to the one before: BatchNorm can not train on one.

    Example:
        >>> split = Split(torch.zeros(9, 1), [0] * 9, ["a"], "train")
        >>> steps_per_epoch(split, 4)
        2
    """
    if isinstance(split, LoaderSplit):
        return split.steps
    return len(_bounds(len(split), batch_size))


def batches(
    split: Split,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    views: Views | None = None,
    shuffle: bool = True,
    sampling: str = "none",
    start: int = 0,
    stop: int | None = None,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
    replay: Replay | None = None,
    checked: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch, in order.

    Args:
        split: samples.
        batch_size: samples of a batch.
        seed: of order and views.
        epoch: number of the epoch, which is also the number of the view. A sample that balanced sampling draws again
            in an epoch is seen in another view.
        views: augmentation, None for none.
        shuffle: False: in the split's own order.
        sampling: of a shuffled epoch, ``none`` or ``balanced``, see :class:`limbeck.data.sampling.Sampler`. What
            samples are mixed with is drawn likewise.
        start: number of the first batch; those before are not computed.
        stop: number of the first batch that is not computed; None: all are.
        workers: processes that prepare batches; the batches are the same at any number. The random transforms of
            a Dataset are seeded by (seed, epoch, batch number), so they too come out the same.
        part: ``(number, count)``: only this of ``count`` pieces of every batch, each of 2 samples or more. Of a batch
            that is too small for that, the last ones get a stand-in that is not ``counted``.
        replay: the same few views over and over, which then do not depend on ``seed``; None: new ones in every epoch.
        checked: compute the checksums of the inputs, see :attr:`limbeck.data.batch.Batch.pixels`.

    Raises:
        RecipeError: if ``batch_size`` is below 1, or views or balanced sampling are asked for where samples have no
            address, or a replay where they are not the same each time.

    Example:
        >>> split = Split(torch.zeros(5, 1), [0] * 5, ["a"], "train")
        >>> [len(batch) for batch in batches(split, batch_size=2)]
        [2, 3]
    """
    if isinstance(split, LoaderSplit):
        asked = "view of them can be made" if views is not None and not views.identity else ""
        asked = asked or ("order of them drawn" if sampling != "none" else "")
        asked = asked or ("batch of them divided among processes" if part[1] > 1 else "")
        asked = asked or ("view of them seen again" if replay is not None else "")
        if asked:
            raise RecipeError(
                f"split '{split.name}' is a DataLoader: its samples have no address, so no {asked}",
                cure="give the Dataset, or leave it to the Dataset's own transforms and the loader's sampler",
            )
        yield from islice(split.stream(), start, stop)
        return
    if replay is not None and not split.replayable:
        raise RecipeError(
            f"split '{split.name}' has random transforms of its own, so no view of it can be seen again",
            cure="take the random transforms out of the Dataset and give them as views",
        )
    check_dense(split, views, sampling)
    sampler = Sampler(split.targets, sampling)
    order = sampler.order(seed, epoch) if shuffle else torch.arange(len(split))
    see = Seer(split, sampler, views or Views(), seed if replay is None else replay.seed)
    maker = _Maker(see, order, _bounds(len(split), batch_size), seed, epoch, part, replay, checked)
    numbers = range(start, len(maker) if stop is None else stop)
    if workers == 0:
        for number in numbers:
            yield maker[number]
        return
    yield from prepared(maker, numbers, workers, split.name)


def check_dense(split: Split, views: Views | None = None, sampling: str = "none") -> None:
    """See that nothing is asked of pictures with masks that is for samples with one label.

    Args:
        split: of any kind.
        views, sampling: as in :func:`batches`.

    Raises:
        RecipeError: naming what is asked.
    """
    if not split.dense:
        return
    if sampling != "none":
        raise RecipeError(
            f"sampling is {sampling!r}, which is for samples with one label, and these have masks",
            cure="leave it out; class_weights of a loss weigh the classes of pixels",
        )
    if views is not None:
        views.check_masks()


@dataclass(frozen=True)
class _Maker:
    see: Seer
    order: Tensor
    bounds: list[tuple[int, int]]
    seed: int
    epoch: int
    part: tuple[int, int] = (0, 1)
    replay: Replay | None = None
    checked: bool = False

    def __len__(self) -> int:
        return len(self.bounds)

    @cached_property
    def numbers(self) -> Tensor:
        """The number of the view at each place of the order."""
        if not self.see.sampler.balanced:
            numbers = torch.full((len(self.order),), self.epoch)
            return numbers if self.replay is None else self.replay.number(numbers)
        again = repeats(self.order)
        return self.epoch + (again << 32) if self.replay is None else self.replay.number(self.epoch + again)

    def __getitem__(self, number: int) -> Batch:
        start, stop, counted = _piece(*self.bounds[number], *self.part)
        index, view = self.order[start:stop], self.numbers[start:stop]
        address = (self.seed, self.epoch, number, *self.part[: 1 if self.part[0] else 0])
        with nullcontext() if self.see.split.replayable else reseeded(*address):
            inputs, target, mixed = self.see(index, view)
        pixels = pixel_checksum(inputs) if self.checked else None
        return Batch(index, inputs, target, mixed, counted, None if self.replay is None else view, pixels)


def _bounds(size: int, batch_size: int) -> list[tuple[int, int]]:
    if batch_size < 1:
        raise RecipeError(f"batch_size is {batch_size}, expected 1 or more")
    starts = list(range(0, size, batch_size))
    if batch_size > 1 and len(starts) > 1 and size - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], size], strict=True))


def _piece(start: int, stop: int, number: int, count: int) -> tuple[int, int, bool]:
    """Bounds of one of ``count`` pieces of a batch, and whether it counts; BatchNorm wants 2 samples in each."""
    length = stop - start
    busy = min(count, max(length // 2, 1))
    if number >= busy:
        return start, min(start + 2, stop), False
    return start + length * number // busy, start + length * (number + 1) // busy, True
