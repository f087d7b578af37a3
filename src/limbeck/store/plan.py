"""What asking the teacher every step costs, and what a store costs: arithmetic over rates that were measured.

With N samples, E epochs, S trainings that ask the teacher, G processes, V stored views, P passes of the teacher over
the data, and seconds a sample t (teacher), s (student's step), v (view), w (write), r (read)::

    online = N E S (t + s + v) / G
    stored = N P (t + w) / G + N E S (s + v + r) / G,        P = min(V, E), or V where the store is built beforehand

Trainings that ask no teacher add N E (s + v) / G to both. Building beforehand makes its views once more, N V v / G.
Bytes are V N times the record's. Storing pays once S E passes P (t + w) / (t - r).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from limbeck.store.layout import Layout

PAGE = 4096  # bytes that a disk gives at least
ONLINE, STORE, AUTO = "online", "store", "store: auto"


@dataclass(frozen=True)
class Rates:
    """What one process on one machine does, as it was measured.

    Args:
        teacher: seconds a sample of the teacher's forward pass, all members of an ensemble together.
        student: seconds a sample of the distilled student's step, forward, backward and optimizer.
        control: the same of a training that asks no teacher.
        view: seconds a sample of fetching it and making its view.
        write: seconds a record of encoding it and handing it to the operating system.
        read: seconds a record of gathering it from memory and decoding it.
        seek: seconds of reading one page at a random place of the disk.
        disk_write: bytes a second that reach the disk.
        disk_read: bytes a second from the disk.
        free: bytes free on the disk.
        memory: bytes of memory, in which a store can be kept by the operating system; 0: not known.
    """

    teacher: float
    student: float
    control: float
    view: float
    write: float
    read: float
    seek: float
    disk_write: float
    disk_read: float
    free: int
    memory: int


@dataclass(frozen=True)
class Question:
    """What is to be distilled.

    Args:
        samples: of the training split.
        layout: of a record.
        views: stored of each sample.
        epochs: of each training.
        students: trainings that ask a teacher, over all seeds.
        controls: trainings of the same length that ask none.
        processes: that share each training.
        mode: ``learned``: filled in the first epochs, if there is one process; ``built`` beforehand; ``read``: it is
            there already.
        once: without a store too the teacher is asked once, because the student always sees the same view.
        impossible: why nothing can be stored; empty: it can.

    Example:
        >>> asked = Question(samples=1000, layout=Layout(classes=10), views=4, epochs=20)
        >>> asked.bytes  # 4 views of 1,000 samples in 24 bytes
        96000
    """

    samples: int
    layout: Layout
    views: int
    epochs: int
    students: int = 1
    controls: int = 0
    processes: int = 1
    mode: str = "learned"
    once: bool = False
    impossible: str = ""

    @property
    def ahead(self) -> bool:
        """Whether the store is built before the first training: several processes can not fill it as they train."""
        return self.mode == "built" or (self.mode == "learned" and self.processes > 1)

    @property
    def passes(self) -> int:
        """How often the teacher is asked about each sample to fill the store."""
        if self.mode == "read" or not self.students:
            return 0
        return self.views if self.ahead else min(self.views, self.epochs)

    @property
    def bytes(self) -> int:
        """Bytes of all records."""
        return self.views * self.samples * self.layout.stride


@dataclass(frozen=True)
class Cost:
    """Seconds by what they are spent on."""

    teacher: float = 0.0
    steps: float = 0.0
    views: float = 0.0
    write: float = 0.0
    read: float = 0.0

    @property
    def total(self) -> float:
        """All of it, one after the other."""
        return self.teacher + self.steps + self.views + self.write + self.read

    def to_dict(self) -> dict[str, float]:
        """The parts and their total."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class Epochs:
    """Seconds of one epoch: of a training without a teacher, with it, making a view of the store, and reading it.

    A view of the store is made by the first training's epoch, or by a pass of its own where it is built beforehand.
    """

    control: float
    online: float
    building: float
    stored: float


