"""Training on masks: a batch in pieces takes the batch's steps, in parts too, or is refused before the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.errors import RecipeError
from limbeck.objective import Objective, large
from limbeck.teachers import ModuleTeacher
from limbeck.training.loop import Job, fit
from limbeck.training.settings import Optimizer, Schedule, Settings

CLASSES = ["land", "water", "road"]
RECIPE: dict[str, Any] = {
    "supervised": {"weight": 0.5, "class_weights": [0.5, 1.0, 1.5]},
    "dice": 0.3,
    "focal": 0.2,
    "pixel_kl": {"weight": 1, "temperature": 2},
    "cwd": 0.5,
}


def split() -> SceneSplit:
    """Eight patches, of which one has no label, and others few."""
    random = torch.Generator().manual_seed(0)
    regions = []
    for number in range(8):
        mask = torch.randint(3, (8, 8), generator=random, dtype=torch.uint8)
        mask[torch.rand(8, 8, generator=random) < number / 7] = 255
        picture = torch.randint(256, (3, 8, 8), generator=random, dtype=torch.uint8)
        regions.append(Region.whole(Scene.of(f"p{number}", picture, mask, 3)))
    return SceneSplit(regions, CLASSES, "train", patch=(8, 8))


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


def trained(folder: Path, recipe: dict[str, Any], **changes: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Weights after two epochs, and the terms' means of the last one."""
    settings = Settings(
        **{"epochs": 2, "batch_size": 4, "optimizer": Optimizer("sgd", lr=0.1, weight_decay=0.0), "fast": False,
           "schedule": Schedule("constant"), "device": "cpu", "select": "loss", **changes}
    )  # fmt: skip
    told: list[dict[str, Any]] = []

    def validate(module: nn.Module) -> dict[str, float]:
        return {"loss": 1.0}

    job = Job(
        net(1), Objective.from_recipe(recipe), split(), lambda inputs: inputs, validate, settings, folder,
        teacher=ModuleTeacher(net(2)),
    )  # fmt: skip
    job.reporter.epoch = told.append  # type: ignore[method-assign,assignment]
    weights = fit(job).last
    return weights, list(told[-1]["train"]["terms"].values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[float]]:
    return trained(tmp_path_factory.mktemp("whole"), RECIPE)


@pytest.mark.parametrize(("pieces", "size"), [(2, 2**20), (1, 100), (2, 100)])
def test_pieces_and_parts_take_the_same_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[dict[str, Tensor], list[float]],
    pieces: int,
    size: int,
) -> None:
    monkeypatch.setattr(large, "LARGE", size)
    weights, terms = trained(tmp_path, RECIPE, accumulate=pieces)
    assert terms == pytest.approx(whole[1], rel=1e-4, abs=1e-6)
    for name, value in weights.items():
        assert not torch.equal(value, net(1).state_dict()[name])
        torch.testing.assert_close(value, whole[0][name], rtol=1e-5, atol=1e-6)


def test_dice_over_the_batch_in_pieces_is_refused_before_training(tmp_path: Path) -> None:
    recipe = {"supervised": 1, "dice_batch": 1}
    with pytest.raises(RecipeError, match="term 'dice_batch' adds up over the whole batch, which is computed in 2"):
        trained(tmp_path / "pieces", recipe, accumulate=2)
    assert not (tmp_path / "pieces").exists()
    _, terms = trained(tmp_path / "whole", recipe)
    assert all(0 < one < 3 for one in terms)
