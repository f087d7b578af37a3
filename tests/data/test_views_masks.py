"""Masks move as their pictures do: told by pictures whose pixels say what their class is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data.views import Views

SIDE, COUNT = 16, 48
ADDRESS: dict[str, Any] = {"seed": 5, "sample": torch.arange(COUNT), "view": 3}


def blocks(seed: int = 0) -> Tensor:
    """Masks ``[N, 16, 16]`` of four quarters of drawn classes 0 to 4, large enough to have an inside."""
    drawn = np.random.default_rng(seed).integers(0, 5, (COUNT, 2, 2))
    return torch.from_numpy(drawn.repeat(SIDE // 2, axis=1).repeat(SIDE // 2, axis=2))


def coded(masks: Tensor) -> Tensor:
    """Pictures whose value is the class: 1/8 for class 0 up to 5/8; black is none."""
    return ((masks + 1) / 8.0)[:, None].expand(-1, 3, -1, -1).contiguous()


def told(pictures: Tensor) -> Tensor:
    """Classes that pictures say; -1 where they are black."""
    return (pictures[:, 0] * 8).round().long() - 1


EXACT: list[dict[str, Any]] = [
    {"flip": True},
    {"vertical_flip": True},
    {"quarter_turns": True},
    {"shift": 5},
    {"erase": 0.7},
    {"flip": True, "vertical_flip": True, "quarter_turns": True, "shift": 3, "erase": 0.5},
]


@pytest.mark.parametrize("views", EXACT, ids=lambda one: "+".join(one))
def test_a_mask_is_what_its_picture_says_pixel_by_pixel(views: dict[str, Any]) -> None:
    masks = blocks()
    seen, moved = Views(**views)(coded(masks), **ADDRESS), Views(**views).masks(masks, **ADDRESS)
    assert torch.equal(moved, told(seen))
    assert not torch.equal(moved, masks)
    uncovered = "shift" in views or "erase" in views
    assert bool((moved == -1).any()) is uncovered


SAMPLED: list[dict[str, Any]] = [
    {"rotate": 30},
    {"scale": 0.4},
    {"shear": 20},
    {"resized_crop": [0.2, 0.8]},
    {"rotate": 180, "scale": 0.3, "shear": 10, "flip": True, "shift": 2, "resized_crop": [0.5, 1.0]},
]


@pytest.mark.parametrize("views", SAMPLED, ids=lambda one: "+".join(one))
def test_between_pixels_a_mask_is_of_the_nearest_one(views: dict[str, Any]) -> None:
    """Where all pixels that a picture's one is blended of have one class, the mask has that class, or is uncovered
    where more than half of it is."""
    masks = blocks()
    seen, moved = Views(**views)(coded(masks), **ADDRESS), Views(**views).masks(masks, **ADDRESS)
    # One-hot pictures, moved as pictures are: a pixel that one class fills lies wholly inside it.
    shares = torch.stack([Views(**views)((masks == one).float()[:, None], **ADDRESS)[:, 0] for one in range(5)], dim=1)
    inside = shares.max(1).values > 0.999
    assert torch.equal(moved[inside], shares.argmax(1)[inside])
    assert torch.equal(moved[inside], told(seen)[inside])
    # The nearest pixel has at least a quarter of the bilinear weight, and whatever has more than half is the nearest...
    present = shares.gather(1, moved.clamp(min=0)[:, None])[:, 0]
    assert (present[moved >= 0] >= 0.25 - 1e-4).all()
    # ... and a pixel without a label has at most three quarters of its weight on the picture.
    assert (shares.sum(1)[moved == -1] <= 0.75 + 1e-4).all()
    assert inside.float().mean() > 0.5
    assert not torch.equal(moved, masks)


def test_a_warp_is_that_of_a_hand_computation() -> None:
    """A turn by its own angle, read off where single pixels go: numpy's arithmetic on coordinates."""
    views, masks = Views(rotate=180), blocks(2)
    moved = views.masks(masks, **ADDRESS)
    ramp = torch.linspace(-7.5, 7.5, SIDE)
    # Pictures of the coordinates tell each sample's matrix: two pixels of the middle are enough.
    x, y = ramp[None, :].expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)
    places = views((torch.stack([x, y]) / 16 + 0.5)[None].expand(COUNT, 2, -1, -1), **ADDRESS)
    places = (places - 0.5) * 16
    for at in range(COUNT):
        across = (places[at, :, 7, 8] - places[at, :, 7, 7]).double().numpy()
        down = (places[at, :, 8, 7] - places[at, :, 7, 7]).double().numpy()
        assert np.hypot(*across) == pytest.approx(1, abs=1e-4)
        from_x = across[0] * x.numpy() + down[0] * y.numpy() + 7.5
        from_y = across[1] * x.numpy() + down[1] * y.numpy() + 7.5
        columns, rows = np.rint(from_x).astype(int), np.rint(from_y).astype(int)
        outside = (columns < 0) | (columns > 15) | (rows < 0) | (rows > 15)
        wanted = np.where(outside, -1, masks[at].numpy()[rows.clip(0, 15), columns.clip(0, 15)])
        sure = (np.abs(from_x % 1 - 0.5) > 0.01) & (np.abs(from_y % 1 - 0.5) > 0.01)  # not between two pixels
        np.testing.assert_array_equal(moved[at].numpy()[sure], wanted[sure])
        assert sure.mean() > 0.8


def test_pixels_without_a_label_move_too() -> None:
    masks = blocks()
    masks[:, 3:9, 2:7] = -1
    views = Views(flip=True, quarter_turns=True)
    assert torch.equal(views.masks(masks, **ADDRESS), told(views(coded(masks), **ADDRESS)))
    assert (views.masks(masks, **ADDRESS) == -1).sum() == COUNT * 6 * 5


@pytest.mark.parametrize("views", [EXACT[-1], SAMPLED[-1]], ids=["exact", "sampled"])
def test_a_mask_is_the_same_in_any_batch_and_changes_with_its_address(views: dict[str, Any]) -> None:
    masks, made = blocks(), Views(**views)
    whole = made.masks(masks, **ADDRESS)
    for at in (0, 7, COUNT - 1):
        alone = made.masks(masks[at : at + 1], seed=5, sample=torch.tensor([at]), view=3)
        assert torch.equal(alone[0], whole[at])
    assert not torch.equal(made.masks(masks, seed=5, sample=torch.arange(COUNT), view=4), whole)
    assert not torch.equal(made.masks(masks, seed=6, sample=torch.arange(COUNT), view=3), whole)


def test_color_changes_no_mask() -> None:
    masks = blocks()
    color = {"brightness": 0.5, "contrast": 0.5}
    assert torch.equal(Views(color=color).masks(masks, **ADDRESS), masks)  # type: ignore[arg-type]
    both = Views(color=color, flip=True, rotate=20).masks(masks, **ADDRESS)  # type: ignore[arg-type]
    assert torch.equal(both, Views(flip=True, rotate=20).masks(masks, **ADDRESS))
    assert torch.equal(Views().masks(masks, **ADDRESS), masks)


def test_a_class_above_what_halves_of_a_number_hold_is_kept() -> None:
    masks = torch.arange(256).reshape(1, 16, 16).clamp(max=254)
    moved = Views(flip=True, vertical_flip=True, quarter_turns=True, rotate=1e-6).masks(
        masks, seed=0, sample=[1], view=0
    )
    assert moved.flatten().bincount().tolist() == masks.flatten().bincount().tolist()
