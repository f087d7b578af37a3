"""Splits: what is fetched, what is refused and how, what a fingerprint sees."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.split import JoinedSplit, Split
from limbeck.errors import DataError

AB = ("a", "b")


class Listed(Dataset[Any]):
    """A Dataset over a list of items, or of functions that make them."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.asked = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> Any:
        self.asked += 1
        item = self.items[at]
        return item() if callable(item) else item


def bytes_split(size: int = 6) -> Split:
    inputs = torch.arange(size * 4, dtype=torch.uint8).reshape(size, 1, 2, 2)
    return Split(inputs, [i % 2 for i in range(size)], AB, "train")


def test_bytes_stay_bytes_and_are_scaled_when_fetched() -> None:
    split = bytes_split()
    assert split.inputs.dtype == torch.uint8
    inputs, targets = split.fetch(torch.tensor([5, 0, 5]))
    assert inputs.dtype == torch.float32
    expected = np.array([[20, 21, 22, 23], [0, 1, 2, 3], [20, 21, 22, 23]], dtype=np.float32) / np.float32(255)
    assert np.array_equal(inputs.reshape(3, 4).numpy(), expected)
    assert targets.tolist() == [1, 0, 1]
    assert (len(split), split.shape, split.labeled) == (6, (1, 2, 2), 6)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64])
def test_numbers_are_taken_as_they_are(kind: type) -> None:
    split = Split(np.array([[0, 3], [200, 7]], dtype=kind), [0, 1], AB, "train")
    assert split.fetch(torch.tensor([1]))[0].tolist() == [[200.0, 7.0]]


def test_read_only_and_reversed_arrays_are_read_without_a_warning() -> None:
    inputs = np.arange(8, dtype=np.uint8).reshape(4, 2)
    inputs.flags.writeable = False
    targets = np.array([0, 1, 0, 1])
    targets.flags.writeable = False
    assert Split(inputs, targets, AB, "train").inputs.tolist() == inputs.tolist()
    assert Split(inputs[::-1], targets[::-1], AB, "train").inputs[0].tolist() == [6, 7]


def test_subsets_and_left_out_labels() -> None:
    split = bytes_split()
    part = split.subset([4, 1], "validation")
    assert (part.name, part.targets.tolist(), part.inputs[0].flatten().tolist()) == (
        "validation",
        [0, 1],
        [16, 17, 18, 19],
    )
    few = split.without_labels(torch.tensor([1, 2]))
    mask = torch.tensor([False, True, True, False, False, False])
    assert split.without_labels(mask).targets.tolist() == few.targets.tolist()
    assert few.targets.tolist() == [-1, 1, 0, -1, -1, -1]
    assert few.labeled == 2
    assert split.labeled == 6
    assert few.inputs.data_ptr() == split.inputs.data_ptr()


