"""What a teacher said, kept."""

from __future__ import annotations

from torch import Tensor

from limbeck.errors import ModelError
from limbeck.outputs import Outputs
from limbeck.teachers.protocol import Place


class Recorded:
    """What a teacher said about each sample of a split that is always seen in the same view, by address.

    Args:
        outputs: outputs or logits ``[N, C]`` over the whole split, in its order.

    Raises:
        ModelError: when asked about a sample without an address (index -1), or outside of the split.

    Example:
        >>> import torch
        >>> kept = Recorded(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> kept(torch.zeros(1, 5), torch.tensor([1])).logits
        tensor([[3., 4.]])
    """

    def __init__(self, outputs: Outputs | Tensor) -> None:
        self.outputs = Outputs.of(outputs)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        size = len(self.outputs.logits)
        if index is None or not bool(((index >= 0) & (index < size)).all()):
            found = "none" if index is None else f"{index[(index < 0) | (index >= size)][:5].tolist()}"
            raise ModelError(
                f"recorded outputs are addressed by sample, 0 to {size - 1}; this batch has {found}",
                cure="use the live teacher for data that can not be replayed",
            )
        index = index.to(self.outputs.logits.device)
        if self.outputs.members is not None and self.outputs.weights is not None:
            return Outputs.ensemble(self.outputs.members[:, index].to(inputs.device), self.outputs.weights)
        return Outputs(self.outputs.logits[index].to(inputs.device))

    def placed(self, place: Place) -> Recorded:
        """Itself: answers go to the device of the inputs."""
        return self
