"""Memory of the CPU: how much there is, and what happens to it between steps."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from pathlib import Path

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT, _LARGEST = 1 << 30, 32 << 20  # bytes; glibc takes no larger one for the second
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def memory() -> int | None:
    """Bytes of memory that this process may have, a container's limit considered; None where that is not known.

    Example:
        >>> memory() is None or memory() > 2**20
        True
    """
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    with suppress(OSError, ValueError):  # without a limit it says "max"
        return min(found, int(_CGROUP.read_text(encoding="ascii")))
    return found


def keep_freed() -> bool:
    """Have glibc keep up to 1 GiB that a step freed for the next one, which needs as much again.

    By default it gives the memory of large tensors back to the system at once and gets it again page by page, zeroed:
    a fifth of a small network's step on a CPU. What the process holds at its peak is the same. A user's own
    ``MALLOC_…`` or ``GLIBC_TUNABLES`` stays as it is; other C libraries do too.

    Returns:
        Whether it does so now.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(tune(_MAP, _LARGEST)) and bool(tune(_TRIM, _KEPT))
