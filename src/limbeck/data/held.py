"""Pictures with masks that are held decoded as long as memory allows, and decoded when asked for beyond that."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import Tensor

MOST_HELD = 2 << 30  # bytes of decoded pictures that are held in memory without being asked for
_RECENT = 8  # pictures that were decoded last, of those that are not held

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Held:
    """A picture and its mask, in memory."""

    pair: Pair

    def __call__(self) -> Pair:
        return self.pair


class Recent:
    """A reading that knows its last few results; of several threads, too.

    Args:
        read: gives the pair of a key.
        size: how many are known.

    Example:
        >>> asked = []
        >>> recent = Recent(asked.append, size=2)
        >>> for key in "abaca":
        ...     recent(key)
        >>> asked
        ['a', 'b', 'c']
    """

    def __init__(self, read: Callable[[Any], Pair], size: int = _RECENT) -> None:
        self.read, self.size = read, size
        self._known: OrderedDict[Any, Pair] = OrderedDict()
        self._lock = Lock()

    def __call__(self, key: Any) -> Pair:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self.read(key)
        with self._lock:
            self._known[key] = found
            while len(self._known) > self.size:
                self._known.popitem(last=False)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self.read, self.size)


@dataclass(frozen=True, eq=False)
class Asked:
    """A picture and its mask that are decoded when asked for."""

    recent: Recent
    key: Any

    def __call__(self) -> Pair:
        return self.recent(self.key)


class Holding:
    """Decides which pictures are held, in the order in which they come.

    Args:
        read: gives the pair of a key again.
        cache: ``auto``: held as long as they are at most :data:`MOST_HELD` bytes together; True: all; False: none.

    Example:
        >>> import torch
        >>> holding = Holding(lambda key: (torch.ones(3, 1, 1), torch.ones(1, 1)), cache=False)
        >>> type(holding.keep("a.png", (torch.ones(3, 1, 1), torch.ones(1, 1)))).__name__
        'Asked'
    """

    def __init__(self, read: Callable[[Any], Pair], cache: str | bool = "auto") -> None:
        self.recent = Recent(read)
        self.left = float("inf") if cache is True else 0 if cache is False else MOST_HELD
        self.count = self.bytes = 0

    def keep(self, key: Any, pair: Pair) -> Callable[[], Pair]:
        """How to have a pair again: by its key, where there is no room for it."""
        needed = sum(one.nbytes for one in pair)
        if needed > self.left:
            return Asked(self.recent, key)
        self.left -= needed
        self.count, self.bytes = self.count + 1, self.bytes + needed
        return Held(pair)


__all__ = ["MOST_HELD", "Asked", "Held", "Holding", "Pair", "Recent"]
