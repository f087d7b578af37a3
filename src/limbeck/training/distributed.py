"""Several processes as one: torchrun starts them, each computes its part of every batch, the first one writes.

Every process runs the same program. What decides where it goes on (files that are there, metrics, a signal) is the
first process's word or the sum over all, so that all go the same way.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.errors import LimbeckError, RecipeError
from limbeck.files import write_nothing
from limbeck.training.interrupt import Interrupted

_LOOK = 0.02  # seconds between two looks at the store
_PATIENCE = 2.0  # seconds in which a process that still lives says why it stops
_LIMIT = timedelta(minutes=30)  # of one exchange of numbers: then a process hangs
_FAILED = "failed"
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)  # while the others wait for this process


class RankFailed(LimbeckError):
    """Another process failed; its message, and its exit code."""

    def __init__(self, text: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(text)


@dataclass(frozen=True)
class World:
    """The processes of this training, and which of them this is.

    Args:
        rank: number of this process, from 0.
        size: number of processes; 1: torch.distributed is not used at all.
        local: number of this process on its machine, which is the number of its GPU.
        group: torch's group for numbers on the CPU.
        store: torch's key-value store, for what may take long and for last words.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    group: Any = None
    store: Any = None
    turns: Iterator[int] = field(default_factory=itertools.count)

    @property
    def several(self) -> bool:
        """Whether there is another process."""
        return self.size > 1

    def summed(self, values: Sequence[float]) -> list[float]:
        """Numbers added over all processes, in the order of their ranks: the same bits everywhere.

        Example:
            >>> World().summed([1.0, 2.0])
            [1.0, 2.0]
        """
        if not self.several:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with self.heard():
            dist.all_gather(parts, own, group=self.group)
        return torch.stack(parts).sum(dim=0).tolist()

    def agreed(self, value: Any) -> Any:
        """The first process's value, plain data, on all of them.

        Example:
            >>> World().agreed({"loss": 0.5})
            {'loss': 0.5}
        """
        if not self.several:
            return value
        data = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(data))
        with self.heard():
            dist.broadcast(length, 0, group=self.group)
            if self.rank:
                data = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(data, 0, group=self.group)
        return json.loads(bytes(data.tolist()))

    def from_first(self, work: Callable[[], Any]) -> Any:
        """Do something in the first process while the others wait, as long as it takes; all get what it returns.

        Inside of such work the first process is alone: what it does there in this way, it does at once.

        Args:
            work: returns plain data.

        Raises:
            RankFailed: in the others, if it raises.

        Example:
            >>> World().from_first(lambda: 7)
            7
        """
        if not self.several or _ALONE.get():
            return work()
        key = f"answer/{next(self.turns)}"
        if self.rank == 0:
            before = _ALONE.set(True)
            try:
                value = work()
            finally:
                _ALONE.reset(before)
            self.store.set(key, json.dumps(value))
            return value
        while not self.store.check([key]):
            failed = self._failure()
            if failed is not None and not self.store.check([key]):  # it may fail after it has answered
                raise failed
            time.sleep(_LOOK)
        return json.loads(self.store.get(key))

    def wait(self) -> None:
        """Wait until all processes have come here, as long as it takes.

        Raises:
            RankFailed: if one fails before.

        Example:
            >>> World().wait()
        """
        if not self.several:
            return
        key = f"here/{next(self.turns)}"
        there = self.store.add(key, 1)
        while there < self.size:
            failed = self._failure()
            if failed is not None:
                raise failed
            time.sleep(_LOOK)
            there = self.store.add(key, 0)

    def gathered(self, part: Tensor, dim: int = 0) -> Tensor:
        """The parts of all processes one after the other, on the CPU; an empty part is left out.

        Args:
            part: of any size along ``dim``, of one type everywhere.
            dim: along which parts are joined.

        Example:
            >>> World().gathered(torch.ones(2))
            tensor([1., 1.])
        """
        if not self.several:
            return part
        own = part.contiguous()
        shape = torch.tensor([own.ndim, *own.shape, *[0] * (8 - own.ndim)])
        shapes = [torch.empty_like(shape) for _ in range(self.size)]
        parts = []
        with self.heard():
            dist.all_gather(shapes, shape, group=self.group)
            for rank, (length, *sides) in enumerate(one.tolist() for one in shapes):
                one = own if rank == self.rank else torch.empty(sides[:length], dtype=own.dtype)
                if one.numel():
                    dist.broadcast(one, rank, group=self.group)
                    parts.append(one)
        return torch.cat(parts, dim=dim) if parts else own

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Copy the first process's tensors into those of the others, in place; they are on one device."""
        kinds = {one.dtype for one in tensors} if self.several else set()
        for kind in sorted(kinds, key=str):
            own = [one for one in tensors if one.dtype == kind]
            flat = torch.cat([one.reshape(-1) for one in own])
            with self.heard():
                dist.broadcast(flat, 0, group=None if flat.is_cuda else self.group)
            for one, value in zip(own, flat.split([one.numel() for one in own]), strict=True):
                one.copy_(value.reshape(one.shape))

    def share(self, count: int) -> range:
        """Which of ``count`` things are this process's: a contiguous part, empty if there are too few.

        Example:
            >>> [list(World(rank, 3).share(4)) for rank in range(3)]
            [[0], [1], [2, 3]]
        """
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """If a process can not be reached any more, say which one and why, as far as it is known."""
        try:
            yield
        except RuntimeError as error:
            if not self.several or not _lost(error):
                raise
            raise self._blame() from error

    def claim(self, error: BaseException) -> RankFailed | None:
        """Tell the others why this process stops; if another one told before, what that was."""
        text = str(error) if isinstance(error, LimbeckError) else f"{type(error).__name__}: {error}"
        word = json.dumps([self.rank, text[:4000], getattr(error, "exit_code", 1)])
        first = json.loads(self.store.compare_set(_FAILED, "", word))
        return None if first[0] == self.rank else self._failed(first)

    def _failure(self) -> RankFailed | None:
        there = self.store.check([_FAILED])
        return self._failed(json.loads(self.store.get(_FAILED))) if there else None

    def _failed(self, word: list[Any]) -> RankFailed:
        rank, text, exit_code = word
        return RankFailed(f"rank {rank} of {self.size}: {text}", exit_code)

    def _blame(self) -> LimbeckError:
        """Who is gone: the one that says why, else those that do not say that they too have lost somebody."""
        silent = [rank for rank in range(self.size) if rank != self.rank]
        with suppress(RuntimeError):  # the store may be gone too
            self.store.set(f"lost/{self.rank}", "")
            until = time.monotonic() + _PATIENCE
            while time.monotonic() < until:
                if self.store.check([_FAILED]):
                    return self._failed(json.loads(self.store.get(_FAILED)))
                time.sleep(_LOOK)
            silent = [rank for rank in silent if not self.store.check([f"lost/{rank}"])]
        who = ", ".join(map(str, silent)) or "unknown"
        return LimbeckError(
            f"rank {who} of {self.size} died without a word",
            cure="see whether it was killed or ran out of memory; then run the same command again: it goes on",
        )


