"""Views that are seen again: the same bits however they are asked for, and a checksum that sees any other bit."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from limbeck.data.batch import Batch
from limbeck.data.batches import batches
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.order import uniform
from limbeck.data.replay import Replay, Seer, pixel_checksum
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Color, RandAugment, Views, channels
from limbeck.errors import RecipeError

ALL: dict[str, Views] = {
    "geometry": Views(shift=2, flip=True, rotate=10, scale=0.1, erase=0.5),
    "crop": Views(resized_crop=(0.4, 1.0), flip=True),
    "color": Views(color=Color(brightness=0.4, contrast=0.3, saturation=0.5, hue=0.1)),
    "randaugment": Views(randaugment=RandAugment()),
    "mixup": Views(shift=1, mixup=0.4),
    "cutmix": Views(flip=True, cutmix=1.0),
    "both": Views(rotate=5, mixup=0.3, cutmix=1.0),
}
SIZE, COUNT = 23, 3  # samples and views
REPLAY = Replay(seed=5, views=COUNT)
Seen = dict[tuple[int, int], tuple[bytes, int, Any]]


def pictures(size: int = SIZE) -> Split:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(256, (size, 3, 9, 7), dtype=torch.uint8, generator=generator)
    return Split(inputs, torch.arange(size) % 4, ("a", "b", "c", "d"), "train")


def seen(stream: Iterable[Batch]) -> Seen:
    """By sample and view: the bits of the input, its label, and what it is mixed with."""
    found: Seen = {}
    for batch in stream:
        assert batch.view is not None
        for row, key in enumerate(zip(batch.index.tolist(), batch.view.tolist(), strict=True)):
            mixed = batch.mixed and (int(batch.mixed.partner[row]), float(batch.mixed.share[row]))
            value = (batch.inputs[row].numpy().tobytes(), int(batch.target[row]), mixed)
            assert found.setdefault(key, value) == value, "a view is seen twice, and differs"
    return found


def epochs(first: int, last: int, views: Views, **options: Any) -> Iterator[Batch]:
    for epoch in range(first, last):
        yield from batches(pictures(), **{"batch_size": 8, "views": views, "replay": REPLAY, "epoch": epoch, **options})


@pytest.fixture(scope="module", params=list(ALL))
def kind(request: pytest.FixtureRequest) -> tuple[Views, Seen]:
    """Views, and every one of them made alone."""
    split, views = pictures(), ALL[request.param]
    see = Seer(split, Sampler(split.targets), views, REPLAY.seed)
    found: Seen = {}
    for sample in range(SIZE):
        for view in range(COUNT):
            inputs, target, mixed = see(torch.tensor([sample]), view)
            share = mixed and (int(mixed.partner), float(mixed.share))
            found[sample, view] = (inputs[0].numpy().tobytes(), int(target), share)
    return views, found


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16, SIZE])
def test_a_view_is_the_same_bits_at_any_batch_size(kind: tuple[Views, Seen], batch_size: int) -> None:
    assert seen(epochs(0, COUNT, kind[0], batch_size=batch_size)) == kind[1]


@pytest.mark.parametrize("seed", [0, 9])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_view_does_not_depend_on_the_training(kind: tuple[Views, Seen], seed: int, shuffle: bool) -> None:
    """So a student and its control, and students of two seeds, see the same views."""
    assert seen(epochs(0, COUNT, kind[0], seed=seed, shuffle=shuffle)) == kind[1]


def test_any_part_of_any_processes_sees_the_same_views(kind: tuple[Views, Seen]) -> None:
    for count in (2, 3):
        found = [seen(epochs(0, COUNT, kind[0], part=(rank, count))) for rank in range(count)]
        assert {key: value for one in found for key, value in one.items()} == kind[1]


def test_a_resumed_epoch_sees_the_rest(kind: tuple[Views, Seen]) -> None:
    whole = list(epochs(1, 2, kind[0], batch_size=6))
    for start in range(len(whole)):
        rest = list(epochs(1, 2, kind[0], batch_size=6, start=start))
        assert seen(rest) == seen(whole[start:])
        assert [one.index.tolist() for one in rest] == [one.index.tolist() for one in whole[start:]]


def test_epochs_go_around_in_the_views(kind: tuple[Views, Seen]) -> None:
    for epoch in (0, 1, 2, 5, 100):
        found = seen(epochs(epoch, epoch + 1, kind[0]))
        assert {view for _, view in found} == {epoch % COUNT}
        assert found == {key: value for key, value in kind[1].items() if key[1] == epoch % COUNT}


def test_views_of_other_numbers_and_seeds_differ(kind: tuple[Views, Seen]) -> None:
    """Each is drawn anew; that two of a sample are alike by chance is rare."""
    views, found = kind
    alike = sum(found[sample, 0][0] == found[sample, view][0] for sample in range(SIZE) for view in (1, 2))
    assert alike < SIZE * 2 * 0.4
    other = seen(epochs(0, 1, views, replay=Replay(6, COUNT)))
    assert sum(other[sample, 0][0] == found[sample, 0][0] for sample in range(SIZE)) < SIZE * 0.4


def test_a_partner_is_that_of_its_view_and_seen_in_that_view() -> None:
    """MixUp by hand: partner and share from the address, the partner as it is seen itself."""
    plain = seen(epochs(0, COUNT, Views(shift=1)))
    for key, (bits, _, mixed) in seen(epochs(0, COUNT, ALL["mixup"])).items():
        sample, view = np.array(key[0]), key[1]
        partner = int(np.floor(uniform(REPLAY.seed, sample, view, channels.PARTNER) * SIZE))
        share = stats.beta(0.4, 0.4).ppf(uniform(REPLAY.seed, sample, view, channels.SHARE))
        own, other = (np.frombuffer(plain[one, view][0], np.float32) for one in (key[0], partner))
        np.testing.assert_allclose(np.frombuffer(bits, np.float32), share * own + (1 - share) * other, atol=1e-5)
        assert mixed == (partner % 4, pytest.approx(share, abs=1e-6))


@pytest.mark.parametrize("name", ["geometry", "both"])
def test_workers_change_nothing(name: str) -> None:
    one, two = (list(epochs(1, 2, ALL[name], workers=workers, checked=True)) for workers in (0, 2))
    assert seen(one) == seen(two)
    for a, b in zip(one, two, strict=True):
        assert a.pixels is not None
        assert b.pixels is not None
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.pixels, pixel_checksum(a.inputs))


@pytest.mark.parametrize("views", [ALL["geometry"], ALL["both"]], ids=["plain", "mixed"])
def test_a_sample_drawn_again_is_seen_in_the_next_view(views: Views) -> None:
    split = pictures()
    skewed = Split(split.inputs, torch.tensor([0] * 20 + [1, 2, 3]), split.classes, "train")
    made = Seer(skewed, Sampler(skewed.targets, "balanced"), views, REPLAY.seed)
    options: dict[str, Any] = {"batch_size": 4, "views": views, "replay": REPLAY, "sampling": "balanced"}
    for epoch in range(4):
        times: Counter[int] = Counter()
        for batch in batches(skewed, **options, epoch=epoch, seed=3):
            assert batch.view is not None
            for row, (sample, view) in enumerate(zip(batch.index.tolist(), batch.view.tolist(), strict=True)):
                assert view == (epoch + times[sample]) % COUNT
                times[sample] += 1
                alone = made(torch.tensor([sample]), view)
                assert torch.equal(batch.inputs[row], alone[0][0])
                if batch.mixed:
                    assert alone[2] is not None
                    assert int(batch.mixed.partner[row]) == int(alone[2].partner)
        assert max(times.values()) > COUNT, "so that one is seen again within the epoch"


def test_without_a_replay_batches_have_no_view_and_depend_on_the_seed() -> None:
    one, other = (next(batches(pictures(), batch_size=8, views=ALL["geometry"], seed=seed)) for seed in (0, 1))
    assert one.view is None
    assert one.pixels is None
    see = Seer(pictures(), Sampler(pictures().targets), ALL["geometry"], 1)
    assert torch.equal(other.inputs, see(other.index, 0)[0])
    assert not torch.equal(one.inputs, see(one.index, 0)[0])


def test_an_address_is_a_place_of_its_own() -> None:
    places = torch.cat([batch.address(SIZE) for batch in epochs(0, COUNT, ALL["geometry"])])
    assert sorted(places.tolist()) == list(range(SIZE * COUNT))


class Noisy(TensorDataset):
    def __getitem__(self, at: int) -> Any:
        return torch.rand(1, 4, 4), at % 2


def test_samples_that_are_not_the_same_each_time_are_refused() -> None:
    loader = LoaderSplit(DataLoader(TensorDataset(torch.rand(9, 1, 4, 4), torch.arange(9) % 2)), ("a", "b"), "train")
    with pytest.raises(RecipeError, match="split 'train' is a DataLoader"):
        next(batches(loader, batch_size=4, replay=REPLAY))
    with pytest.raises(RecipeError, match="random transforms of its own"):
        next(batches(DatasetSplit(Noisy(torch.zeros(12)), ("a", "b"), "train"), batch_size=4, replay=REPLAY))
    for views in (0, -1, True, 2.0):
        with pytest.raises(RecipeError, match="expected a whole number of at least 1"):
            Replay(0, views)  # type: ignore[arg-type]


# The checksum, against whole numbers of Python's.

WORD, MASK = 2**32, 2**64 - 1


def splitmix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def by_hand(values: list[float]) -> int:
    keys = [splitmix(splitmix(0x6C696D6265636B) ^ number) for number in range(len(values) + 1)]
    words = [struct.unpack("<I", struct.pack("<f", one))[0] for one in values]
    return (keys[0] + sum(key * word for key, word in zip(keys[1:], words, strict=True))) % 2**64 >> 32


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 3, 5, 7), (5, 784), (70, 3, 32, 32), (2, 70_001)], ids=str)
def test_the_checksum_is_that_of_whole_numbers(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = pixel_checksum(inputs)
    assert found.dtype == torch.int64
    rows = range(len(inputs)) if inputs[0].numel() < 10_000 else [1]
    assert [int(found[row]) for row in rows] == [by_hand(inputs[row].flatten().tolist()) for row in rows]
    assert 0 <= int(found.min()) <= int(found.max()) < WORD
    alone = torch.cat([pixel_checksum(inputs[row : row + 1]) for row in range(len(inputs))])
    assert torch.equal(alone, found), "whatever is in the batch beside it"


def test_the_checksum_does_not_see_how_memory_lies() -> None:
    inputs = torch.randn(6, 3, 5, 4)
    expected = pixel_checksum(inputs)
    assert torch.equal(pixel_checksum(inputs.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(pixel_checksum(inputs.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)), expected)
    assert torch.equal(pixel_checksum(torch.randn(12, 3, 5, 4).copy_(inputs.repeat_interleave(2, 0))[::2]), expected)


def flipped(inputs: Tensor, places: list[int], bit: int) -> Tensor:
    words = inputs.clone().numpy().reshape(-1).view(np.uint32)
    words[places] ^= np.uint32(1 << bit)
    return torch.from_numpy(words.view(np.float32)).reshape(inputs.shape)


def test_any_flipped_bit_is_seen() -> None:
    inputs = torch.rand(1, 3, 6, 6)
    expected = int(pixel_checksum(inputs))
    for place in range(inputs.numel()):
        for bit in range(32):
            assert int(pixel_checksum(flipped(inputs, [place], bit))) != expected, (place, bit)


@given(places=st.lists(st.integers(0, 107), min_size=2, max_size=108, unique=True), bit=st.integers(0, 31))
def test_a_bit_flipped_at_many_places_is_seen(places: list[int], bit: int) -> None:
    """Signs too: a sum without keys would lose them, an even number of them at once."""
    inputs = torch.linspace(-1, 1, 108).reshape(1, 3, 6, 6)
    assert int(pixel_checksum(flipped(inputs, places, bit))) != int(pixel_checksum(inputs))


def test_other_pixels_have_other_checksums() -> None:
    inputs = torch.randperm(256).reshape(1, 1, 16, 16).float() / 255
    flat = inputs.flatten()
    changed = [
        inputs.flip(3), inputs.flip(2), inputs.transpose(2, 3), inputs.roll(1, 3), -inputs, inputs + 1e-7,
        inputs * torch.where(torch.arange(16) < 2, -1.0, 1.0),
    ]  # fmt: skip
    for one in range(255):  # two neighbors in each other's place
        swapped = flat.clone()
        swapped[[one, one + 1]] = flat[[one + 1, one]]
        changed.append(swapped.reshape(inputs.shape))
    found = {int(pixel_checksum(one)) for one in [inputs, *changed]}
    assert len(found) == len(changed) + 1
    assert int(pixel_checksum(torch.tensor([[0.0]]))) != int(pixel_checksum(torch.tensor([[-0.0]])))


def test_checksums_of_many_samples_hardly_meet() -> None:
    """60,000 that differ in one value of four: 0.4 pairs of 32-bit numbers meet by chance."""
    inputs = torch.zeros(60_000, 4)
    inputs[:, 2] = torch.arange(60_000)
    assert len(pixel_checksum(inputs).unique()) >= 60_000 - 4