@dataclass(frozen=True)
class Plan:
    """Online against stored.

    Args:
        question: what was asked.
        online: seconds with the teacher at every step.
        stored: seconds with a store, its making included.
        epoch: seconds of single epochs.
        fits_disk: whether the store fits the free disk.
        fits_memory: whether it fits the memory, so that it is read from there; None: not known.
        pays_after: epochs of students, over all trainings, from which storing is faster; None: never.
        take: ``online``, ``store`` (built beforehand) or ``store: auto`` (filled in the first epochs).
        reason: for that, in a sentence.
    """

    question: Question
    online: Cost
    stored: Cost
    epoch: Epochs
    fits_disk: bool
    fits_memory: bool | None
    pays_after: float | None
    take: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        asked, after = self.question, self.pays_after
        return {
            "question": {**asdict(asked), "layout": asked.layout.to_dict(), "ahead": asked.ahead},
            "record_bytes": asked.layout.stride,
            "bytes": asked.bytes,
            "passes": asked.passes,
            "fits_disk": self.fits_disk,
            "fits_memory": self.fits_memory,
            "online": self.online.to_dict(),
            "stored": self.stored.to_dict(),
            "epoch": asdict(self.epoch),
            "pays_after_epochs": after,
            "pays_after_trainings": None if after is None else after / asked.epochs,
            "take": self.take,
            "reason": self.reason,
        }


def planned(question: Question, rates: Rates, *, elsewhere: bool = False) -> Plan:
    """What both ways cost, and which to take.

    Args:
        question: what is to be distilled.
        rates: of the machine.
        elsewhere: it is meant for another disk, so that a store that does not fit this one is not ruled out.

    Example:
        >>> rates = Rates(teacher=10e-3, student=1e-3, control=1e-3, view=0.0, write=1e-6, read=1e-6, seek=1e-4,
        ...               disk_write=1e9, disk_read=1e9, free=10**9, memory=10**9)
        >>> plan = planned(Question(1000, Layout(classes=10), views=4, epochs=20), rates)
        >>> round(plan.online.total), round(plan.stored.total), plan.question.bytes, plan.take
        (220, 60, 96000, 'store: auto')
    """
    asked, share = question, question.samples / question.processes
    trained = asked.epochs * (asked.students * rates.student + asked.controls * rates.control)
    seen = asked.epochs * (asked.students + asked.controls)
    rounds = (1 if asked.students else 0) if asked.once else asked.students * asked.epochs
    online = Cost(share * rounds * rates.teacher, share * trained, share * seen * rates.view)
    passes = asked.passes
    write, read = _writing(asked, rates), _reading(asked, rates)
    stored = Cost(
        teacher=share * passes * rates.teacher,
        steps=share * trained,
        views=share * (seen + (passes if asked.ahead else 0)) * rates.view,
        write=passes * write,
        read=asked.students * asked.epochs * read,
    )
    alone, asking = share * (rates.student + rates.view), share * rates.teacher
    epoch = Epochs(
        control=share * (rates.control + rates.view),
        online=alone + (0.0 if asked.once else asking),
        building=asking + write + (share * rates.view if asked.ahead else alone + read),
        stored=alone + read,
    )
    gain = share * rates.teacher - read
    fixed = stored.teacher + stored.write + stored.views - online.views
    after = fixed / gain if gain > 0 and asked.students and not asked.once else None
    disk, memory = asked.bytes <= rates.free, asked.bytes <= rates.memory if rates.memory else None
    take, reason = _verdict(asked, rates, online, stored, after, elsewhere)
    return Plan(asked, online, stored, epoch, disk, memory, after, take, reason)


def _writing(asked: Question, rates: Rates) -> float:
    """Seconds of keeping one view of all samples: processes encode, and share one disk."""
    return asked.samples * max(rates.write / asked.processes, asked.layout.stride / rates.disk_write)


