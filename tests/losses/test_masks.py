"""Dice and focal against a second implementation in numpy, numbers by hand, and what popular code does instead."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses import cross_entropy, declared, dice, dice_batch, focal

Loss = Callable[..., Tensor]
every = pytest.mark.parametrize("loss", [dice, dice_batch, focal], ids=lambda one: one.__name__)
overlaps = pytest.mark.parametrize("loss", [dice, dice_batch], ids=lambda one: one.__name__)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, classes: int = 4, seed: int = 5) -> Tensor:
    return torch.randint(-1, classes, shape, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Loss, z: Tensor, **given: Any) -> Tensor:
    z = z.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z, **given).sum(), z)
    return found


def softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


def dice_by_hand(
    z: np.ndarray, y: np.ndarray, *, smooth: float = 1.0, absent: bool = False, background: int | None = None
) -> float:
    """Of one set of pixels ``[C, n]`` and ``[n]``, one after the other."""
    pixels = [(softmax(z[:, n]), y[n]) for n in range(len(y)) if y[n] >= 0]
    found = []
    for c in range(len(z)):
        if c == background or (not absent and c not in y):
            continue
        shared = math.fsum(p[c] for p, label in pixels if label == c)
        areas = math.fsum(p[c] for p, _ in pixels) + sum(label == c for _, label in pixels)
        found.append(1 - (2 * shared + smooth) / (areas + smooth))
    return float(np.mean(found)) if found and pixels else 0.0


HYPER: list[dict[str, Any]] = [
    {"smooth": smooth, "absent": absent, "background": background}
    for smooth, absent, background in itertools.product((1.0, 0.25), (False, True), (None, 0, 3))
] + [{"smooth": 0.0}, {"smooth": 0.0, "background": 1}]


@pytest.mark.parametrize("hyper", HYPER, ids=str)
def test_dice_against_the_second_implementation(hyper: dict[str, Any]) -> None:
    """Images: all classes with ignored pixels, two classes, one, none labeled."""
    z, y = drawn(4, 4, 3, 5), labels(4, 3, 5)
    y[1] = y[1].clamp(min=1, max=2)
    y[2], y[3] = torch.where(y[2] > 1, 3, -1), -1
    flat_z, flat_y = z.flatten(2).numpy(), y.flatten(1).numpy()
    expected = [dice_by_hand(one, label, **hyper) for one, label in zip(flat_z, flat_y, strict=True)]
    np.testing.assert_allclose(dice(z, target=y, **hyper).numpy(), expected, rtol=1e-11, atol=1e-15)
    together = dice_by_hand(np.concatenate(list(flat_z), axis=1), np.concatenate(list(flat_y)), **hyper)
    assert dice_batch(z, target=y, **hyper).item() == pytest.approx(together, rel=1e-11)
    assert expected[3] == 0


def test_dice_numbers_by_hand() -> None:
    """Four pixels, p(1) of 1, 1, ½ and 0 (to 1e-40), labels 1, 0, 1 and none."""
    z = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    z[0, 1] = torch.tensor([[92.0, 92.0], [0.0, -92.0]])
    y = torch.tensor([[[1, 0], [1, -1]]])
    # class 0: I 0, P ½, Y 1; class 1: I 1½, P 2½, Y 2
    first, second = 1 - 1 / (0.5 + 1 + 1), 1 - 4 / (2.5 + 2 + 1)
    assert dice(z, target=y).item() == pytest.approx((first + second) / 2)
    assert dice(z, target=y, background=0).item() == pytest.approx(second)
    assert dice(z, target=y, background=0, smooth=0.0).item() == pytest.approx(1 - 3 / 4.5)


def test_a_right_answer_is_0_and_a_wrong_one_nearly_1() -> None:
    y = labels(2, 4, 4).clamp(min=0)
    right = 200 * (torch.nn.functional.one_hot(y, 4).movedim(-1, 1).float() - 0.5)
    assert dice(right, target=y).abs().max() < 1e-6
    wrong = dice(right.roll(1, 1), target=y, smooth=0.0)
    torch.testing.assert_close(wrong, torch.ones(2))


def test_an_absent_class_is_neither_perfect_nor_lost() -> None:
    """Labels of class 0 alone, of three classes; p is (½, ½, 0): the third class is neither there nor said."""
    z, y = torch.tensor([0.0, 0.0, -200.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    own = 1 - (2 * 2 + 1) / (2 + 4 + 1)
    assert dice(z, target=y).item() == pytest.approx(own)
    assert dice(z, target=y, absent=True).item() == pytest.approx((own + 2 / (2 + 1) + 0) / 3)
    perfect = own / 3  # segmentation_models_pytorch: of an absent class the loss is 0, and it counts in the mean
    lost = (own + 1 + 1) / 3  # without e, whatever is said of it
    assert dice(z, target=y).item() not in (pytest.approx(perfect), pytest.approx(lost))
    assert (gradient(dice, z, target=y, absent=True)[:, 1] > 0).all(), "less of an absent class is better"


def test_only_the_background_is_0_with_a_graph() -> None:
    z, y = drawn(2, 3, 2, 2).requires_grad_(), torch.zeros(2, 2, 2, dtype=torch.int64)
    value = dice(z, target=y, background=0)
    assert value.tolist() == [0, 0]
    value.sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().max()) == 0


def test_sums_over_the_batch_and_over_images_differ_where_images_do() -> None:
    z, y = drawn(3, 4, 4, 4), labels(3, 4, 4)
    y[0] = y[0].clamp(max=0)
    assert abs(dice(z, target=y).mean() - dice_batch(z, target=y)) > 1e-2
    one = dice(z[:1], target=y[:1])
    torch.testing.assert_close(dice_batch(z[:1], target=y[:1]), one[0])
    torch.testing.assert_close(
        dice_batch(z[:1].repeat(5, 1, 1, 1), target=y[:1].repeat(5, 1, 1), smooth=5.0),
        one[0],
        msg="five times all sums",
    )


# ---- focal


def focal_by_hand(z: np.ndarray, y: int, gamma: float, weights: list[float] | None) -> float:
    if y < 0:
        return 0.0
    p = softmax(z)[y]
    return (weights[y] if weights else 1.0) * -((1 - p) ** gamma) * math.log(p)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0]])
def test_focal_against_numpy(gamma: float, weights: list[float] | None) -> None:
    z, y = drawn(2, 4, 3, 5), labels(2, 3, 5)
    found = focal(z, target=y, gamma=gamma, class_weights=weights)
    for b, i, j in np.ndindex(2, 3, 5):
        expected = focal_by_hand(z[b, :, i, j].numpy(), int(y[b, i, j]), gamma, weights)
        assert found[b, i, j].item() == pytest.approx(expected, rel=1e-10, abs=1e-15)
    rows, told = z.movedim(1, -1).flatten(0, 2), y.flatten()
    torch.testing.assert_close(focal(rows, target=told, gamma=gamma, class_weights=weights), found.flatten())
    assert torch.autograd.gradcheck(lambda one: focal(one, target=y, gamma=gamma, class_weights=weights), (
        z.clone().requires_grad_(),
    ))  # fmt: skip


def test_focal_of_two_classes_is_the_papers_of_a_sigmoid() -> None:
    z, y = drawn(20), labels(20, classes=2).clamp(min=0)
    p = torch.sigmoid(z)
    p_t = torch.where(y == 1, p, 1 - p)
    paper = -((1 - p_t) ** 2) * p_t.log()
    torch.testing.assert_close(focal(torch.stack([0 * z, z], 1), target=y), paper)


def test_focal_is_a_softmaxs_and_not_of_one_class_against_the_rest_each() -> None:
    """segmentation_models_pytorch's multiclass mode: C sigmoids, added up."""
    z, y = drawn(6, 4), labels(6).clamp(min=0)
    own = torch.nn.functional.one_hot(y, 4).bool()
    p_t = torch.where(own, torch.sigmoid(z), 1 - torch.sigmoid(z))
    one_against_the_rest = (-((1 - p_t) ** 2) * p_t.log()).sum(1)
    found = focal(z, target=y)
    assert (found - one_against_the_rest).abs().min() > 1e-2
    shifted = z + 3.0
    torch.testing.assert_close(focal(shifted, target=y), found, msg="a softmax does not see a shift")


