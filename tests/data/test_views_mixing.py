"""MixUp and CutMix: partners by address, shares from their distribution, areas of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset

from limbeck.data.batches import batches
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.order import uniform
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views, channels
from limbeck.data.views.mixing import beta, box
from limbeck.errors import RecipeError


def numbered(size: int, side: int = 8) -> Split:
    """Sample n is a picture of one value, n / 256, and its label is n % 3."""
    inputs = torch.arange(size)[:, None, None, None].expand(size, 1, side, side) / 256
    return Split(inputs, torch.arange(size) % 3, ("a", "b", "c"), "train")


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    found = beta(uniform(0, np.arange(3000), 1, channels.SHARE), alpha)
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert found.min() >= 0
    assert found.max() <= 1


def test_mixup_blends_a_sample_with_the_partner_of_its_address() -> None:
    split = numbered(200)
    batch = next(batches(split, batch_size=200, seed=3, epoch=2, views=Views(mixup=0.4)))
    assert batch.mixed is not None
    index = batch.index.numpy()
    partner = np.floor(uniform(3, index, 2, channels.PARTNER) * 200).astype(np.int64)
    share = stats.beta(0.4, 0.4).ppf(uniform(3, index, 2, channels.SHARE))
    np.testing.assert_allclose(batch.mixed.share.numpy(), share, atol=1e-6)
    assert batch.mixed.share.dtype == torch.float32
    assert torch.equal(batch.mixed.partner, torch.from_numpy(partner % 3))
    assert torch.equal(batch.target, batch.index % 3)
    expected = (share * index + (1 - share) * partner) / 256
    np.testing.assert_allclose(batch.inputs[:, 0, 0, 0].numpy(), expected, atol=1e-6)
    assert (partner != index).mean() > 0.97
    assert len(np.unique(partner)) > 100  # 63 % of 200


def test_cutmix_puts_in_a_rectangle_whose_pixels_are_the_share() -> None:
    split = numbered(600, side=13)
    batch = next(batches(split, batch_size=600, seed=1, epoch=4, views=Views(cutmix=1.0)))
    assert batch.mixed is not None
    index = batch.index
    partner = torch.from_numpy(np.floor(uniform(1, index, 4, channels.PARTNER) * 600).astype(np.int64))
    own, other = (batch.inputs[:, 0] == (one / 256)[:, None, None] for one in (index, partner))
    assert bool((own | other).all())
    differ = partner != index
    torch.testing.assert_close(batch.mixed.share[differ], own[differ].float().mean((1, 2)), rtol=0, atol=1e-6)
    for picture in ~own[differ]:
        rows, columns = picture.any(1), picture.any(0)
        assert torch.equal(picture, rows[:, None] & columns)
        for side in (rows, columns):  # in one piece
            assert int((side[1:] != side[:-1]).sum()) <= 2
    wanted = beta(uniform(1, index, 4, channels.SHARE), 1.0)
    left = batch.mixed.share.numpy()
    assert (left > wanted - 1e-6).all()  # what is cut off at the border, or to whole pixels, stays the sample's own
    assert np.corrcoef(left, wanted)[0, 1] > 0.7


def test_a_box_by_hand() -> None:
    """Half a side of 8 by 4 is 4 by 2 pixels; in the middle, at a corner, and nothing or everything."""
    inputs = torch.zeros(4, 1, 4, 8)
    inside, share = box(inputs, np.array([0.75, 0.75, 1.0, 0.0]), (np.array([0.5, 0.0, 0.5, 0.5]),) * 2)
    assert inside[0, 0].int().tolist() == [[0] * 8, [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0], [0] * 8]
    assert inside[1, 0].nonzero().tolist() == [[0, 0], [0, 1]]
    assert inside[2].sum() == 0
    assert inside[3].all()
    assert share.tolist() == [0.75, 1 - 2 / 32, 1.0, 0.0]


def test_with_both_each_has_half_of_the_samples() -> None:
    split = numbered(1000)
    batch = next(batches(split, batch_size=1000, seed=0, epoch=0, views=Views(mixup=1.0, cutmix=1.0)))
    partner = torch.from_numpy(np.floor(uniform(0, batch.index, 0, channels.PARTNER) * 1000).astype(np.int64))
    values = batch.inputs.flatten(1)
    cut = ((values == (batch.index / 256)[:, None]) | (values == (partner / 256)[:, None])).all(1)
    coin = torch.from_numpy(uniform(0, batch.index, 0, channels.MIX) < 0.5)
    differ = partner != batch.index
    assert torch.equal(cut[differ], coin[differ])
    assert 440 < int(cut.sum()) < 560


def test_a_partner_is_seen_as_it_is_seen_itself() -> None:
    """Sample and partner have the views of their own addresses, before they are mixed."""
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.rand(50, 1, 6, 6, generator=generator), torch.arange(50) % 2, ("a", "b"), "train")
    plain = Views(flip=True, shift=2)
    alone = next(batches(split, batch_size=50, seed=7, epoch=3, views=plain, shuffle=False))
    mixed = next(
        batches(split, batch_size=50, seed=7, epoch=3, views=Views(flip=True, shift=2, mixup=1.0), shuffle=False)
    )
    assert mixed.mixed is not None
    partner = torch.from_numpy(np.floor(uniform(7, np.arange(50), 3, channels.PARTNER) * 50).astype(np.int64))
    share = mixed.mixed.share[:, None, None, None]
    torch.testing.assert_close(mixed.inputs, alone.inputs * share + alone.inputs[partner] * (1 - share))


def test_mixing_does_not_change_what_else_happens() -> None:
    """The other channels keep their numbers, and so does the order."""
    split = numbered(30)
    one, other = (
        next(batches(split, batch_size=30, views=Views(shift=1, **more), seed=2)) for more in ({}, {"mixup": 1e-9})
    )
    assert torch.equal(one.index, other.index)
    assert other.mixed is not None
    own = other.mixed.share == 1  # alpha near 0: one of the two alone
    assert 5 < int(own.sum()) < 25
    assert torch.equal(one.inputs[own], other.inputs[own])


def test_partners_of_a_balanced_sampler_are_balanced() -> None:
    targets = torch.cat([torch.zeros(990, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])
    arguments: dict[str, Any] = {"seed": 0, "sample": np.arange(1000), "view": 0}
    found = Views(mixup=1.0).partners(Sampler(targets, "balanced"), **arguments)
    assert 430 < int(targets[found].sum()) < 570


def test_samples_without_an_address_are_refused() -> None:
    data = TensorDataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)
    split = LoaderSplit(DataLoader(data, batch_size=4), ("a", "b"), "train")
    for views in (Views(mixup=0.2), Views(cutmix=1.0)):
        with pytest.raises(RecipeError, match="no address"):
            next(batches(split, batch_size=4, views=views))


def test_a_dataset_with_random_transforms_is_mixed_the_same_way_twice() -> None:
    class Noisy(TensorDataset):
        def __getitem__(self, at: int) -> Any:
            return torch.rand(1, 4, 4), at % 2

    split = DatasetSplit(Noisy(torch.zeros(12)), ("a", "b"), "train")
    assert not split.replayable
    arguments: dict[str, Any] = {"batch_size": 4, "seed": 1, "epoch": 2, "views": Views(mixup=1.0)}
    whole, again = list(batches(split, **arguments)), list(batches(split, **arguments))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(whole, again, strict=True))
