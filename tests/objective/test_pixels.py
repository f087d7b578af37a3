"""Objectives of masks: what counts, by hand and over pieces; ignored pixels; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses import TABLE, declared, pkd
from limbeck.models.unet import UNet
from limbeck.objective import Objective, bind, term
from limbeck.objective.binding import Scene
from limbeck.outputs import Outputs
from limbeck.taps import Tap
from limbeck.teachers import ModuleTeacher

B, C, H, W = 6, 4, 4, 6
RECIPE: dict[str, Any] = {
    "supervised": {"weight": 0.5, "class_weights": [0.5, 1.0, 1.5, 1.0]},
    "dice": 0.3,
    "focal": {"weight": 0.2, "gamma": 2},
    "pixel_kl": {"weight": 10, "temperature": 2},
    "kl": 0.5, "cwd": 3, "dkd": 1, "nkd": 1, "jsd": 1, "wsld": 1, "hard_labels": 0.1,
}  # fmt: skip
LOGITS = [name for name, loss in TABLE.items() if declared(loss).site == "logits"]
ALONE = [name for name in LOGITS if not declared(TABLE[name]).relational]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels() -> Tensor:
    """Spread unevenly: none of the first two images, few of the third."""
    y = torch.randint(-1, C, (B, H, W), generator=torch.Generator().manual_seed(3))
    y[:2] = -1
    y[2, 1:] = -1
    return y


Z_S, Z_T, Y = drawn(B, C, H, W), drawn(B, C, H, W, seed=1), labels()


def computed(
    objective: Objective, z: Tensor = Z_S, z_t: Tensor = Z_T, y: Tensor = Y, **more: Any
) -> tuple[Any, Tensor]:
    """The terms' values and the gradient, as the training loop computes them."""
    z = z.detach().clone().requires_grad_()
    total, values = objective(Outputs(z), Outputs(z_t), target=y, mask=y >= 0, **more)
    (gradient,) = torch.autograd.grad(total, z)
    return {name: value.item() for name, value in values.items()}, gradient


def softmax(z: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    e = np.exp((z - z.max(1, keepdims=True)) / temperature)
    return e / e.sum(1, keepdims=True)


# ---- by hand


def test_the_sum_by_hand() -> None:
    """Means over labeled pixels of the batch, of Dice over images with one; written out in numpy."""
    recipe = {"supervised": 0.5, "dice": 0.3, "focal": 0.2, "pixel_kl": {"weight": 10, "temperature": 2}}
    values, _ = computed(Objective.from_recipe(recipe))
    y, p = Y.numpy(), softmax(Z_S.numpy())
    known = y >= 0
    own = np.take_along_axis(p, np.maximum(y, 0)[:, None], 1)[:, 0][known]
    soft_s, soft_t = softmax(Z_S.numpy(), 2.0), softmax(Z_T.numpy(), 2.0)
    overlaps = []
    for b in range(2, B):
        there = [c for c in range(C) if (y[b] == c).any()]
        shared = [2 * p[b, c][y[b] == c].sum() + 1 for c in there]
        areas = [p[b, c][known[b]].sum() + (y[b] == c).sum() + 1 for c in there]
        overlaps.append(np.mean([1 - one / area for one, area in zip(shared, areas, strict=True)]))
    expected = {
        "supervised": -np.log(own).mean(),
        "dice": np.mean(overlaps),
        "focal": -((1 - own) ** 2 * np.log(own)).mean(),
        "pixel_kl": 4 * (soft_t * np.log(soft_t / soft_s)).sum(1)[known].mean(),
    }
    assert values == pytest.approx(expected, rel=1e-10)


def test_counts_by_hand() -> None:
    y = torch.tensor([[[0, -1], [1, 1]], [[-1, -1], [-1, -1]], [[2, 2], [2, -1]]])
    mask = torch.tensor([[[True, True], [False, False]], [[True, False], [False, False]], [[False] * 2] * 2])
    found = Objective.from_recipe({"supervised": 1}).counts
    assert {name: int(one) for name, one in found(y).items()} == {
        "samples": 3, "seen": 3, "told": 2, "elements": 12, "labeled": 6,
    }  # fmt: skip
    assert {name: int(one) for name, one in found(y, mask).items()} == {
        "samples": 3, "seen": 2, "told": 1, "elements": 3, "labeled": 1,
    }  # fmt: skip
    assert {name: int(one) for name, one in found(y, y >= 0).items()} == {
        "samples": 3, "seen": 2, "told": 2, "elements": 6, "labeled": 6,
    }  # fmt: skip


def test_without_a_mask_an_image_without_labels_has_no_part_in_dice() -> None:
    objective = Objective.from_recipe({"dice": 1})
    whole, _ = objective(Outputs(Z_S), None, target=Y)
    some, _ = objective(Outputs(Z_S[2:]), None, target=Y[2:])
    assert whole.item() == pytest.approx(some.item(), rel=1e-12)
    counts = objective.counts(Y)
    parts = [objective(Outputs(Z_S[at]), None, target=Y[at], counts=counts)[0] for at in (slice(0, 3), slice(3, B))]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-12)  # type: ignore[union-attr]


