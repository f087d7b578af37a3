"""Transfer learning: the head alone first, then everything, the backbone at a lower rate."""

from __future__ import annotations

from torch import nn

from limbeck.models.heads import find_head
from limbeck.training.settings import Transfer


class Backbone:
    """All of a model but its head, as a transfer treats it.

    In the first ``freeze`` epochs its parameters take no gradient, so that no optimizer moves or decays them, and its
    parts that keep buffers (BatchNorm's averages) are in eval mode. What is frozen depends on the epoch alone, so that
    a training can be resumed anywhere. Parameters that the user froze stay so. ``release`` puts them back.

    Args:
        module: the model.
        transfer: how it is trained.

    Raises:
        ModelError: if ``transfer.head`` names no module of the model.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
        >>> backbone = Backbone(net, Transfer(freeze=1))
        >>> backbone.begin(0)
        >>> [one.requires_grad for one in net.parameters()], net[1].training
        ([False, False, False, False, True, True], False)
        >>> backbone.begin(1)
        >>> all(one.requires_grad for one in net.parameters())
        True
    """

    def __init__(self, module: nn.Module, transfer: Transfer) -> None:
        self._transfer = transfer
        names = find_head(module, transfer.head)
        head = {id(one) for name in names for one in module.get_submodule(name).parameters()}
        trained = [one for one in module.parameters() if one.requires_grad]
        self.head = [one for one in trained if id(one) in head]
        self.parameters = [one for one in trained if id(one) not in head]
        self._keeping = [
            part
            for name, part in module.named_modules()
            if any(True for _ in part.buffers(recurse=False)) and not _related(name, names)
        ]

    def begin(self, epoch: int) -> None:
        """Freeze or release it for an epoch, counted from 0; the model is in train mode."""
        frozen = epoch < self._transfer.freeze
        self._train(not frozen)
        for part in self._keeping if frozen else ():
            part.training = False

    def release(self) -> None:
        """Let all of it be trained again, as it was."""
        self._train(True)

    def _train(self, value: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(value)


def _related(name: str, head: tuple[str, ...]) -> bool:
    """Whether a module is in the head, or the head in it."""
    return any(not name or f"{name}.".startswith(f"{one}.") or one.startswith(f"{name}.") for one in head)