def _reading(asked: Question, rates: Rates) -> float:
    """Seconds of reading one view of all samples, in random order.

    A store that is larger than memory is not found there when its view comes again. A view that fits is then read
    once, page by page; of a larger one the share that does not fit is read a page a record. Processes wait for their
    own pages and share the disk's bytes a second.
    """
    warm = asked.samples * rates.read / asked.processes
    if not rates.memory or asked.bytes <= rates.memory:
        return warm
    view = asked.samples * asked.layout.stride
    pages = max(view / PAGE, asked.samples * (1 - rates.memory / view))
    return warm + max(pages * rates.seek / asked.processes, pages * PAGE / rates.disk_read)


def _verdict(
    asked: Question, rates: Rates, online: Cost, stored: Cost, after: float | None, elsewhere: bool
) -> tuple[str, str]:
    """Which to take, and why."""
    first, second = in_words(online.total), in_words(stored.total)
    if not asked.students:
        return ONLINE, "no training asks the teacher"
    if asked.once:
        return ONLINE, (
            "the student always sees the same view, so the teacher is asked once without a store too "
            f"({in_words(online.teacher)} of {first})"
        )
    if asked.impossible:
        return ONLINE, asked.impossible
    kept, free = storage(asked.bytes), storage(rates.free)
    there = asked.mode == "read"
    if asked.bytes > rates.free and not elsewhere and not there:
        fit = rates.free // (asked.samples * asked.layout.stride)
        less = f"; {fit:,} of {asked.views:,} views would" if fit else ""
        return ONLINE, f"a store of {kept} does not fit the {free} that are free here{less}"
    rounds = asked.students * asked.epochs
    if after is None or stored.total >= online.total:
        why = "reading costs no less than the teacher" if after is None else f"it pays after {after:,.1f} epochs"
        return ONLINE, f"a store takes {second}, the live teacher {first}: {why}, and there are {rounds:,}"
    but = "" if asked.bytes <= rates.free or there else f"; it needs a disk of {kept}, and {free} are free here"
    if rates.memory and asked.bytes > rates.memory:
        but += f"; {kept} do not fit {storage(rates.memory)} of memory, so random reads bound it"
    return STORE if asked.ahead or there else AUTO, (
        f"{second} instead of {first}: the teacher is asked {asked.passes:,} times about each sample, not {rounds:,}, "
        f"which pays after {after:,.1f} epochs{but}"
    )


def in_words(seconds: float) -> str:
    """A duration for people.

    Example:
        >>> [in_words(one) for one in (0, 2e-7, 0.0042, 42, 600, 9000, 3e6, 1e9)]
        ['0 s', '0.2 µs', '4.2 ms', '42 s', '10 min', '2.5 h', '35 days', '32 years']
    """
    for below, unit, size in ((1e-3, "µs", 1e-6), (1, "ms", 1e-3)):
        if 0 < seconds < below:
            return f"{seconds / size:.{2 if seconds < 10 * size else 3}g} {unit}"
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    for below, unit, size, digits in ((90, "s", 1, 0), (5400, "min", 60, 0), (172_800, "h", 3600, 1)):
        if seconds < below:
            return f"{seconds / size:.{digits}f} {unit}"
    days = seconds / 86_400
    return f"{days:,.0f} days" if days < 730 else f"{_large(days / 365.25)} years"


def storage(count: float) -> str:
    """Bytes for people.

    Example:
        >>> storage(46), storage(24_120), storage(9.2e11), storage(3e15)
        ('46 B', '24.1 kB', '920 GB', '3 PB')
    """
    for unit, step in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}" if count < 1e18 else f"{count / step:,.0f} {unit}"
    return f"{count:.0f} B"


def _large(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) and value < 1e9 else f"{value:.1e}"


__all__ = ["AUTO", "ONLINE", "STORE", "Cost", "Epochs", "Plan", "Question", "Rates", "in_words", "planned", "storage"]
