"""A store that is filled while a student learns: the teacher is asked only about what is not kept yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.replay import pixel_checksum
from limbeck.errors import ModelError, RecipeError
from limbeck.outputs import Outputs
from limbeck.store.codec import decode, encode
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.store import keeps, same_pixels, single, to
from limbeck.teachers import Place, Teacher
from limbeck.training.distributed import world


class LearningStore:
    """A Teacher that keeps what the live teacher says of each view, and says it again when the view is seen again.

    What is said is what is kept, the first time too, so that asked or read makes no difference to a student.

    Args:
        teacher: the live one, on its device.
        filling: where its answers are kept.

    Raises:
        RecipeError: in one of several processes, since each would learn only what it asks.
    """

    def __init__(self, teacher: Teacher, filling: Filling) -> None:
        if world().several:
            raise RecipeError(
                "a store can not be filled while several processes train",
                cure="build it before, with limbeck store RECIPE under torchrun, and give its path",
            )
        self.teacher, self.filling = teacher, filling

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        """What the live teacher says, features pooled as they are kept; nothing is kept of samples without a view."""
        return pooled(self.teacher(inputs, index), self.filling.layout)

    def recall(self, batch: Batch, inputs: Tensor) -> Outputs:
        """What is kept of a batch's views; the live teacher is asked if it does not know them all."""
        filling = self.filling
        addresses = batch.address(filling.samples)
        at = addresses.numpy()
        pixels = batch.pixels if batch.pixels is not None else pixel_checksum(batch.inputs)
        missing = filling.missing(at)
        if missing.any():  # the whole batch is asked, so that no bit depends on what was known
            said = pooled(self.teacher(inputs, batch.index), filling.layout)
            filling.put(at, encode(filling.layout, said, pixels))
        records = filling.get(at)
        same_pixels(records, pixels, addresses, filling.samples, filling.folder)
        return to(decode(filling.layout, records), inputs.device)

    def flush(self) -> None:
        """Put what was learned on the disk."""
        self.filling.flush()

    def close(self) -> None:
        """Put what was learned on the disk, and let go of the folder."""
        try:
            self.flush()
        finally:
            self.filling.close()

    @property
    def pooled(self) -> str | None:
        """The layer whose pooled features are kept, if it is a single one."""
        return single(self.filling.layout)

    def reading(self, layers: Sequence[str]) -> LearningStore:
        """Itself, if it keeps the features of these layers.

        Raises:
            ModelError: if it does not.
        """
        keeps(self.filling.layout, layers, self.filling.folder)
        return self

    @property
    def known(self) -> bool:
        """Whether every view is kept."""
        return all(self.filling.complete(number) for number in range(self.filling.shards))

    def placed(self, place: Place) -> LearningStore:
        """The same with the live teacher placed."""
        return LearningStore(self.teacher.placed(place), self.filling)


def pooled(outputs: Outputs, layout: Layout) -> Outputs:
    """Outputs with the features that are kept, each a vector ``[B, D]``: the mean over all places.

    Maps ``[B, D, H, W]`` have their channels first; tokens are ``[B, N, D]``; a vector is taken as it is.

    Example:
        >>> import torch
        >>> maps, tokens = torch.arange(8.0).reshape(1, 2, 2, 2), torch.arange(6.0).reshape(1, 3, 2)
        >>> means = pooled(Outputs(torch.zeros(1, 2), {"a": maps, "b": tokens}), Layout(2, features={"a": 2, "b": 2}))
        >>> means.features["a"], means.features["b"]
        (tensor([[1.5000, 5.5000]]), tensor([[2., 3.]]))
    """
    return replace(outputs, features={name: _mean(outputs.features[name].float()) for name in layout.features})


def features_of(outputs: Outputs, layers: Sequence[str]) -> dict[str, int]:
    """The length of the pooled feature of each layer, as a layout has it.

    Example:
        >>> import torch
        >>> features_of(Outputs(torch.zeros(1, 2), {"a": torch.zeros(1, 16, 4, 4)}), ["a"])
        {'a': 16}
    """
    return {name: _mean(outputs.features[name]).shape[1] for name in layers}


def _mean(feature: Tensor) -> Tensor:
    if feature.ndim < 2:
        raise ModelError(
            f"a feature of shape {tuple(feature.shape)} has no value for each sample", cure="choose another layer"
        )
    return feature.mean(1) if feature.ndim == 3 else feature.flatten(2).mean(2) if feature.ndim > 3 else feature


__all__ = ["LearningStore", "features_of", "pooled"]
