"""How a command ends: exit codes, signals, and one message instead of a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from limbeck.errors import LimbeckError

EXIT_CODES = {
    0: "done",
    1: "unexpected error",
    2: "recipe or usage",
    3: "data",
    4: "model",
    5: "not a finite number in the training",
    6: "file",
    7: "export",
    8: "resume",
    9: "the doctor found an error",
    130: "interrupted (Ctrl-C)",
    143: "terminated",
}
FOUND, INTERRUPTED, TERMINATED = 9, 130, 143


def say(text: str, code: int, error: BaseException) -> int:
    if os.environ.get("LIMBECK_TRACEBACK", "") not in ("", "0"):
        raise error
    rank = rank_of_several()
    if rank is None:
        print(f"limbeck: {text}", file=sys.stderr)
    elif type(error).__name__ != "RankFailed" and (rank == 0 or code not in (INTERRUPTED, TERMINATED)):
        # What another process failed of, it has said itself; a signal is for all.
        print(f"limbeck: rank {rank} of {os.environ['WORLD_SIZE']}: {text}", file=sys.stderr)
    return code


def rank_of_several() -> int | None:
    """The number of this process if torchrun has started several.

    Example:
        >>> rank_of_several() is None
        True
    """
    several = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    return int(os.environ["RANK"]) if several else None


@contextlib.contextmanager
def together() -> Iterator[None]:
    """If torchrun has started several processes, they run the command together, and the first one prints results."""
    rank = rank_of_several()
    if rank is None:
        yield
        return
    from limbeck.training.distributed import processes

    with contextlib.redirect_stdout(io.StringIO() if rank else sys.stdout), processes():
        yield


@contextlib.contextmanager
def terminates() -> Iterator[None]:
    """SIGTERM ends a command as an error does, so that what is open is closed; training handles it itself."""

    def stop(number: int, frame: FrameType | None) -> None:
        error = LimbeckError("terminated")
        error.exit_code = TERMINATED
        raise error

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def stdout_kept(as_json: bool) -> Iterator[None]:
    """With --json, whatever libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        yield


def typed() -> str:
    return shlex.join(["limbeck", *sys.argv[1:]])


@contextlib.contextmanager
def how_to_go_on(folder: Path, models: Path | None = None) -> Iterator[None]:
    """Say how a stopped run is continued, with the user's file if it has one."""
    try:
        yield
    except (LimbeckError, KeyboardInterrupt) as error:
        kept = any((folder / name).exists() for name in ("run.json", "sweep.json"))
        if kept and not rank_of_several() and getattr(error, "exit_code", INTERRUPTED) in (INTERRUPTED, TERMINATED):
            own = f" --models {shlex.quote(str(models))}" if models else ""
            print(f"limbeck: go on with: limbeck resume {shlex.quote(str(folder))}{own}", file=sys.stderr)
        raise
