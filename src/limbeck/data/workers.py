"""Batches that other processes prepare, whose errors arrive as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from limbeck.errors import DataError, LimbeckError


def prepared(items: Any, numbers: range, workers: int, name: str) -> Iterator[Any]:
    """``items[number]`` for each number, in order, computed in other processes by torch's DataLoader.

    Args:
        items: what is asked; it travels to the processes.
        numbers: in order.
        workers: how many processes.
        name: of the split, for messages.

    Raises:
        LimbeckError: the first one that an item raised, as it was.
        DataError: if a process dies.

    Example:
        >>> [int(one) for one in prepared(torch.arange(5), range(1, 3), 1, "train")]
        [1, 2]
    """
    loader: DataLoader[Any] = DataLoader(_Careful(items), batch_size=None, sampler=numbers, num_workers=workers)
    # An iterator of the loader draws a base seed from torch's generator; nothing here may depend on that.
    with torch.random.fork_rng(devices=[]):
        stream = iter(loader)
    while True:
        try:
            found = next(stream)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataError(
                f"a process that prepares batches of split '{name}' died ({error})",
                cure="it was killed, most often for want of memory: set fewer workers, or workers: 0",
            ) from None
        if isinstance(found, _Failed):
            raise found.error
        yield found


@dataclass(frozen=True)
class _Failed:
    error: LimbeckError


class _Careful(Dataset[Any]):
    """Gives an error as a value: torch would raise it again with a traceback for its message."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __getitem__(self, number: int) -> Any:
        try:
            return self.items[number]
        except LimbeckError as error:
            return _Failed(error)
