"""Intervals from the draw of pictures, enumerated by hand where there are few."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.evaluation.dense.intervals import GROUPS, intervals, paired
from limbeck.evaluation.dense.measures import NAMES, measure
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import Tally
from limbeck.evaluation.sampling import draws

CLASSES = ("land", "water")


def split(masks: list[Tensor], groups: list[str | None] | None = None, patches: int = 1) -> SceneSplit:
    """Pictures as regions, or each cut into patches side by side."""
    regions = []
    for at, mask in enumerate(masks):
        group = groups[at] if groups else None
        scene = Scene.of(f"p{at}", torch.zeros(3, *mask.shape).byte(), mask, 2, group)
        wide = mask.shape[1] // patches
        regions += [Region(scene, 0, number * wide, (mask.shape[0], wide)) for number in range(patches)]
    return SceneSplit(regions, CLASSES, "test", patch=(2, 2))


def said(made: SceneSplit, guesses: list[Tensor], sure: float = 0.9) -> Reading:
    found = Reading([], Tally.empty(len(made.regions), 2))
    names = list(dict.fromkeys(region.scene.name for region in made.regions))
    for number, region in enumerate(made.regions):
        whole = guesses[names.index(region.scene.name)]
        guess = whole[:, region.left : region.left + region.size[1]].long()
        shares = torch.full((2, *guess.shape), 1 - sure).scatter_(0, guess[None], sure)
        found.labels.append(found.tally.add(number, shares, region.read()[1]))
    return found


def pictures(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, (4, 6), generator=generator).byte() for _ in range(count)]


def wrong(mask: Tensor, pixels: int) -> Tensor:
    found = mask.flatten().clone()
    found[:pixels] = 1 - found[:pixels]
    return found.view(mask.shape)


def test_two_pictures_are_drawn_in_three_ways() -> None:
    """Both, the first twice, the second twice: with chances 1/2, 1/4, 1/4 the ends are the two pictures' own scores."""
    masks = pictures(2, 0)
    made = split(masks)
    model = said(made, [wrong(masks[0], 3), wrong(masks[1], 9)])
    found = intervals(model.tally, [*NAMES, "loss"], made)
    assert list(found) == [*NAMES, "loss"]
    for name in NAMES:
        alone = measure(name, model.tally.margins.double()).tolist()
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(sorted(alone)), name
        assert found[name]["method"] == "bootstrap of pictures"
    assert (found["pixel_accuracy"]["low"], found["pixel_accuracy"]["high"]) == pytest.approx((15 / 24, 21 / 24))
    losses = [-(share * np.log(0.9) + (1 - share) * np.log(0.1)) for share in (21 / 24, 15 / 24)]
    assert [found["loss"]["low"], found["loss"]["high"]] == pytest.approx(losses, abs=1e-6)


def test_each_resample_is_the_metric_of_the_pictures_drawn() -> None:
    masks = pictures(4, 1)
    made = split(masks)
    model = said(made, [wrong(mask, 2 * at + 1) for at, mask in enumerate(masks)])
    times = torch.cat(list(draws(4)))
    values = []
    for row in times.tolist():
        parts = [model.tally.margins[at] for at, often in enumerate(row) for _ in range(int(often))]
        values.append(float(measure("mean_iou", torch.stack(parts).sum(0).double())))
    low, high = np.quantile(values, [0.025, 0.975])
    found = intervals(model.tally, ["mean_iou"], made)["mean_iou"]
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_patches_of_a_picture_are_drawn_together() -> None:
    masks = pictures(3, 2)
    guesses = [wrong(mask, 4 * at + 2) for at, mask in enumerate(masks)]
    whole, cut = split(masks), split(masks, patches=3)
    one, other = (intervals(said(made, guesses).tally, NAMES, made) for made in (whole, cut))
    assert len(cut.regions) == 9
    for name in NAMES:
        assert (one[name]["low"], one[name]["high"]) == pytest.approx((other[name]["low"], other[name]["high"]))


def test_pictures_of_a_group_are_drawn_together_where_there_are_enough_groups() -> None:
    masks = pictures(2 * GROUPS, 3)
    guesses = [wrong(mask, 1 + 3 * (at // 2)) for at, mask in enumerate(masks)]
    grouped = split(masks, [f"tile {at // 2}" for at in range(2 * GROUPS)])
    joined = split([torch.cat(masks[at : at + 2], dim=1) for at in range(0, 2 * GROUPS, 2)])
    whole = [torch.cat(guesses[at : at + 2], dim=1) for at in range(0, 2 * GROUPS, 2)]
    one = intervals(said(grouped, guesses).tally, ["mean_iou"], grouped)["mean_iou"]
    other = intervals(said(joined, whole).tally, ["mean_iou"], joined)["mean_iou"]
    assert (one["low"], one["high"]) == pytest.approx((other["low"], other["high"]))
    assert (one["method"], other["method"]) == ("bootstrap of groups", "bootstrap of pictures")
    few = split(masks, [f"tile {at % 2}" for at in range(2 * GROUPS)])
    assert intervals(said(few, guesses).tally, ["mean_iou"], few)["mean_iou"]["method"] == "bootstrap of pictures"
    difference = paired(said(grouped, guesses), said(grouped, masks), grouped, "mean_iou")
    assert difference is not None
    assert (difference["samples"], difference["groups"]) == (2 * GROUPS, GROUPS)


def test_a_paired_difference_is_of_the_same_draws() -> None:
    """One model is wrong at two pixels more in every picture: the accuracy differs by that in every resample."""
    masks = pictures(5, 4)
    made = split(masks)
    first, second = (said(made, [wrong(mask, 3 * at + more) for at, mask in enumerate(masks)]) for more in (0, 2))
    found = paired(first, second, made, "pixel_accuracy")
    assert found is not None
    assert found["mean"] == pytest.approx(2 / 24)
    spread = (found["low"] or found["mean"]), (found["high"] or found["mean"])
    assert spread == pytest.approx((2 / 24, 2 / 24))  # where each alone varies by much more
    alone = intervals(first.tally, ["pixel_accuracy"], made)["pixel_accuracy"]
    assert alone["high"] - alone["low"] > 0.2
    assert (found["samples"], found["groups"]) == (5, None)


def test_a_difference_has_the_sign_of_first_minus_second_and_is_none_where_nothing_differs() -> None:
    masks = pictures(4, 5)
    made = split(masks)
    good, bad = (
        said(made, [wrong(one, 1) for one in masks]),
        said(made, [wrong(one, 5 + at) for at, one in enumerate(masks)]),
    )
    for metric, better in (("mean_iou", 1), ("loss", -1)):
        found, back = paired(good, bad, made, metric), paired(bad, good, made, metric)
        assert found is not None
        assert back is not None
        assert found["mean"] * better > 0
        assert found["low"] <= found["mean"] <= found["high"]
        assert (back["low"], back["high"]) == pytest.approx((-found["high"], -found["low"]))
    same = paired(good, good, made, "mean_iou")
    assert same == {"mean": 0.0, "low": None, "high": None, "samples": 4, "groups": None}
    assert paired(good, bad, made, "auc") is None


def test_one_picture_has_no_interval() -> None:
    masks = pictures(1, 6)
    made = split(masks, patches=2)
    assert intervals(said(made, [wrong(masks[0], 4)]).tally, NAMES, made) == {}
    nothing = [torch.full((4, 6), 255).byte()] * 2
    blank = split(nothing)
    model = said(blank, pictures(2, 7))
    assert intervals(model.tally, NAMES, blank) == {}
    assert paired(model, model, blank, "mean_iou") is None