# ---- pieces


@pytest.mark.parametrize("cuts", [[3], [1, 2], [2, 5], [1, 2, 3, 4, 5]])
def test_pieces_sum_to_the_whole(cuts: list[int]) -> None:
    """Of losses of pixels and of images; the first two pieces of the finest cut have no label at all."""
    objective = Objective.from_recipe(RECIPE)
    whole, gradient = computed(objective)
    counts, pieces = objective.counts(Y, Y >= 0), []
    for start, end in zip([0, *cuts], [*cuts, B], strict=True):
        pieces.append(computed(objective, Z_S[start:end], Z_T[start:end], Y[start:end], counts=counts))
    assert {name: sum(one[0][name] for one in pieces) for name in whole} == pytest.approx(whole, rel=1e-11)
    torch.testing.assert_close(torch.cat([one[1] for one in pieces]), gradient, rtol=1e-10, atol=1e-14)
    assert gradient[2:].abs().max() > 1e-4


def test_a_scalar_of_a_piece_counts_by_its_share_of_the_pixels_that_count() -> None:
    """A piece without a label counts for nothing."""
    objective, part = Objective([term("dist", 1.0)]), slice(2, 4)
    share = int((Y[part] >= 0).sum()) / int((Y >= 0).sum())
    counts = objective.counts(Y, Y >= 0)
    alone, slope = computed(objective, Z_S[part], Z_T[part], Y[part])
    piece, of_piece = computed(objective, Z_S[part], Z_T[part], Y[part], counts=counts)
    assert piece["dist"] == pytest.approx(alone["dist"] * share, rel=1e-12)
    torch.testing.assert_close(of_piece, slope * share)
    nothing, none = computed(objective, Z_S[:2], Z_T[:2], Y[:2], counts=counts)
    assert nothing == {"dist": 0}
    assert float(none.abs().max()) == 0


def test_a_scalar_of_features_counts_by_its_share_of_the_images_that_count(scene: Scene) -> None:
    y = torch.zeros(3, 32, 32, dtype=torch.int64)
    y[1] = -1
    objective = Objective([term("sp", 1.0, at="down.3")])
    alone = step(scene, objective, y)["total"]
    several = torch.cat([y, y[:1], y[1:2]])  # 3 of 5 images have a label
    counts = objective.counts(several, several >= 0)
    assert step(scene, objective, y, counts=counts)["total"] == pytest.approx(alone * 2 / 3)


