"""A store that is filled while a student learns: the teacher is asked only about what is not kept yet."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.replay import pixel_checksum
from limbeck.outputs import Outputs
from limbeck.store.codec import decode, encode
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.store import same_pixels, to
from limbeck.teachers import Place, Teacher


class LearningStore:
    """A Teacher that keeps what the live teacher says of each view, and says it again when the view is seen again.

    What is said is what is kept, the first time too, so that asked or read makes no difference to a student.

    Args:
        teacher: the live one, on its device.
        filling: where its answers are kept.
    """

    def __init__(self, teacher: Teacher, filling: Filling) -> None:
        self.teacher, self.filling = teacher, filling

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        """What the live teacher says; nothing is kept of samples without a view."""
        return self.teacher(inputs, index)

    def recall(self, batch: Batch, inputs: Tensor) -> Outputs:
        """What is kept of a batch's views; the live teacher is asked if it does not know them all."""
        filling = self.filling
        addresses = batch.address(filling.samples)
        at = addresses.numpy()
        pixels = batch.pixels if batch.pixels is not None else pixel_checksum(batch.inputs)
        missing = filling.missing(at)
        if missing.any():  # the whole batch is asked, so that no bit depends on what was known
            said = pooled(self.teacher(inputs, batch.index), filling.layout)
            records = encode(filling.layout, said, pixels)
            filling.put(at[missing], records[missing])
        records = filling.get(at)
        same_pixels(records, pixels, addresses, filling.samples, filling.folder)
        return to(decode(filling.layout, records), inputs.device)

    def flush(self) -> None:
        """Put what was learned on the disk."""
        self.filling.flush()

    @property
    def known(self) -> bool:
        """Whether every view is kept."""
        return all(self.filling.complete(number) for number in range(self.filling.shards))

    def placed(self, place: Place) -> LearningStore:
        """The same with the live teacher placed."""
        return LearningStore(self.teacher.placed(place), self.filling)


def pooled(outputs: Outputs, layout: Layout) -> Outputs:
    """Outputs with the features that are kept, each a vector: the mean over all places."""
    features = {name: outputs.features[name].float() for name in layout.features}
    means = {name: one.flatten(2).mean(2) if one.ndim > 2 else one for name, one in features.items()}
    return replace(outputs, features=means)


__all__ = ["LearningStore", "pooled"]
