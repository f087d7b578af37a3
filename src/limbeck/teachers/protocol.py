"""The protocol: a teacher gives Outputs for a batch, as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

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