def test_a_fingerprint_sees_every_byte_label_shape_type_and_name() -> None:
    base = bytes_split()
    inputs, targets = base.inputs, base.targets
    changed, relabeled = inputs.clone(), targets.clone()
    changed[5, 0, 1, 1] += 1
    relabeled[5] = 0
    others = [
        Split(changed, targets, AB, "train"),
        Split(inputs, relabeled, AB, "train"),
        Split(inputs.reshape(6, 4), targets, AB, "train"),
        Split(inputs.float(), targets, AB, "train"),
        Split(inputs, targets, ("a", "c"), "train"),
        base.subset([1, 0, 2, 3, 4, 5]),
        base.without_labels([0, 1, 2, 3, 4]),
    ]
    prints = [one.fingerprint() for one in (base, *others)]
    assert len(set(prints)) == len(prints)
    assert base.fingerprint() == bytes_split().fingerprint()
    digest = hashlib.sha256(repr((torch.uint8, (6, 1, 2, 2), AB)).encode())
    digest.update(bytes(range(24)))
    digest.update(np.array([0, 1, 0, 1, 0, 1], dtype="<i8").tobytes())
    assert base.fingerprint() == digest.hexdigest()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(0, 2), [], "split 'train' is empty"),
        (torch.zeros(3, 2), [0, 1], "3 inputs and 2 labels"),
        (torch.zeros(3, 2), [0, 2, 1], "sample 1 of split 'train' has label 2, expected 0 to 1"),
        (torch.zeros(3, 2), [0, 1, -2], "sample 2 of split 'train' has label -2"),
        (torch.zeros(3, 2), [0.0, 0.5, 1.0], "not whole numbers"),
        (torch.zeros(2, 2), [[1, 0], [0, 1]], r"shape \(2, 2\)"),
        (torch.zeros(2, 2), ["cat", "dog"], "expected whole numbers"),
        (torch.tensor([[0.0, 1], [np.nan, 1], [1, np.inf]]), [0, 1, 0], r"2 samples .*NaN or Inf, the first: \[1, 2\]"),
        (torch.zeros(3), [0, 1, 0], r"shape \(3,\)"),
        (np.array([[object()]]), [0], "are object"),
        (np.array([["x"]]), [0], "expected bytes or floats"),
        (np.zeros((1, 2), dtype=np.complex64), [0], "expected bytes or floats"),
    ],
)
def test_what_is_wrong_is_named(inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(inputs, targets, AB, "train")


def test_joined_samples_follow_each_other() -> None:
    split = bytes_split(2).joined(Split(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), None, AB, "unlabeled"))
    assert type(split) is Split
    assert split.targets.tolist() == [0, 1, -1, -1, -1]
    assert split.fetch(torch.tensor([4]))[0].unique().tolist() == [1.0]
    with pytest.raises(DataError, match="float32 inputs"):
        split.joined(Split(torch.zeros(1, 1, 2, 2), None, AB, "unlabeled"))


# Datasets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (Image.fromarray(np.full((4, 6), 51, dtype=np.uint8)), (1, 4, 6)),
        (Image.fromarray(np.full((4, 6), 51, dtype=np.uint8)).convert("P"), (3, 4, 6)),
        (Image.fromarray(np.full((4, 6, 3), 51, dtype=np.uint8)), (3, 4, 6)),
        (np.full((5, 6, 3), 51, dtype=np.uint8), (3, 5, 6)),
        (np.full((3, 4, 6), 0.2, dtype=np.float64), (3, 4, 6)),
        (torch.full((3, 4, 6), 51, dtype=torch.uint8), (3, 4, 6)),
        (torch.full((3, 4, 6), 0.2), (3, 4, 6)),
        (np.full((7,), 0.2, dtype=np.float32), (7,)),
    ],
)
def test_items_of_a_dataset_become_scaled_channels_first(image: Any, shape: tuple[int, ...]) -> None:
    split = DatasetSplit(Listed([(image, 0), (image, np.int64(1)), (image, torch.tensor(1))]), AB, "train")
    inputs, targets = split.fetch(torch.tensor([2, 0]))
    assert inputs.shape == (2, *shape)
    assert split.shape == shape
    torch.testing.assert_close(inputs, torch.full_like(inputs, 0.2))
    assert targets.tolist() == [1, 0]
    assert split.replayable


def test_channels_are_kept_apart() -> None:
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    picture[1, 2] = (255, 0, 51)
    inputs, _ = DatasetSplit(Listed([(Image.fromarray(picture), 0)]), ("a",), "train").fetch(torch.tensor([0]))
    assert inputs[0, :, 1, 2].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert float(inputs.sum()) == pytest.approx(1.2)


