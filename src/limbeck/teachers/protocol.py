"""The protocol: a teacher gives Outputs for a batch, as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from limbeck.data.batch import Batch
from limbeck.outputs import Outputs

Place = Callable[[nn.Module], nn.Module]
Normalize = Callable[[Tensor], Tensor]


@runtime_checkable
class Teacher(Protocol):
    """Gives outputs for inputs; a constant: in eval mode and without a graph.

    Example:
        >>> from limbeck.teachers import ModuleTeacher
        >>> isinstance(ModuleTeacher(nn.Linear(2, 3)), Teacher)
        True
    """

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        """Outputs for ``inputs`` as in a batch, before normalization; ``index`` are the samples' addresses."""

    def placed(self, place: Place) -> Teacher:
        """A copy of this teacher whose modules went through ``place`` (device, memory format)."""


@runtime_checkable
class Keeps(Protocol):
    """A teacher that keeps what is said of each view, so that it must know which views a batch shows."""

    def recall(self, batch: Batch, inputs: Tensor) -> Outputs:
        """What is said of a batch's views, on the device of ``inputs``, which are the batch's own there."""

    def flush(self) -> None:
        """Put on the disk what was learned; a checkpoint written afterwards may rely on it."""


def asked(teacher: Teacher, batch: Batch, inputs: Tensor) -> Outputs:
    """What a teacher says of a batch.

    Args:
        teacher: is asked about the samples, or, where it keeps views, about these.
        batch: with addresses.
        inputs: those of the batch, on the teacher's device.

    Example:
        >>> from limbeck.teachers import FunctionTeacher
        >>> import torch
        >>> batch = Batch(torch.arange(2), torch.ones(2, 3), torch.zeros(2, dtype=torch.int64))
        >>> asked(FunctionTeacher(lambda x: 2 * x), batch, batch.inputs).logits.shape
        torch.Size([2, 3])
    """
    return teacher.recall(batch, inputs) if isinstance(teacher, Keeps) else teacher(inputs, batch.index)