def test_without_gamma_it_is_cross_entropy_and_with_it_less() -> None:
    z, y = drawn(3, 4, 2, 2), labels(3, 2, 2)
    weights = [1.0, 2.0, 0.5, 1.0]
    plain = cross_entropy(z, target=y, class_weights=weights)
    torch.testing.assert_close(focal(z, target=y, gamma=0.0, class_weights=weights), plain)
    assert bool((focal(z, target=y, class_weights=weights) <= plain).all())


# ---- both


@every
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("labeled", ["all", "one class", "one pixel", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_finite_at_logits_of_200(loss: Loss, classes: int, labeled: str, dtype: torch.dtype) -> None:
    z = 200 * drawn(3, classes, 4, 4).sign().to(dtype)
    y = labels(3, 4, 4, classes=classes)
    if labeled == "one class":
        y = y.clamp(max=0)
    elif labeled != "all":
        y = torch.full_like(y, -1)
        y[0, 0, 0] = 1 if labeled == "one pixel" else -1
    hypers: list[dict[str, Any]] = [{"gamma": one} for one in (0.0, 0.5, 2.0)]
    if loss is not focal:
        hypers = [{}, {"absent": True}, {"background": 0}, {"smooth": 0.0}, {"smooth": 1e-7, "absent": True}]
    for hyper in hypers:
        value, slope = loss(z, target=y, **hyper), gradient(loss, z, target=y, **hyper)
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all(), hyper
        assert torch.isfinite(slope).all(), hyper
        if labeled == "none":
            assert float(value.abs().max()) == 0 == float(slope.abs().max())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_it_is_what_it_is_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    z, y = drawn(2, 3, 8, 8).to(dtype), labels(2, 8, 8, classes=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(z, target=y)
    torch.testing.assert_close(found, loss(z.double(), target=y).float(), rtol=1e-4, atol=1e-5)


@every
def test_ignored_pixels_have_no_part(loss: Loss) -> None:
    """By label or by mask; whatever they hold; and as if the map were smaller."""
    z, y = drawn(2, 4, 4, 6), labels(2, 4, 6).clamp(min=0)
    mask = torch.arange(6).expand(2, 4, 6) < 4
    hidden = torch.where(mask.unsqueeze(1), z, math.nan)
    smaller = loss(z[..., :4], target=y[..., :4])
    for given in ({"target": torch.where(mask, y, -1)}, {"target": y, "mask": mask}):
        value, slope = loss(hidden, **given), gradient(loss, hidden, **given)
        seen = value[..., :4] if loss is focal else value
        torch.testing.assert_close(seen, smaller)
        torch.testing.assert_close(slope[..., :4], gradient(loss, z[..., :4], target=y[..., :4]))
        assert float(slope[..., 4:].abs().max()) == 0


@every
@pytest.mark.parametrize("wrong", [4, 255, -2])
def test_a_label_outside_of_the_classes_is_named(loss: Loss, wrong: int) -> None:
    y = labels(2, 3, 3)
    y[1, 2, 0] = wrong
    with pytest.raises(DataError, match=rf"labels \[{wrong}\] are not among the 4 classes, 0 to 3"):
        loss(drawn(2, 4, 3, 3), target=y)


def test_what_does_not_fit_is_refused_by_name() -> None:
    z, y = torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int64)
    cases: list[tuple[Loss, dict[str, Any], str]] = [
        (focal, {"gamma": -1.0}, r"focal\.gamma is -1\.0"),
        (focal, {"gamma": math.inf}, r"focal\.gamma is inf"),
        (dice, {"smooth": -1.0}, r"dice\.smooth is -1\.0"),
        (dice_batch, {"smooth": 0.0, "absent": True}, r"dice_batch\.smooth is 0 and absent classes count"),
        (dice, {"background": 4}, r"dice\.background is 4, expected the number of a class, 0 to 3"),
        (dice, {"background": True}, r"dice\.background is True"),
        (dice_batch, {"background": [0]}, r"dice_batch\.background is \[0\]"),
    ]
    for loss, hyper, said in cases:
        with pytest.raises(RecipeError, match=said):
            loss(z, target=y, **hyper)
    with pytest.raises(ModelError, match="class_weights has 3 numbers for 4 classes"):
        focal(z, target=y, class_weights=[1.0, 1.0, 1.0])
    with pytest.raises(ModelError, match="'dice' takes feature maps"):
        dice(torch.zeros(2, 4), target=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ModelError, match="'dice_batch' takes a target of shape"):
        dice_batch(z, target=torch.zeros(2, dtype=torch.int64))
    for loss in (dice, dice_batch, focal):
        with pytest.raises(ModelError, match="one logit"):
            loss(z[:, :1], target=y)


@overlaps
def test_an_image_does_not_see_the_others_and_a_batch_does(loss: Loss) -> None:
    z, y = drawn(3, 4, 4, 4), labels(3, 4, 4)
    other = z.clone()
    other[2] = 7 * drawn(4, 4, 4, seed=9)
    first, second = (loss(one, target=y) for one in (z, other))
    if loss is dice:
        assert torch.equal(first[:2], second[:2])
    assert (loss is dice_batch) == declared(loss).relational == (first.ndim == 0) == declared(loss).summed
