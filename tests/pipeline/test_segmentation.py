"""Runs of segmentation: from Python, with what stands between teacher and student, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pipeline.scenery import COLORS, scenery, segmenting
from torch import Tensor, nn

import limbeck as lb
from limbeck.data.data import Data
from limbeck.data.sources.named import load
from limbeck.errors import RecipeError
from limbeck.evaluation.dense.reading import read_module
from limbeck.evaluation.dense.stitching import stitched
from limbeck.files import write_tensors
from limbeck.models.unet import UNet
from limbeck.pipeline.run import execute

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "export": (), "quiet": True, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = scenery(tmp_path_factory.mktemp("scenery"))
    return load("segmentation_folder", root=root, colors=COLORS, patch=16, validation=1, test=1)


def unet(width: int = 2, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet((3, 16, 16), 3, width=width)


def fresh() -> UNet:
    return UNet((3, 16, 16), 3, width=2)


def scored(result: Any, role: str) -> dict[str, Any]:
    return result.summary["models"][role]["metrics"]["test"]


def test_a_call_from_python_picks_the_task(data: Data, tmp_path: Path) -> None:
    teacher, before = unet(3), unet(3).state_dict()
    result = lb.distill(teacher, unet(), data, run=tmp_path / "run", **QUICK)
    assert result.summary["metric"] == "mean_iou"
    assert list(result.summary["models"]) == ["teacher", "control", "student"]
    assert all(bool((one == teacher.state_dict()[name]).all()) for name, one in before.items())
    said = read_module(result.student, lambda x: data.normalization(x), data.test)
    truth = torch.cat([region.read()[1].flatten() for region in data.test.regions])
    guess = torch.cat([one.flatten() for one in said.labels])
    ious = []  # of labels and truth, class by class
    for number in range(3):
        both, either = ((truth == number) & (guess == number)).sum(), ((truth == number) | (guess == number)).sum()
        ious += [float(both / either)] if bool((truth == number).any()) else []
    assert scored(result, "student")["mean_iou"] == pytest.approx(sum(ious) / len(ious))
    again = lb.distill(unet(3), unet(), data, run=tmp_path / "run", **QUICK)
    assert again.summary == result.summary


def test_the_metric_that_is_asked_for_chooses_the_epoch(data: Data, tmp_path: Path) -> None:
    result = lb.distill(unet(3), unet(), data, metric="mean_dice", control=False, run=tmp_path / "run", **QUICK)
    assert (result.summary["metric"], result.summary["recipe"]["settings"]["select"]) == ("mean_dice", "mean_dice")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"metric": "accuracy"}, "metric is 'accuracy', which is no metric of segmentation"),
        ({"select": "auc"}, "select is 'auc', which is no metric of segmentation"),
        ({"positive": "roof"}, "positive is 'roof', which is about one class"),
        ({"specificity": 0.9}, "specificity is 0.9, which is about one class"),
        ({"labels": 4}, "labels is 4, and the labels are of pixels"),
        ({"hard_labels": True}, "hard_labels: pixels without a label count for no term"),
        ({"store": "auto"}, "a store keeps one row of logits for a view, and a segmenter gives a map"),
        ({"sampling": "balanced"}, "sampling is balanced, and a patch has pixels of several classes"),
        ({"views": {"mixup": 0.2}}, "views.mixup is for pictures with one label"),
        ({"views": {"cutmix": 0.2}}, "views.cutmix is for pictures with one label"),
        ({"views": {"randaugment": {}}}, "views.randaugment is for pictures with one label"),
        ({"objective": {"simkd": 1}}, "simkd keeps the classifier of a mean over all places"),
    ],
)
def test_what_is_for_samples_is_refused_before_training(
    data: Data, tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        lb.distill(unet(3), unet(), data, run=tmp_path / "run", **{**QUICK, **given})
    assert says in caught.value.what
    assert caught.value.cure
    assert not (tmp_path / "run" / "models").exists()


def test_examine_looks_at_data_with_masks(data: Data) -> None:
    found = [one.code for one in lb.examine(unet(2), unet(3), data)]
    assert "student_not_smaller" in found
    assert "refused" not in found


def test_pictures_of_several_sizes_in_lists(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = [(20, 16), (16, 33), (24, 24), (40, 18), (16, 16), (19, 30)]
    masks = [torch.randint(0, 3, size, generator=draw) for size in sizes]
    pictures = [(80 * mask).byte().expand(3, *mask.shape).clone() for mask in masks]
    own = lb.Data((pictures, masks), classes=["land", "water", "roof"], validation=1, test=1, patch=16)
    result = lb.distill(unet(3), unet(), own, run=tmp_path / "run", **QUICK)
    assert result.summary["metric"] == "mean_iou"
    assert scored(result, "student")["pixels"] == sum(one.numel() for one in masks[: len(masks)]) - sum(
        region.size[0] * region.size[1] for split in (own.train, own.validation) for region in split.regions
    )


# ---------------------------------------------------------------- what stands between teacher and student


def test_a_chain_and_its_longer_control(data: Data, tmp_path: Path) -> None:
    result = lb.chain([unet(4), unet(3), unet(2)], data, run=tmp_path / "run", **QUICK)
    assert list(result.summary["models"]) == ["teacher", "assistant", "control", "control_direct", "student"]
    assert result.summary["mode"]["direct_epochs"] == 2
    assert 0 <= scored(result, "assistant")["agreement"] <= 1


def test_generations_and_the_mean_of_all_of_them(data: Data, tmp_path: Path) -> None:
    result = lb.born_again(unet(2), fresh, data, generations=2, run=tmp_path / "run", **QUICK)
    assert list(result.summary["models"]) == ["teacher", "generation1", "control", "student", "ensemble"]
    each = [result.model(role) for role in ("generation1", "student")]

    def mean(picture: Tensor) -> Tensor:
        probabilities = [stitched(lambda x, one=one: one(data.normalization(x)), picture, (16, 16)) for one in each]
        return torch.stack(probabilities).mean(0)

    with torch.no_grad():
        right = [(mean(one.read()[0]).argmax(0) == one.read()[1]).float() for one in data.test.regions]
    found = scored(result, "ensemble")["pixel_accuracy"]
    assert found == pytest.approx(float(torch.cat([one.flatten() for one in right]).mean()), abs=2e-3)


def test_a_student_and_its_own_average(data: Data, tmp_path: Path) -> None:
    result = lb.self_distill(unet(), data, decay=0.9, run=tmp_path / "run", **QUICK)
    assert list(result.summary["models"]) == ["control", "student"]
    assert result.summary["metric"] == "mean_iou"


def test_networks_that_teach_each_other(data: Data, tmp_path: Path) -> None:
    result = lb.mutual([fresh, fresh], data, run=tmp_path / "run", **QUICK)
    assert list(result.summary["models"]) == ["control", "control_peer2", "student", "peer2"]


@pytest.mark.parametrize("make", [lambda: [unet(4), unet(3)], lambda: lb.Ensemble([unet(4), unet(3)], weights=[3, 1])])
def test_several_teachers_are_one(data: Data, tmp_path: Path, make: Callable[[], Any]) -> None:
    result = lb.distill(make(), unet(), data, control=False, run=tmp_path / "run", **QUICK)
    assert "teacher" in result.summary["models"]


def test_the_objective_is_searched_pixel_by_pixel(data: Data, tmp_path: Path) -> None:
    result = lb.distill(unet(3), unet(), data, objective="auto", control=False, run=tmp_path / "run", **QUICK)
    found = result.summary["objective_search"]
    assert (found["metric"], len(found["points"])) == ("mean_iou", 8)
    best = max(found["points"], key=lambda one: (one["mean_iou"], -one["loss"]))
    assert found["chosen"] == {key: best[key] for key in ("temperature", "supervised")}


# ---------------------------------------------------------------- recipes


def test_a_recipe_with_assistants_and_generations(tmp_path: Path) -> None:
    root = scenery(tmp_path / "data")
    middle = {"model": "limbeck/unet", "options": {"width": 2}, "epochs": 1, "batch_size": 8}
    short = {"teacher.epochs": 1, "student.epochs": 1, "controls.control": False}
    chained = execute(segmenting(root, assistants=[middle], **short), tmp_path / "chain", quiet=True)
    assert "assistant" in chained.summary["models"]
    born = execute(segmenting(root, generations=2, **short), tmp_path / "born", quiet=True)
    assert "ensemble" in born.summary["models"]


def test_a_transfer_begins_with_a_new_head(data: Data, tmp_path: Path) -> None:
    """Weights of five classes: all is taken but the last layer, which is found."""
    torch.manual_seed(0)
    trained = UNet((3, 16, 16), 5, width=2)
    file = write_tensors(tmp_path / "five.safetensors", trained.state_dict())
    changes = {
        "teacher.epochs": 1,
        "student.epochs": 1,
        "student.weights": str(file),
        "student.transfer": {"freeze": 0},
    }
    result = execute(segmenting(scenery(tmp_path / "data"), **changes), tmp_path / "run", quiet=True)
    notes = [one["message"] for one in result.summary["findings"] if one["code"] == "model_begins"]
    assert any("the head 'classifier' of limbeck/unet starts anew" in one for one in notes)


class Viewing(nn.Module):
    """A segmenter that calls ``view`` on its maps, which channels-last memory refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        return self.last(maps.view(len(x), -1).view(maps.shape))


def test_a_segmenter_that_calls_view_is_asked_in_the_students_training(data: Data, tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = lb.distill(Viewing(), unet(), data, control=False, run=tmp_path / "run", **QUICK)
    notes = [one["message"] for one in result.summary["findings"] if one["code"] == "model_begins"]
    assert ["Viewing calls view" in note for note in notes] == [True]
