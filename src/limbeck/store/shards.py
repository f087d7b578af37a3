"""Shards: the records of a store in files, memory-mapped, gathered a batch at a time."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FileError
from limbeck.store.codec import Records
from limbeck.store.manifest import Manifest
from limbeck.training.memory import memory

OPEN = 256  # files that are mapped at a time; a process may have no more than 1,024 of any kind on many systems


class Shards:
    """The records of a finished store.

    Files are opened when first read; only what is read is loaded, and the system may drop it again.

    Args:
        folder: of the store.
        manifest: which files there are.
        scattered: read single pages and nothing around them; None: where one view of all samples is larger than half
            of the memory, so that what lies around a record would be dropped before its turn comes.
    """

    def __init__(self, folder: Path, manifest: Manifest, scattered: bool | None = None) -> None:
        self.folder, self.manifest = folder, manifest
        most = memory()
        larger = most is not None and 2 * manifest.samples * manifest.layout.stride > most
        self.scattered = larger if scattered is None else scattered
        self._maps: OrderedDict[int, memoryview] = OrderedDict()

    def gather(self, addresses: NDArray[np.int64]) -> Records:
        """The records at addresses, in their order.

        Raises:
            FileError: if there is no such address, or a file can not be opened.
        """
        if len(addresses) and not 0 <= int(addresses.min()) <= int(addresses.max()) < self.manifest.records:
            raise FileError(
                f"{self.folder} keeps records 0 to {self.manifest.records - 1}; asked for "
                f"{int(addresses.min())} to {int(addresses.max())}",
                cure="ask about the samples and views that the store was built for",
            )
        return joined(addresses, self.manifest.per_shard, self.manifest.layout.dtype, self._map)

    def _map(self, number: int) -> memoryview:
        """The bytes of a shard; of those that are mapped, the one that was not asked for the longest goes."""
        found = self._maps.get(number)
        if found is None:
            facts = self.manifest.shards[number]
            opened = _opened(self.folder / facts["file"], facts["bytes"])
            if self.scattered and hasattr(mmap, "MADV_RANDOM"):
                opened.madvise(mmap.MADV_RANDOM)
            found = self._maps[number] = memoryview(opened)
            if len(self._maps) > OPEN:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end(number)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": OrderedDict()}  # another process opens the files itself


def joined(
    addresses: NDArray[np.int64], per_shard: int, dtype: np.dtype[Any], shard: Callable[[int], memoryview]
) -> Records:
    """Records from several shards, in the order of their addresses, copied.

    Args:
        addresses: ``[B]``.
        per_shard: records of a shard.
        dtype: of a record.
        shard: gives the bytes of a shard by its number; asked once for each that is needed.

    Example:
        >>> joined(np.array([2, 0]), 2, np.dtype("<u2"), lambda number: memoryview(bytes([number, 0, 9, 9])))
        array([1, 0], dtype=uint16)
    """
    numbers, places = np.divmod(addresses, per_shard)
    order = np.argsort(numbers, kind="stable")
    starts, size = places[order] * dtype.itemsize, dtype.itemsize
    pieces: list[Any] = [b""] * len(addresses)
    last, held = -1, memoryview(b"")
    for place, number, start in zip(order.tolist(), numbers[order].tolist(), starts.tolist(), strict=True):
        if number != last:
            last, held = number, shard(number)
        pieces[place] = held[start : start + size]  # a slice for each record is faster than numpy for each shard
    return np.frombuffer(bytearray().join(pieces), dtype)


def gathered(
    addresses: NDArray[np.int64], per_shard: int, dtype: np.dtype[Any], shard: Callable[[int], NDArray[Any]]
) -> Records:
    """:func:`joined` of shards that are arrays.

    Args:
        addresses: ``[B]``.
        per_shard: records of a shard.
        dtype: of a record.
        shard: gives the records of a shard by its number.
    """
    return joined(addresses, per_shard, dtype, lambda number: shard(number).view(np.uint8).data)


def mapped(path: Path, dtype: np.dtype[Any], records: int) -> Records:
    """A file of records, memory-mapped for reading.

    Raises:
        FileError: if it is missing or not of this size.
    """
    return np.frombuffer(_opened(path, records * dtype.itemsize), dtype)


def _opened(path: Path, size: int) -> mmap.mmap:
    """A file of this size as memory that can be read."""
    try:
        found = path.stat().st_size
        if found != size:
            raise FileError(f"{path} has {found} bytes, expected {size}", cure="build the store again")
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FileError(f"{path} is missing", cure="put it back, or build the store again") from None
    except (OSError, ValueError) as error:  # ValueError: cut off between the look and the opening
        raise FileError(f"{path} can not be read: {getattr(error, 'strerror', None) or error}") from None


__all__ = ["Shards", "gathered", "joined", "mapped", "memory"]