def test_dice_over_a_batch_in_pieces_is_refused_by_name() -> None:
    """The sums of pieces are not the batch's: the mean of their values is another number."""
    objective = Objective.from_recipe({"supervised": 1, "dice_batch": 1})
    whole, _ = computed(objective)
    parts = [computed(objective, Z_S[at], Z_T[at], Y[at])[0]["dice_batch"] for at in (slice(0, 3), slice(3, B))]
    assert abs(np.mean(parts) - whole["dice_batch"]) > 1e-3
    with pytest.raises(RecipeError, match="term 'dice_batch' adds up over the whole batch") as refused:
        computed(objective, Z_S[:3], Z_T[:3], Y[:3], counts=objective.counts(Y, Y >= 0))
    assert refused.value.cure == "set accumulate: 1, or take dice, whose sums are over each image"
    with pytest.raises(RecipeError, match="computed in 4 pieces"):
        objective.check_pieces(4)
    objective.check_pieces(1)
    Objective.from_recipe(RECIPE).check_pieces(4)
    once, counted = computed(objective), computed(objective, counts=objective.counts(Y, Y >= 0))
    assert once[0] == pytest.approx(counted[0], rel=1e-12), "a batch of one piece is the batch"


# ---- ignored pixels


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_ignored_pixels_change_no_value_and_no_gradient(name: str, whose: str) -> None:
    objective, ignored = Objective([term(name, 1.0)]), (Y < 0).unsqueeze(1)
    values, gradient = computed(objective)
    other = 50 * drawn(B, C, H, W, seed=9)
    changed = (
        {"z": torch.where(ignored, other, Z_S)} if whose == "student" else {"z_t": torch.where(ignored, other, Z_T)}
    )
    again, slope = computed(objective, **changed)
    assert again == pytest.approx(values, rel=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-11, atol=1e-15)
    assert float((gradient * ignored).abs().max()) == 0 < float(gradient.abs().max())


@pytest.mark.parametrize("name", LOGITS)
def test_a_batch_without_any_label_is_0_with_a_graph(name: str) -> None:
    none = torch.full_like(Y, -1)
    values, gradient = computed(Objective([term(name, 1.0)]), y=none)
    assert values == {name: 0.0}
    assert float(gradient.abs().max()) == 0


@pytest.mark.parametrize("name", ALONE)
def test_the_mean_does_not_depend_on_the_size_of_batch_or_map(name: str) -> None:
    """KLDivergence's batchmean on maps, the pixel loss that is not divided by N, sums over the batch."""
    objective = Objective([term(name, 1.0)])
    values, gradient = computed(objective)
    twice = [one.repeat(3, *[1] * (one.ndim - 1)) for one in (Z_S, Z_T, Y)]
    again, slope = computed(objective, *twice)
    assert again == pytest.approx(values, rel=1e-11)
    torch.testing.assert_close(slope[:B] * 3, gradient, rtol=1e-10, atol=1e-14)
    if name in ("dice", "cwd"):  # of sums of pixels e is a number; over places of which all are there twice: ln 2 more
        return
    wider = [one.repeat(*[1] * (one.ndim - 1), 2) for one in (Z_S, Z_T, Y)]
    assert computed(objective, *wider)[0] == pytest.approx(values, rel=1e-11)


@pytest.mark.parametrize("name", ALONE)
def test_a_turned_map_has_the_turned_gradient(name: str) -> None:
    """A softmax over height or width has another."""
    objective = Objective([term(name, 1.0)])
    values, gradient = computed(objective)
    turned, slope = computed(objective, Z_S.mT, Z_T.mT, Y.mT)
    assert turned == pytest.approx(values, rel=1e-11)
    torch.testing.assert_close(slope.mT, gradient, rtol=1e-10, atol=1e-14)


# ---- class weights, controls


def test_balanced_class_weights_count_pixels() -> None:
    recipe = {"supervised": {"class_weights": "balanced"}, "focal": {"class_weights": "balanced"}, "dice": 1}
    objective = Objective.from_recipe(recipe)
    with pytest.raises(RecipeError, match="balanced class weights"):
        computed(objective)
    counts = torch.bincount(Y[Y >= 0], minlength=C)
    found = objective.resolved(counts, list("abcd"))
    expected = (counts.sum() / (C * counts)).tolist()
    assert [one.hyper.get("class_weights") for one in found.terms] == [
        pytest.approx(expected), pytest.approx(expected), None,
    ]  # fmt: skip
    own = torch.log_softmax(Z_S, 1).gather(1, Y.clamp(min=0).unsqueeze(1))[:, 0]
    by_hand = -(torch.tensor(expected)[Y.clamp(min=0)] * own)[Y >= 0].mean()
    assert computed(found)[0]["supervised"] == pytest.approx(by_hand.item(), rel=1e-6)
    with pytest.raises(DataError, match="class 'c' has no labeled"):
        objective.resolved(torch.tensor([1, 2, 0, 3]), list("abcd"))


