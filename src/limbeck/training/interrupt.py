"""Stopping cleanly: Ctrl-C and SIGTERM let the current step finish and a checkpoint be written."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from limbeck.errors import LimbeckError


class Interrupted(LimbeckError):
    """The run was asked to stop and has written where it stands."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}; everything up to here is kept")


class StopSignal:
    """A context that notes SIGINT and SIGTERM instead of dying of them; a second one is not waited for.

    Args:
        patient: of several processes, which may be told twice (by torchrun, and by the scheduler or terminal): later
            signals change nothing.

    Example:
        >>> with StopSignal() as stop:
        ...     stop.number is None
        True
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.number: int | None = None
        self._patient = patient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:  # it came after the last look
            self.raise_if_set()

    def raise_if_set(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and not self._patient:
            raise Interrupted(number)
        self.number = self.number or number
