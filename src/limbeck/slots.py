"""Files that are written in place, by several processes or over several attempts: the other writer beside ``files``.

What a killed process wrote stays. Such a file is not whole until its writer says so, by another file.
"""

from __future__ import annotations

import errno
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.errors import FileError
from limbeck.files import refused


class Slots:
    """A file of a fixed size that is written in place; what is missing is zeros.

    Every process writes its own, also those that else write nothing, see :func:`limbeck.files.write_nothing`.

    Args:
        path: of the file; made if it is not there, and given its size.
        size: in bytes.
        reserved: take the room on the disk now, so that writing never needs more.

    Raises:
        FileError: if it can not be made, or has no room.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     slots = Slots(Path(folder) / "s.bin", 4)
        ...     slots.write(1, b"ab")
        ...     slots.close()
        ...     (Path(folder) / "s.bin").read_bytes()
        b'\\x00ab\\x00'
    """

    def __init__(self, path: str | Path, size: int, *, reserved: bool = False) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "r+b" if self.path.exists() else "w+b", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            there = self.path.stat().st_size
            if reserved and there < size:
                self.write(there, bytes(size - there))
            elif there != size:
                self._file.truncate(size)
        except OSError as error:
            raise refused(self.path, error) from None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at ``offset``.

        Raises:
            FileError: if the disk is full; what was written before is kept.
        """
        try:
            self._file.seek(offset)
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise refused(self.path, error) from None

    def sync(self) -> None:
        """Have the system put what was written on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(self.path, error) from None

    def close(self) -> None:
        """Close it; a closed file is not written any more."""
        self._file.close()


class Claim:
    """A folder that is this process's alone, until it is released or the process ends, however that happens.

    A file in the folder is locked; the system takes the lock from a process that dies, and processes that were forked
    from it do not have it. Where files can not be locked, nothing is refused.

    Args:
        path: of the file that is locked; it is removed at the end.

    Raises:
        FileError: if another process has it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     claim = Claim(Path(folder) / ".lock")
        ...     claim.release()
        ...     os.listdir(folder)
        []
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None
        while self._file is None:
            self._file = self._locked()
        weakref.finalize(self, self._file.close)

    def _locked(self) -> Any:
        """The locked file; None if it was removed meanwhile."""
        try:
            file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise refused(self.path, error) from None
        try:
            os.lockf(file.fileno(), os.F_TLOCK, 0)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(64).decode("ascii", "replace")
            file.close()
            raise FileError(
                f"{self.path.parent} is being written by another process{f' ({owner})' if owner else ''}",
                cure="wait for it or end it, or choose another path",
            ) from None
        except (OSError, AttributeError):  # no locks on this file system, or on this platform
            return file
        try:
            if os.fstat(file.fileno()).st_ino != os.stat(self.path).st_ino:
                raise FileNotFoundError
        except FileNotFoundError:
            file.close()
            return None
        with suppress(OSError):  # a full disk: the lock counts, not who is named in it
            if file.seek(0, os.SEEK_END):  # some file systems are slow to close what was cut to nothing
                file.truncate(0)
            file.write(f"process {os.getpid()}".encode())
        return file

    def release(self) -> None:
        """Give it up; a second time does nothing."""
        if not self._file.closed:
            with suppress(OSError):  # on Windows, an open file
                self.path.unlink()
            self._file.close()