def test_controls_keep_the_terms_of_labels_and_their_shares() -> None:
    objective = Objective.from_recipe(
        {"supervised": {"weight": 0.25, "label_smoothing": 0.1}, "dice": {"weight": 0.15, "background": 0},
         "focal": 0.1, "pixel_kl": 10, "dkd": 2}
    )  # fmt: skip
    control, hard = objective.without_teacher(), objective.with_hard_labels()
    assert {one.name: one.weight for one in control.terms} == pytest.approx(
        {"supervised": 0.5, "dice": 0.3, "focal": 0.2}
    )
    assert {one.name: one.weight for one in hard.terms} == pytest.approx(
        {"hard_labels": 0.5, "dice": 0.3, "focal": 0.2}
    )
    assert [one.settings["label_smoothing"] for one in (control.terms[0], hard.terms[0])] == [0.1, 0.1]
    assert control.terms[1].hyper["background"] == 0
    assert not control.needs_teacher
    values, gradient = computed(control)
    again, slope = computed(hard)  # where only labeled pixels count, no label is the teacher's
    assert list(values.values()) == pytest.approx(list(again.values()), rel=1e-12)
    torch.testing.assert_close(gradient, slope)
    assert [one.name for one in Objective.from_recipe({"dice": 1, "kl": 1}).with_hard_labels().terms] == ["hard_labels"]
    assert [one.weight for one in Objective.from_recipe({"dice": 4, "kl": 1}).without_teacher().terms] == [1.0]


def test_a_recipe_goes_there_and_back() -> None:
    recipe = {"dice": {"weight": 0.3, "absent": True, "background": 2, "smooth": 0.5}, "focal": {"gamma": 1.5}, "kl": 1}
    plain = Objective.from_recipe(recipe).to_recipe()
    assert plain["dice"] == {"weight": 0.3, "smooth": 0.5, "absent": True, "background": 2}
    assert Objective.from_recipe(plain).to_recipe() == plain
    with pytest.raises(RecipeError, match=r"objective\.dice\.absent is 'yes', expected true or false"):
        Objective.from_recipe({"dice": {"absent": "yes"}})
    with pytest.raises(RecipeError, match="loss 'dice' has no hyperparameter 'class_weights'"):
        Objective.from_recipe({"dice": {"class_weights": "balanced"}})


# ---- features of two U-Nets


@pytest.fixture(scope="module")
def scene() -> Scene:
    torch.manual_seed(0)
    student, teacher = (UNet((3, 32, 32), C, width) for width in (2, 4))
    none = torch.full((8,), -1)
    return Scene(student, nn.Identity(), ModuleTeacher(teacher), torch.rand(3, 3, 32, 32), none, C)


AT: dict[str, Any] = {
    "attention_transfer": [["down.2", "down.2"], ["merge.1", "merge.1"]],
    "pairwise": ["merge.0", "merge.0"],
    "cwd": ["merge.3", "merge.3"],
    "pkd": [["merge.1", "merge.1"], ["merge.2", "merge.2"]],
    "fitnet": ["down.4", "down.4"],
    "ickd": ["merge.2", "merge.2"],
    "nst": ["merge.1", "merge.1"],
    "vid": ["down.3", "down.3"],
    "sp": ["down.4", "down.4"],
    "review": [["down.2", "down.2"], ["down.3", "down.3"], ["down.4", "down.4"]],
}


