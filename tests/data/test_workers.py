"""What goes wrong in a process that prepares batches is told as if it had gone wrong here."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from limbeck.data.batches import batches
from limbeck.data.split import Split
from limbeck.errors import DataError


class Failing(Split):
    """Sample 4 can not be read, and the process that asks for sample 8 is killed."""

    def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if 4 in index:
            raise DataError("x.jpg is cut off", cure="restore it")
        if 8 in index:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fetch(index)


def seen(stop: int, start: int = 0) -> list[list[int]]:
    split = Failing(torch.rand(10, 1, 4, 4), [0, 1] * 5, ["a", "b"], "train")
    stream = batches(split, batch_size=2, shuffle=False, workers=2, start=start, stop=stop)
    return [batch.index.tolist() for batch in stream]


def test_batches_come_in_order() -> None:
    assert seen(2) == [[0, 1], [2, 3]]


def test_an_error_keeps_its_message_and_its_cure() -> None:
    with pytest.raises(DataError) as caught:
        seen(4)
    assert str(caught.value) == "x.jpg is cut off\n  cure: restore it"
    assert caught.value.cure == "restore it"


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(DataError, match="a process that prepares batches of split 'train' died") as caught:
        seen(5, start=3)
    assert "workers: 0" in str(caught.value)
