"""Explanation maps against closed forms and planted truth, and the model left as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.data import Normalization, Split
from limbeck.evaluation.explain import explain, last_map, picked, write_explanations
from limbeck.models.small import CNN5, MLP, ConvMNIST
from limbeck.tasks.classification import CLASSIFICATION


class Head(nn.Module):
    """A convolution, the mean over positions, a dense layer: Grad-CAM then is the class activation map."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(inplace)
        self.norm, self.drop = nn.BatchNorm2d(5), nn.Dropout(0.5)
        self.dense = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.drop(self.relu(self.norm(self.conv(x))).mean(dim=(2, 3))))


@pytest.mark.parametrize("inplace", [False, True])
def test_grad_cam_is_the_class_activation_map_of_a_mean_pooled_net(inplace: bool) -> None:
    torch.manual_seed(0)
    net = Head(inplace).train()
    net.norm.running_mean.uniform_(-0.3, 0.3)
    x, chosen = torch.rand(4, 2, 6, 8), torch.tensor([0, 1, 2, 1])
    normalization = Normalization((0.4, 0.6), (0.5, 0.2))
    maps = explain(net, normalization, x, chosen)
    with torch.no_grad():
        net.eval()
        a = torch.relu(net.norm(net.conv(normalization(x))))
        by_hand = torch.relu(torch.einsum("bkhw,bk->bhw", a, net.dense.weight[chosen]) / (6 * 8))
    assert (maps.method, maps.layer) == ("grad-cam", "relu")
    torch.testing.assert_close(maps.values, by_hand)
    assert float(maps.values.max()) > 0


def test_the_gradient_of_a_linear_model_is_its_weights() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 3, 4))
    chosen = torch.tensor([3, 0])
    maps = explain(net, Normalization((0.0, 0.0), (0.5, 0.5)), torch.rand(2, 2, 3, 3), chosen)
    assert (maps.method, maps.layer) == ("gradient", None)
    torch.testing.assert_close(maps.values, 2 * net[1].weight.detach()[chosen].reshape(2, 2, 3, 3).abs().amax(1))


