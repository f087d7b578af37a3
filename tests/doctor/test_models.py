"""Sizes, class counts, starts that know the task already, and normalization: each planted, each healthy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.doctor.models import class_count, not_smaller, warm_start
from limbeck.doctor.normalizations import other_normalization, unlike_published, usual
from limbeck.doctor.splits import few
from limbeck.evaluation.predict import predict


def stripes(samples: int, seed: int = 0) -> Split:
    """Images in [0, 1] whose class is the brightest of three stripes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % 3
    images = torch.rand(samples, 3, 6, 6, generator=generator) * 0.6
    for at, target in enumerate(targets.tolist()):
        images[at, :, 2 * target : 2 * target + 2] += 0.4
    return Split(images, targets, ["a", "b", "c"], "validation")


def trained(split: Split, normalization: Normalization, steps: int = 80) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(module(normalization(split.inputs)), split.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return trained(stripes(240, seed=1), usual(3)["ImageNet's"])


# ---------------------------------------------------------------- normalization


def given(module: nn.Module) -> Any:
    return lambda normalization, split: predict(module, normalization, split)[0]


def levels(samples: int, seed: int = 0) -> Split:
    """Images whose class is their brightness: here the units of the inputs matter."""
    targets = torch.arange(samples) % 3
    noise = torch.randn(samples, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 0.1
    images = (0.2 + 0.3 * targets[:, None, None, None] + noise).clamp(0, 1)
    return Split(images, targets, ["dark", "gray", "bright"], "validation")


@pytest.mark.parametrize("right", list(usual(3)))
def test_another_normalization_that_is_clearly_better_is_named(right: str) -> None:
    """Trained under each of the usual ones, given each of the others, and given its own."""
    module, split = trained(levels(240, seed=1), usual(3)[right], steps=150), levels(255)
    for name, normalization in usual(3).items():
        found = other_normalization(given(module), normalization, split)
        scores = {key: float((given(module)(one, split).argmax(1) == split.targets).float().mean())
                  for key, one in usual(3).items()}  # fmt: skip
        if scores[name] > max(scores.values()) - 0.1:
            assert found == [] or scores[name] < scores[right]  # near enough to be either
            continue
        assert [(one.code, one.severity) for one in found] == [("normalization", "warning")]
        assert scores[found[0].evidence["better"]] == max(scores.values())
        assert found[0].evidence["accuracy"] == pytest.approx(scores[name], abs=1e-4)
    assert scores[right] > 0.9


def test_what_it_was_trained_with_is_what_is_named() -> None:
    """A model that looks at the brightness itself: only one of the alternatives gives it back."""
    split = stripes(300)
    brightness = (split.inputs.mean(dim=(1, 2, 3)) * 6).round()
    targets = (brightness - brightness.min()).long().clamp(max=1)
    threshold = float(usual(3)["-1 to 1"](split.inputs[targets == 1]).mean(dim=(1, 2, 3)).min()) - 1e-4

    class Bright(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            bright = inputs.mean(dim=(1, 2, 3)) - threshold
            return torch.stack([-bright, bright], dim=1)

    labeled = Split(split.inputs, targets, ["dark", "bright"], "validation")
    found = other_normalization(given(Bright()), Normalization.none(3), labeled)
    assert found[0].evidence["better"] == "-1 to 1"
    assert found[0].evidence["mean"] == [0.5, 0.5, 0.5]


def test_a_teacher_with_its_own_normalization_is_left_alone(module: nn.Module) -> None:
    split = stripes(300)
    assert other_normalization(given(module), usual(3)["ImageNet's"], split, Normalization.measure(split)) == []


def test_a_guessing_teacher_has_no_better_normalization() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        split = stripes(200, seed)
        shuffled = Split(split.inputs, split.targets[torch.randperm(200)], split.classes, "validation")
        untrained = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
        assert other_normalization(given(untrained), usual(3)["CIFAR-10's"], shuffled) == []


def test_a_normalization_unlike_the_published_one_is_told() -> None:
    published = usual(3)["ImageNet's"]
    found = unlike_published(Normalization((0.3,) * 3, (0.2,) * 3), published, "student", "timm/resnet18")
    assert found[0].evidence["published"]["mean"] == [0.485, 0.456, 0.406]
    assert unlike_published(published, published, "student", "timm/resnet18") == []
    assert unlike_published(Normalization.none(3), None, "student", "limbeck/cnn5") == []


def test_the_usual_ones_have_the_channels_that_they_are_for() -> None:
    for channels in (1, 2, 3, 4):
        assert {len(one.mean) for one in usual(channels).values()} == {channels}


def test_few_samples_are_spread_over_the_split_and_labeled() -> None:
    targets = torch.arange(5000) % 3
    targets[::2] = -1
    probe = few(Split(torch.arange(5000.0)[:, None], targets, ["a", "b", "c"], "validation"))
    assert len(probe) == 1024
    assert bool((probe.targets >= 0).all())
    assert float(probe.inputs.max()) > 4000


# ---------------------------------------------------------------- starts


def test_a_student_that_starts_from_weights_for_this_task_is_told(module: nn.Module) -> None:
    split, imagenet = stripes(240), usual(3)["ImageNet's"]
    before = copy.deepcopy(module.state_dict())
    found = warm_start(module, lambda one: predict(one, imagenet, split), 3)
    assert [(one.code, one.severity) for one in found] == [("warm_start", "warning")]
    assert found[0].evidence["accuracy"] > 0.9
    assert max(found[0].evidence["fresh"]) < found[0].evidence["accuracy"] - 0.1
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_fresh_student_is_left_alone() -> None:
    split = stripes(240)
    for seed in range(20):
        torch.manual_seed(seed)
        fresh = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
        assert warm_start(fresh, lambda one: predict(one, None, split), 3) == []


def test_a_trained_backbone_under_a_new_head_is_left_alone(module: nn.Module) -> None:
    transferred = copy.deepcopy(module)
    torch.manual_seed(1)
    transferred[3].reset_parameters()  # type: ignore[index, operator]
    split = stripes(240)
    assert warm_start(transferred, lambda one: predict(one, usual(3)["ImageNet's"], split), 3) == []


def test_data_that_fresh_weights_tell_apart_by_luck_are_no_warm_start() -> None:
    """One number a sample, its sign the class: any positive weight is right for all."""
    inputs = torch.cat([torch.ones(50, 1), -torch.ones(50, 1)]) + torch.linspace(-0.5, 0.5, 100)[:, None]
    split = Split(inputs, [1] * 50 + [0] * 50, ["minus", "plus"], "validation")
    lucky = nn.Linear(1, 2)
    with torch.no_grad():
        lucky.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        lucky.bias.zero_()
    assert warm_start(lucky, lambda one: predict(one, None, split), 2) == []


# ---------------------------------------------------------------- sizes and classes


def test_sizes() -> None:
    large, small = {"parameters": 100, "macs": 1000}, {"parameters": 50, "macs": 400}
    assert not_smaller(small, large) == []
    assert [one.code for one in not_smaller(large, small)] == ["student_not_smaller"]
    assert [one.severity for one in not_smaller(large, large)] == ["warning"]
    slow = not_smaller({"parameters": 50, "macs": 2000}, large)
    assert [(one.code, one.severity) for one in slow] == [("student_not_faster", "info")]
    assert not_smaller(large, {}) == []
    assert not_smaller(large, {"parameters": None, "macs": None}) == []


def test_class_counts() -> None:
    assert class_count(10, 10, "teacher") == []
    found = class_count(1000, 10, "teacher")
    assert [(one.code, one.severity) for one in found] == [("class_count", "error")]
    assert found[0].evidence == {"logits": 1000, "classes": 10}