def step(scene: Scene, objective: Objective, y: Tensor, inputs: Tensor | None = None, **more: Any) -> dict[str, Any]:
    """Values, and the gradients of the student's parameters and the adapters'."""
    bound = bind(objective, scene)
    inputs = scene.inputs if inputs is None else inputs
    assert isinstance(scene.teacher, ModuleTeacher)
    with (
        Tap(scene.student, bound.layers("student")) as tap,
        Tap(scene.teacher.inside, bound.layers("teacher")) as other,
    ):
        said = Outputs(scene.student(inputs), tap.read())
        with torch.no_grad():
            heard = Outputs(scene.teacher.inside(inputs), other.read())
    total, values = bound(said, heard, target=y, mask=y >= 0, **more)
    weights = [*scene.student.parameters(), *bound.modules.parameters()]
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    return {"values": values, "total": total.item(), "gradients": gradients, "bound": bound}


@pytest.mark.parametrize("name", AT)
def test_features_of_two_widths_bind_and_learn(scene: Scene, name: str) -> None:
    y = torch.zeros(3, 32, 32, dtype=torch.int64)
    y[0, :16] = -1
    adapter = "conv" if name == "cwd" else None
    found = step(scene, Objective([term(name, 1.0, at=AT[name], adapter=adapter)]), y)
    assert found["total"] > 0 or name == "vid"
    learned = [one for one in found["gradients"] if one is not None]
    assert learned
    assert all(torch.isfinite(one).all() for one in learned)
    assert max(float(one.abs().max()) for one in learned) > 0
    extras = list(found["bound"].modules.parameters())
    given = found["gradients"][-len(extras) :] if extras else []
    assert all(one is not None for one in given), "adapters are trained"


@pytest.mark.parametrize("name", AT)
def test_features_of_an_image_without_a_label_change_nothing(scene: Scene, name: str) -> None:
    y = torch.zeros(3, 32, 32, dtype=torch.int64)
    y[1] = -1
    adapter = "conv" if name == "cwd" else None
    objective = Objective([term(name, 1.0, at=AT[name], adapter=adapter)])
    other = scene.inputs.clone()
    other[1] = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(7))
    first, second = step(scene, objective, y), step(scene, objective, y, other)
    if first["bound"].modules and any("BatchNorm" in type(one).__name__ for one in first["bound"].modules.modules()):
        return  # an adapter that normalizes over the batch sees all of its images
    assert first["total"] == pytest.approx(second["total"], rel=1e-5)
    for one, again in zip(first["gradients"], second["gradients"], strict=True):
        assert (one is None) == (again is None)
        if one is not None and again is not None:
            torch.testing.assert_close(one, again, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["pairwise", "attention_transfer", "nst"])
def test_whole_maps_of_logits_without_a_mask_are_refused_before_training(scene: Scene, name: str) -> None:
    objective = Objective([term(name, 1.0, at="logits")])
    with pytest.raises(ModelError, match=f"term '{name}' compares whole maps of logits and takes no mask") as refused:
        bind(objective, scene)
    assert "pixel_kl" in str(refused.value.cure)
    with pytest.raises(ModelError, match="takes no mask of pixels"):
        computed(objective)


def test_pkd_of_logits_takes_images_and_not_pixels(scene: Scene) -> None:
    with pytest.raises(ModelError, match="'pkd' takes a mask of one bool for each of the 3 samples"):
        bind(Objective([term(pkd, 1.0, at="logits")]), scene)


@pytest.mark.parametrize("loss", [lambda student, teacher: (student - teacher).square().mean(), None])
def test_a_users_loss_that_can_not_ignore_is_refused(scene: Scene, loss: Callable[..., Tensor] | None) -> None:
    def per_image(student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).square().flatten(1).mean(1)

    with pytest.raises(ModelError, match="compares whole maps of logits and takes no mask of pixels"):
        bind(Objective([term(loss or per_image, 1.0, name="mine")]), scene, rehearse=True)


def test_a_users_loss_of_labels_is_tried_with_labels_of_pixels(scene: Scene) -> None:
    seen = []

    def mine(student: Tensor, *, target: Tensor) -> Tensor:
        seen.append((tuple(target.shape), target.dtype))
        return student.square().mean(1)

    bind(Objective([term(mine, 1.0)]), scene, rehearse=True)
    assert seen == [((3, 32, 32), torch.int64)]