@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("corner", [(0, 0), (0, 4), (4, 4)])
def test_the_map_peaks_at_the_planted_patch(kind: str, corner: tuple[int, int]) -> None:
    """Class 1 means: a bright 4×4 patch is somewhere (conv), or in this corner (MLP); all else is noise."""
    torch.manual_seed(1)
    row, column = corner[0] * 4, corner[1] * 4

    def draw(size: int) -> tuple[Tensor, Tensor]:
        images, labels = torch.rand(size, 1, 20, 20) * 0.3, torch.arange(size) % 2
        for image, label in zip(images, labels, strict=True):
            if label:
                places = (row, column) if kind == "mlp" else torch.randint(0, 5, (2,)).mul(4).tolist()
                image[0, places[0] : places[0] + 4, places[1] : places[1] + 4] = 1
        return images, labels

    conv = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    net = conv if kind == "conv" else nn.Sequential(nn.Flatten(), nn.Linear(400, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=1.0)  # unused weights fade
    for _ in range(60):
        images, labels = draw(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    image = torch.rand(1, 1, 20, 20) * 0.3
    image[0, 0, row : row + 4, column : column + 4] = 1
    assert int(net(image).argmax()) == 1
    heat = explain(net, None, image, torch.tensor([1])).values
    blocks = nn.functional.adaptive_avg_pool2d(heat[None], (5, 5))[0, 0]
    assert divmod(int(blocks.argmax()), 5) == corner
    assert float(blocks.max()) > 3 * float(blocks.mean())


def test_the_module_is_left_as_it_was() -> None:
    net = Head().train()
    net.drop.eval()
    net.dense.weight.requires_grad_(False)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    before = copy.deepcopy(net.state_dict())
    modes = [one.training for one in net.modules()]
    images = torch.rand(2, 2, 5, 5)
    kept = images.clone()
    with torch.no_grad():
        explain(net, None, images, torch.tensor([0, 1]))
        assert not torch.is_grad_enabled()
    assert modes == [one.training for one in net.modules()]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())
    assert [name for name, one in net.named_parameters() if not one.requires_grad] == ["dense.weight"]
    assert [name for name, one in net.named_parameters() if one.grad is not None] == ["conv.weight"]
    assert torch.equal(net.conv.weight.grad, torch.ones_like(net.conv.weight))
    assert torch.equal(images, kept)
    assert not images.requires_grad


def test_a_frozen_model_has_maps_too() -> None:
    free = Head().eval()
    frozen = copy.deepcopy(free).requires_grad_(False)
    x, chosen = torch.rand(2, 2, 5, 5), torch.tensor([0, 1])
    torch.testing.assert_close(explain(frozen, None, x, chosen).values, explain(free, None, x, chosen).values)


class Tokens(nn.Module):
    """Patches as tokens, as a transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix, self.dense = nn.Conv2d(3, 24, 4, 4), nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.mix(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class ChannelsLast(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.mix(self.patch(x).permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.mark.parametrize(
    ("module", "shape", "layer"),
    [
        (ConvMNIST(), (1, 28, 28), "classifier.0"),  # a dropout on the map
        (CNN5(width=4), (3, 32, 32), "features"),
        (MLP((3, 8, 8), 2, (4,)), (3, 8, 8), None),
        (Tokens(), (3, 32, 32), None),
        (ChannelsLast(), (3, 32, 32), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_last_map_is_found_and_tokens_are_none(
    module: nn.Module, shape: tuple[int, ...], layer: str | None
) -> None:
    assert last_map(module.eval(), torch.zeros(1, *shape)) == layer


@pytest.mark.parametrize(
    ("name", "side", "layer"),
    [
        ("resnet18", 128, "layer4"),
        ("resnet18", 64, "layer3"),  # layer4 has 2 × 2 positions
        ("resnet18", 32, "layer2"),
        ("mobilenet_v3_small", 128, "features"),
        ("convnext_tiny", 128, "features"),
    ],
)
def test_models_of_torchvision_have_a_map(name: str, side: int, layer: str) -> None:
    from torchvision import models

    module = models.get_model(name, weights=None, num_classes=2).eval()
    assert last_map(module, torch.zeros(1, 3, side, side)) == layer


def test_where_all_maps_are_small_the_last_one_is_taken() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(8, 2))
    assert last_map(net, torch.zeros(1, 1, 5, 5)) == "1"


def test_pictures_are_some_wrong_some_right_of_different_classes() -> None:
    targets = torch.arange(40) % 4
    right = nn.functional.one_hot(targets, 4).float() * 5
    student, control, teacher = right.clone(), right.clone(), right.clone()
    student[[3, 7, 9, 12]] = student[[3, 7, 9, 12]].roll(1, dims=1)
    control[[5, 6, 8]] = control[[5, 6, 8]].roll(1, dims=1)
    teacher[12] = teacher[12].roll(1)
    found = picked({"teacher": teacher, "control": control, "student": student}, targets)
    assert found == [3, 7, 9, 12, 5, 6, 0, 1]
    assert len({*picked({"teacher": right, "student": right}, targets)}) == 8


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "evaluation/explain").iterdir())}


def test_the_files_are_the_same_each_time_and_say_the_method(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = Split(torch.rand(12, 2, 8, 8), torch.arange(12) % 3, ["a", "b", "c"], "test")
    data = Split(data.inputs[:, :1], data.targets, data.classes, "test")
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)).eval()
    mlp = MLP((1, 8, 8), 3, (5,)).eval()
    with torch.no_grad():
        said = {"teacher": torch.randn(12, 3), "control": mlp(data.inputs), "student": net(data.inputs)}
    models = {"control": (mlp, None), "student": (net, None)}
    found = write_explanations(tmp_path / "a", data, data.classes, said, models)
    write_explanations(tmp_path / "b", data, data.classes, said, models)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert json.loads((tmp_path / "a/evaluation/explain.json").read_text()) == found
    methods = {role: one["method"] for role, one in found["methods"].items()}
    assert methods == {"teacher": None, "control": "gradient", "student": "grad-cam"}
    assert found["methods"]["student"]["layer"] == "1"
    assert "not a single torch module" in found["methods"]["teacher"]["why"]
    for item in found["items"]:
        at = item["index"]
        assert item["models"]["student"]["class"] == data.classes[int(said["student"][at].argmax())]
        assert item["models"]["teacher"]["file"] is None
        assert (tmp_path / "a" / item["models"]["control"]["file"]).is_file()


def test_a_module_that_keeps_gradients_out_is_told_and_nothing_fails(tmp_path: Path) -> None:
    class Closed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return x.flatten(1)[:, :2] * 2

    data = Split(torch.rand(6, 1, 8, 8), torch.arange(6) % 2, ["a", "b"], "test")
    said = {"teacher": torch.randn(6, 2), "student": torch.randn(6, 2)}
    found = write_explanations(tmp_path, data, data.classes, said, {"student": (Closed(), None)})
    assert found["methods"]["student"]["method"] is None
    assert "grad" in found["methods"]["student"]["why"]
    assert found["items"]


def test_a_map_that_is_zero_is_said_and_not_drawn(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[4].weight.fill_(-1)
    data = Split(torch.rand(6, 1, 8, 8), torch.arange(6) % 2, ["a", "b"], "test")
    with torch.no_grad():
        said = {role: net(data.inputs) for role in ("teacher", "student")}
    found = write_explanations(tmp_path, data, data.classes, said, {"student": (net, None)})
    assert {item["models"]["student"]["file"] for item in found["items"]} == {""}


def test_inputs_that_are_no_pictures_have_no_maps(tmp_path: Path) -> None:
    data = Split(torch.rand(6, 9), torch.arange(6) % 2, ["a", "b"], "test")
    said = {"teacher": torch.randn(6, 2), "student": torch.randn(6, 2)}
    assert write_explanations(tmp_path, data, data.classes, said, {})["items"] == []


def test_the_task_writes_galleries_and_maps(tmp_path: Path) -> None:
    data = Split(torch.rand(6, 1, 8, 8), torch.arange(6) % 2, ["a", "b"], "test")
    said = {"teacher": torch.randn(6, 2), "student": torch.randn(6, 2)}
    by_split, models = {role: {"test": one} for role, one in said.items()}, {"student": (MLP((1, 8, 8), 2, (4,)), None)}
    CLASSIFICATION.pictures(tmp_path, {"test": data}, data.classes, by_split, models)
    assert (tmp_path / "evaluation/gallery.json").is_file()
    assert json.loads((tmp_path / "evaluation/explain.json").read_text())["methods"]["student"]["method"] == "gradient"
