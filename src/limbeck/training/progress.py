"""What a person sees while a model trains: bars on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from limbeck.training.distributed import world


class Reporter(Protocol):
    """Told what happens; shows it or not."""

    def begin(self, title: str, epochs: int, batches: int, samples: int) -> None:
        """A training of so many epochs of so many batches and samples begins."""

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        """A batch is done: ``epoch`` from 1, ``done`` batches and ``samples`` samples of it."""

    def epoch(self, line: Mapping[str, Any]) -> None:
        """An epoch is done; ``line`` is what the journal keeps of it, and ``select``, the metric it is selected by."""

    def end(self) -> None:
        """The training is over, or was stopped."""

    def say(self, text: str) -> None:
        """Something to know."""


class Silent:
    """Shows nothing.

    Example:
        >>> Silent().say("unheard")
    """

    def begin(self, title: str, epochs: int, batches: int, samples: int) -> None: ...
    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None: ...
    def epoch(self, line: Mapping[str, Any]) -> None: ...
    def end(self) -> None: ...
    def say(self, text: str) -> None: ...


class Lines(Silent):
    """One line an epoch, on standard error."""

    def __init__(self) -> None:
        self._title, self._epochs = "", 0

    def begin(self, title: str, epochs: int, batches: int, samples: int) -> None:
        self._title, self._epochs = title, epochs

    def epoch(self, line: Mapping[str, Any]) -> None:
        self.say(f"{self._title}  {epoch_text(line, self._epochs)}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar a training, with loss, validation metric, samples a second and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
        )
        self._columns, self._kind = columns, Progress
        self._bars: Any = None
        self._shown = 0.0

    def begin(self, title: str, epochs: int, batches: int, samples: int) -> None:
        self._bars = self._kind(*self._columns, console=self._console, transient=False)
        self._task = self._bars.add_task(title, total=epochs * batches, text="")
        self._batches, self._epochs, self._metric = batches, epochs, ""
        self._clock, self._seen = time.monotonic(), 0
        self._bars.start()

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self._seen += samples
        now = time.monotonic()
        if now - self._shown < 0.1 and done < self._batches:
            return
        self._shown = now
        speed = self._seen / max(now - self._clock, 1e-9)
        lost = "" if loss is None else f"  loss {loss:.3f}"
        text = f"{epoch}/{self._epochs}{lost}{self._metric}  {speed:,.0f} samples/s"
        self._bars.update(self._task, completed=(epoch - 1) * self._batches + done, text=text)

    def epoch(self, line: Mapping[str, Any]) -> None:
        self._metric = _validation(line)
        text = epoch_text(line, self._epochs)
        self._bars.update(self._task, completed=line["epoch"] * self._batches, text=text)

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def reporter(*, quiet: bool = False) -> Reporter:
    """Bars on a terminal, lines elsewhere, nothing when ``quiet`` or when another process shows it."""
    if quiet or world().rank:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def epoch_text(line: Mapping[str, Any], epochs: int) -> str:
    """One epoch in words, with the validation metric that the epoch is selected by.

    Example:
        >>> line = {"epoch": 2, "train": {"loss": 0.5}, "validation": {"accuracy": 0.91}, "samples_per_second": 1200.0}
        >>> epoch_text(line, 10)
        '2/10  loss 0.500  validation accuracy 91.00 %  1,200 samples/s'
        >>> line |= {"validation": {"loss": 0.4, "pixel_accuracy": 0.9, "mean_iou": 0.6}, "select": "mean_iou"}
        >>> epoch_text(line, 10)
        '2/10  loss 0.500  validation mean IoU 60.00 %  1,200 samples/s'
    """
    speed = f"{line['samples_per_second']:,.0f} samples/s"
    return f"{line['epoch']}/{epochs}  loss {line['train']['loss']:.3f}{_validation(line)}  {speed}"


def _validation(line: Mapping[str, Any]) -> str:
    found = line["validation"]
    name = line.get("select", "accuracy")
    if name not in found:
        name = next((other for other in found if other not in ("loss", "accuracy")), "accuracy")
    value = found.get(name)
    told = name.replace("_", " ").replace("iou", "IoU")
    if value is None:
        return ""
    return f"  validation {told} {value:.4f}" if name == "loss" else f"  validation {told} {100 * value:.2f} %"


__all__ = ["Bars", "Lines", "Reporter", "Silent", "epoch_text", "reporter"]