_world = World()


def world() -> World:
    """The processes that this one belongs to; a world of one unless torchrun started several.

    Example:
        >>> world().size
        1
    """
    return _world


@contextmanager
def processes() -> Iterator[World]:
    """Join the processes that torchrun started, and part from them at the end; without torchrun nothing happens.

    Every process must come here. Inside, only the first one writes files. The first error of any process ends all:
    it stays what it is in its own process, and is :class:`RankFailed` in the others.

    Raises:
        RecipeError: if a machine has fewer GPUs than processes.

    Example:
        >>> with processes() as here:
        ...     here.several
        False
    """
    global _world
    alone = "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or _world.several:
        yield _world
        return
    _world, own = _join()
    write_nothing(_world.rank != 0)
    try:
        yield _world
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, RankFailed):
            raise
        before = None
        with suppress(RuntimeError):  # the store may be gone
            before = _world.claim(error)
        if before is not None and not isinstance(error, Interrupted):  # all of them are
            raise before from error
        raise
    finally:
        write_nothing(False)
        _world = World()
        if own:
            dist.destroy_process_group()


_turns = itertools.count()
_store: Any = None


def _join() -> tuple[World, bool]:
    """The world of torchrun's environment, and whether its group was made here."""
    global _store
    local, cuda = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    if cuda and local >= torch.cuda.device_count():
        raise RecipeError(
            f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}",
            cure="give torchrun --nproc-per-node as many as there are, or hide them all with CUDA_VISIBLE_DEVICES=",
        )
    if cuda:
        torch.cuda.set_device(local)
    if _store is None:
        _store, *_ = next(dist.rendezvous("env://", timeout=_LIMIT))
    # A script may come here several times: each time with keys of its own.
    store = dist.PrefixStore(f"limbeck/{next(_turns)}", _store)
    rank, size, own = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), not dist.is_initialized()
    if own:
        dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=_LIMIT)
    gloo = dist.get_backend() == "gloo"
    group = dist.group.WORLD if gloo else dist.new_group(backend="gloo", timeout=_LIMIT)
    return World(rank, size, local, group, dist.PrefixStore("words", store)), own


def _lost(error: RuntimeError) -> bool:
    """Whether an error is that another process can not be reached."""
    text = str(error)
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "NCCL", "Connection", "closed"))
