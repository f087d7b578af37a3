"""Pictures and masks from Python: arrays of every layout, lists, Datasets; what does not fit is named."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from limbeck.data.batches import batches
from limbeck.data.data import Data
from limbeck.data.normalization import Normalization
from limbeck.data.scenes import SceneSplit
from limbeck.errors import DataError, LimbeckError, RecipeError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (10, 3, 8, 12)).astype(np.uint8)
MASKS = RNG.integers(-1, 3, (10, 8, 12))


class Pairs(Dataset[Any]):
    """Pictures and masks as Pillow's, as datasets of segmentation give them."""

    def __init__(self, random: bool = False) -> None:
        self.random = random

    def __len__(self) -> int:
        return 10

    def __getitem__(self, at: int) -> Any:
        if at >= 10:
            raise IndexError(at)
        picture = PICTURES[at].transpose(1, 2, 0)
        if self.random and torch.rand(()) < 0.5:
            picture = 255 - picture
        return Image.fromarray(picture), Image.fromarray(np.where(MASKS[at] < 0, 255, MASKS[at]).astype(np.uint8))


def scenes(data: Data) -> dict[bytes, Any]:
    """By its pixels the mask of every picture."""
    return {
        one.scene.read()[0].numpy().tobytes(): one.scene.read()[1].numpy()
        for split in data.splits.values()
        for one in split.regions  # type: ignore[attr-defined]
    }


