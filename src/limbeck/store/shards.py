"""Shards: the records of a store in files, memory-mapped, gathered a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FileError
from limbeck.files import sha256
from limbeck.store.codec import Records
from limbeck.store.manifest import Manifest


class Shards:
    """The records of a finished store.

    Files are opened when first read; only what is read is loaded, and the system may drop it again.

    Args:
        folder: of the store.
        manifest: which files there are.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._maps: dict[int, Records] = {}

    def gather(self, addresses: NDArray[np.int64]) -> Records:
        """The records at addresses, in their order.

        Raises:
            FileError: if there is no such address, or a file can not be opened.
        """
        if len(addresses) and not 0 <= int(addresses.min()) <= int(addresses.max()) < self.manifest.records:
            raise FileError(
                f"{self.folder} keeps records 0 to {self.manifest.records - 1}; asked for "
                f"{int(addresses.min())} to {int(addresses.max())}"
            )
        return gathered(addresses, self.manifest.per_shard, self.manifest.layout.dtype, self._map)

    def _map(self, number: int) -> Records:
        if number not in self._maps:
            facts = self.manifest.shards[number]
            path = self.folder / facts["file"]
            self._maps[number] = mapped(path, self.manifest.layout.dtype, facts["records"])
        return self._maps[number]

    def verify(self) -> None:
        """Read every file and compare its sha256.

        Raises:
            FileError: naming the first file that is missing, cut off or not as it was written.
        """
        with ThreadPoolExecutor(max_workers=4) as pool:
            for error in pool.map(self._fault, self.manifest.shards):
                if error is not None:
                    raise error

    def _fault(self, facts: Any) -> FileError | None:
        path = self.folder / facts["file"]
        if not path.is_file():
            return FileError(f"{path} is missing", cure="put it back, or build the store again")
        size = path.stat().st_size
        if size != facts["bytes"]:
            return FileError(f"{path} has {size} bytes, expected {facts['bytes']}", cure="build the store again")
        if sha256(path) != facts["sha256"]:
            return FileError(f"{path} is damaged: it is not as it was written", cure="build the store again")
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # another process opens the files itself


def gathered(
    addresses: NDArray[np.int64], per_shard: int, dtype: np.dtype[Any], shard: Callable[[int], Records]
) -> Records:
    """Records from several shards, in the order of their addresses.

    Args:
        addresses: ``[B]``.
        per_shard: records of a shard.
        dtype: of a record.
        shard: gives the records of a shard by its number.
    """
    numbers = addresses // per_shard
    first = int(numbers[0]) if len(numbers) else 0
    if (numbers == first).all():
        return shard(first)[addresses - first * per_shard] if len(numbers) else np.empty(0, dtype)
    found = np.empty(len(addresses), dtype)
    order = np.argsort(numbers, kind="stable")
    edges = np.flatnonzero(np.diff(numbers[order])) + 1
    for places in np.split(order, edges):
        number = int(numbers[places[0]])
        found[places] = shard(number)[addresses[places] - number * per_shard]
    return found


def mapped(path: Path, dtype: np.dtype[Any], records: int) -> Records:
    """A file of records, memory-mapped for reading.

    Raises:
        FileError: if it is missing or not of this size.
    """
    try:
        size = path.stat().st_size
        if size != records * dtype.itemsize:
            raise FileError(
                f"{path} has {size} bytes, expected {records * dtype.itemsize}", cure="build the store again"
            )
        return np.asarray(np.memmap(path, dtype, mode="r"))  # as a plain array: its class makes gathering slow
    except FileNotFoundError:
        raise FileError(f"{path} is missing", cure="put it back, or build the store again") from None
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror or error}") from None