def test_subsets_of_a_dataset_keep_addresses_labels_and_what_was_left_out() -> None:
    data = Listed([(torch.tensor([float(i)]), i % 2) for i in range(10)])
    split = DatasetSplit(data, AB, "train")
    few = split.without_labels([3, 4])
    asked = data.asked
    part = few.subset([9, 4, 3], "part").subset([2, 1])
    assert data.asked == asked  # nothing is read to divide
    assert (part.name, part.targets.tolist()) == ("part", [1, 0])
    assert part.fetch(torch.tensor([1, 0]))[0].flatten().tolist() == [4.0, 3.0]
    assert few.labeled == 2
    with pytest.raises(DataError, match="empty"):
        split.subset([])


@pytest.mark.parametrize(
    "draw", [lambda: torch.rand(()), np.random.rand, random.random], ids=["torch", "numpy", "python"]
)
def test_random_transforms_are_found_out(draw: Callable[[], Any]) -> None:
    def sometimes() -> Any:
        return torch.tensor([1.0 if float(draw()) < 0.5 else 0.0]), 0

    assert not DatasetSplit(Listed([sometimes] * 40), ("a",), "train").replayable
    assert DatasetSplit(Listed([sometimes] * 40), ("a",), "train", replayable=True).replayable


def test_targets_are_taken_from_the_attribute_only_where_it_is_true() -> None:
    data = Listed([(torch.zeros(1), i % 2) for i in range(300)])
    data.targets = [i % 2 for i in range(300)]  # type: ignore[attr-defined]
    assert DatasetSplit(data, AB, "train").targets.tolist() == [i % 2 for i in range(300)]
    assert data.asked < 150
    # True wherever one would look, but a transform stands between: the items are what counts.
    data.target_transform = abs  # type: ignore[attr-defined]
    data.items[1] = (torch.zeros(1), 0)
    assert DatasetSplit(data, AB, "train").targets[1] == 0
    data.items[1] = (torch.zeros(1), 1)
    data.target_transform = None  # type: ignore[attr-defined]
    data.targets = [0] * 300  # type: ignore[attr-defined]
    assert DatasetSplit(data, AB, "train").labeled == 300
    assert DatasetSplit(data, AB, "train").targets.sum() == 150


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "empty"),
        ([(torch.zeros(1), 0, 1)], "3 parts"),
        ([{"image": torch.zeros(1), "label": 0}], "dict"),
        ([(torch.zeros(1), "cat")], "sample 0 of split 'train' has the label 'cat'"),
        ([(torch.zeros(1), 0), (torch.zeros(1), torch.tensor([0.0, 1.0]))], "sample 1"),
        ([(torch.zeros(1), 0), (torch.zeros(1), 0.5)], "0.5, expected a class number"),
        ([(torch.zeros(1), 2)], "label 2, expected 0 to 1"),
    ],
)
def test_a_wrong_item_is_named(items: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DatasetSplit(Listed(items), AB, "train")


def test_a_sample_of_another_size_or_with_nan_is_named_when_it_is_fetched() -> None:
    items = [(torch.zeros(1, 2, 2), 0) for _ in range(5)]
    items[3] = (torch.zeros(1, 2, 3), 0)
    items[4] = (torch.full((1, 2, 2), float("nan")), 0)
    split = DatasetSplit(Listed(items), AB, "train", replayable=True)
    assert len(split.fetch(torch.tensor([0, 1, 2]))[0]) == 3
    with pytest.raises(DataError, match=r"sample 3 of split 'train' has shape \(1, 2, 3\), the first one \(1, 2, 2\)"):
        split.fetch(torch.tensor([0, 3]))
    with pytest.raises(DataError, match="sample 4 of split 'train' holds NaN"):
        split.fetch(torch.tensor([4]))


def test_a_dataset_without_labels_or_with_none_is_unlabeled() -> None:
    assert DatasetSplit(Listed([torch.zeros(2), torch.ones(2)]), AB, "train").targets.tolist() == [-1, -1]
    assert DatasetSplit(Listed([(torch.zeros(2),), (torch.ones(2), None)]), AB, "train").targets.tolist() == [-1, -1]


def test_a_dataset_without_length_is_refused() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(DataError, match="no length"):
        DatasetSplit(Endless(), AB, "train")


def test_datasets_and_arrays_are_joined_by_address() -> None:
    data = DatasetSplit(Listed([(torch.tensor([float(i)]), i % 2) for i in range(4)]), AB, "train")
    arrays = Split(torch.tensor([[10.0], [11.0]]), None, AB, "unlabeled")
    for joined, values in ((data.joined(arrays), [0, 1, 2, 3, 10, 11]), (arrays.joined(data), [10, 11, 0, 1, 2, 3])):
        assert isinstance(joined, JoinedSplit)
        order = torch.tensor([5, 0, 4, 3, 1, 2])
        inputs, targets = joined.fetch(order)
        assert inputs.flatten().tolist() == [values[at] for at in order.tolist()]
        assert targets.tolist() == [v % 2 if v < 10 else -1 for v in (values[at] for at in order.tolist())]
        part = joined.subset([4, 5, 0]).without_labels([])
        assert part.fetch(torch.tensor([0, 2]))[0].flatten().tolist() == [values[4], values[0]]
        assert part.labeled == 0
        assert part.fingerprint() != joined.fingerprint()
    with pytest.raises(DataError, match="shape"):
        data.joined(Split(torch.zeros(2, 2), None, AB, "unlabeled"))


# DataLoaders ---------------------------------------------------------------------------------------------------------


def test_a_loader_keeps_its_batches_and_joins_a_last_one_of_a_single_sample() -> None:
    data = TensorDataset(torch.arange(9, dtype=torch.uint8).reshape(9, 1), torch.arange(9) % 2)
    split = LoaderSplit(DataLoader(data, batch_size=4), AB, "train")
    seen = list(split.stream())
    assert [len(batch) for batch in seen] == [4, 5]
    assert split.steps == 2
    assert torch.cat([batch.inputs for batch in seen]).flatten().tolist() == pytest.approx([i / 255 for i in range(9)])
    assert set(torch.cat([batch.index for batch in seen]).tolist()) == {-1}
    assert torch.cat([batch.target for batch in seen]).tolist() == [i % 2 for i in range(9)]
    assert not split.replayable


def test_a_loader_is_read_without_moving_the_global_generator() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(6, 1), torch.arange(6) % 2), batch_size=2, shuffle=True)
    before = torch.get_rng_state()
    one = LoaderSplit(loader, AB, "train").fingerprint()
    assert torch.equal(before, torch.get_rng_state())
    assert LoaderSplit(loader, AB, "train").fingerprint() == one


def test_a_loader_of_inputs_alone_is_unlabeled() -> None:
    split = LoaderSplit(DataLoader(TensorDataset(torch.zeros(4, 2)), batch_size=2), AB, "train")
    assert split.targets.tolist() == [-1] * 4


def test_what_a_loader_can_not_do_is_said() -> None:
    split = LoaderSplit(DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))), AB, "train")
    other = Split(torch.zeros(1, 2), None, AB, "unlabeled")
    for act in (
        lambda: split.fetch(torch.tensor([0])), lambda: split.subset([0]), lambda: split.without_labels([0]),
        lambda: split.joined(other), lambda: other.joined(split),
    ):  # fmt: skip
        with pytest.raises(DataError, match="DataLoader") as caught:
            act()
        assert "cure" in str(caught.value)
    with pytest.raises(DataError, match="dict"):
        LoaderSplit(DataLoader(Listed([{"x": torch.zeros(1)}])), AB, "train")


def test_a_loader_that_gives_nan_is_stopped() -> None:
    loader = DataLoader(TensorDataset(torch.tensor([[0.0], [float("nan")]]), torch.tensor([0, 1])), batch_size=2)
    with pytest.raises(DataError, match="NaN"):
        list(LoaderSplit(loader, AB, "train").stream())