LAYOUTS: dict[str, Any] = {
    "channels first": (PICTURES, MASKS),
    "channels last": (PICTURES.transpose(0, 2, 3, 1), MASKS),
    "tensors": (torch.from_numpy(PICTURES), torch.from_numpy(MASKS)),
    "255 for no label": (PICTURES, np.where(MASKS < 0, 255, MASKS).astype(np.uint8)),
    "lists": (list(PICTURES), list(MASKS)),
    "a TensorDataset": TensorDataset(torch.from_numpy(PICTURES), torch.from_numpy(MASKS)),
    "a Dataset of Pillow's": Pairs(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_of_any_layout_are_the_same_data(layout: str) -> None:
    data = Data(train=LAYOUTS[layout], classes=["a", "b", "c"])
    assert data.dense
    assert isinstance(data.train, SceneSplit)
    assert data.shape == (3, 8, 12)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 7, "validation": 1, "test": 2}
    found = scenes(data)
    assert len(found) == 10
    for picture, mask in zip(PICTURES, MASKS, strict=True):
        np.testing.assert_array_equal(found[picture.tobytes()], np.where(mask < 0, 255, mask))
    assert data.fingerprint() == Data(train=LAYOUTS["channels first"], classes=["a", "b", "c"]).fingerprint()
    assert data.normalization == Normalization.measure(data.train)
    assert not data.normalization.identity
    assert data.notes == [
        "no test split was given: 2 whole training pictures were set aside",
        "no validation split was given: 1 whole training pictures were set aside",
    ]


def test_gray_pictures_and_classes_by_number() -> None:
    data = Data(train=(PICTURES[:, 0], MASKS), test=(PICTURES[:, :1], MASKS), normalization="none")
    assert data.shape == (1, 8, 12)
    assert data.classes == ("0", "1", "2")
    assert data.normalization.identity
    assert len(data.test) == 10


def test_pictures_of_several_sizes_are_cut() -> None:
    sizes = [(8, 12), (9, 7), (5, 6), (4, 4), (12, 12)] * 2
    pictures = [RNG.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    masks = [RNG.integers(0, 2, size) for size in sizes]
    data = Data(train=(pictures, masks), patch=4, overlap=2, test=3)
    assert data.shape == (3, 4, 4)
    assert isinstance(data.train, SceneSplit)
    assert (data.train.step, data.validation.step, data.test.step) == ((2, 2), (4, 4), (4, 4))  # type: ignore[attr-defined]
    assert [len(split.regions) for split in data.splits.values()] == [6, 1, 3]  # type: ignore[attr-defined]
    batch = next(batches(data.train, batch_size=3))
    assert (tuple(batch.inputs.shape), tuple(batch.target.shape)) == ((3, 3, 4, 4), (3, 4, 4))
    given = Data(train=(pictures, masks), validation=(pictures[:2], masks[:2]), test=(pictures[:3], masks[:3]), patch=4)
    assert given.test.shape == (3, 4, 4)
    again = Data(train=(pictures, masks), patch=4, overlap=2, test=3)
    assert again.fingerprint() == data.fingerprint()
    assert Data(train=(pictures, masks), patch=4, overlap=2, test=3, seed=1).fingerprint() != data.fingerprint()


def masks_with(value: int) -> Any:
    found = MASKS.copy()
    found[4, 2, 3] = value
    return found


BAD: list[tuple[Any, str]] = [
    (lambda: Data(train=(PICTURES, MASKS[:9])), "split 'train' has 10 pictures and 9 masks"),
    (lambda: Data(train=(PICTURES, MASKS[:, :7])), "picture 0 of split 'train' has shape (3, 8, 12), its mask (7, 12)"),
    (lambda: Data(train=(PICTURES / 255, MASKS)), "picture 0 of split 'train' is float64, expected bytes"),
    (lambda: Data(train=(PICTURES, MASKS / 1.0)), "the mask of picture 0 of split 'train' is float64"),
    (lambda: Data(train=(PICTURES, masks_with(7)), classes=["a", "b", "c"]),
     "the mask of picture 4 of split 'train' holds 7, expected 0 to 2 for 3 classes; -1 and 255 are no label"),
    (lambda: Data(train=(PICTURES, masks_with(-2))), "the mask of picture 4 of split 'train' holds -2"),
    (lambda: Data(train=(PICTURES, masks_with(256))), "the mask of picture 4 of split 'train' holds 256"),
    (lambda: Data(train=(PICTURES, MASKS * 0)), "split 'train' has 1 classes, expected 2 to 255"),
    (lambda: Data(train=(PICTURES, MASKS), classes=["a", "b", "c", "d"]), "split 'train' has no pixel of class d"),
    (lambda: Data(train=(PICTURES, MASKS), test=(PICTURES, MASKS * 0 - 1)), "split 'test' has no labels"),
    (lambda: Data(train=(PICTURES, MASKS), test=(PICTURES, [0, 1, 2] * 3 + [0])), "split 'test' has one label"),
    (lambda: Data(train=([*PICTURES, PICTURES[0, :, :5]], [*MASKS, MASKS[0, :5]])),
     "pictures of split 'train' have 2 sizes, from 5×12 to 8×12\n  cure: give patch="),
    (lambda: Data(train=(PICTURES, MASKS), patch=4, overlap=4), "data.overlap is 4 and a patch 4×4"),
    (lambda: Data(train=(PICTURES, MASKS), patch="4"), "patch is '4', expected a side or (height, width)"),
    (lambda: Data(train=(PICTURES, [0, 1] * 5), patch=4), "patch and overlap are for pictures with masks"),
    (lambda: Data(train=(PICTURES, MASKS), test=10), "a split of 10 of 10 pictures is not possible"),
    (lambda: Data(train=(PICTURES, MASKS), unlabeled=PICTURES), "unlabeled is for data with one label a sample"),
    (lambda: Data(train=Pairs(random=True)), "of split 'train' is another one each time: the Dataset has random"),
    (lambda: Data(train=DataLoader(LAYOUTS["a TensorDataset"])), "split 'train' is a DataLoader of masks"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[-40:] for _, message in BAD])
def test_what_does_not_fit_is_named(make: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=re.escape(message)) as caught:
        make()
    assert isinstance(caught.value, DataError | RecipeError)


def test_a_class_that_validation_lacks_is_told() -> None:
    data = Data(train=(PICTURES, MASKS), validation=(PICTURES, MASKS.clip(max=1)), test=(PICTURES, MASKS))
    assert "split 'validation' has no pixel of class 2: its scores are of the other classes" in data.notes


def test_a_dataset_is_read_again_where_it_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.data import held

    whole = Data(train=Pairs())
    monkeypatch.setattr(held, "MOST_HELD", 3 * 8 * 12 * 4)
    part = Data(train=Pairs())
    kinds = [type(one.scene.read).__name__ for split in part.splits.values() for one in split.regions]  # type: ignore[attr-defined]
    assert sorted(kinds) == ["Asked"] * 7 + ["Held"] * 3
    assert part.fingerprint() == whole.fingerprint()
    at = torch.arange(len(whole.train))
    assert all(map(torch.equal, part.train.fetch(at), whole.train.fetch(at)))
