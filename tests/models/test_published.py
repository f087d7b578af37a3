"""Published weights: nothing is fetched here; the libraries' own loading is given local weights, or no network."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import timm.models._builder
import torch
import torchvision.models
import torchvision.models._api
from torch import nn

from limbeck.data import Normalization
from limbeck.errors import ModelError
from limbeck.models import build, published_normalization

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What torchvision would have fetched for shufflenet_v2_x0_5: a thousand classes."""
    weights = state(torchvision.models.shufflenet_v2_x0_5())

    def fetched(url: str, *rest: Any, **options: Any) -> dict[str, torch.Tensor]:
        assert "shufflenetv2_x0.5" in url
        return weights

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fetched)
    return weights


def test_torchvisions_weights_are_taken_but_for_the_head(published: dict[str, torch.Tensor]) -> None:
    module = build("torchvision/shufflenet_v2_x0_5", input_shape=(3, 64, 64), classes=5, pretrained=True, seed=2)
    found = module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in published.items() if not key.startswith("fc."))
    assert found["fc.weight"].shape == (5, 1024)
    again = build("torchvision/shufflenet_v2_x0_5", input_shape=(3, 64, 64), classes=5, pretrained=True, seed=2)
    assert torch.equal(again.state_dict()["fc.weight"], found["fc.weight"])  # the new head depends on the seed only
    whole = build("torchvision/shufflenet_v2_x0_5", input_shape=(3, 64, 64), classes=1000, pretrained=True)
    assert torch.equal(whole.state_dict()["fc.weight"], published["fc.weight"])


def test_timms_weights_are_taken_but_for_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = state(timm.create_model("resnet10t", num_classes=1000))
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *a, **k: dict(weights))
    module = build("timm/resnet10t", input_shape=(3, 32, 32), classes=5, pretrained=True)
    found = module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items() if not key.startswith("fc."))
    assert found["fc.weight"].shape == (5, 512)
    gray = build("timm/resnet10t", input_shape=(1, 32, 32), classes=5, pretrained=True).state_dict()
    torch.testing.assert_close(gray["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("error", [URLError("Name or service not known"), RuntimeError('invalid hash value "0"')])
def test_no_network_is_a_named_error_with_a_cure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def offline(*rest: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", offline)
    for name in ("torchvision/resnet18", "timm/resnet10t"):
        with pytest.raises(ModelError, match=f"published weights of '{name}' can not be had.*") as caught:
            build(name, input_shape=(3, 32, 32), classes=5, pretrained=True)
        assert "weights: FILE" in (caught.value.cure or "")


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(ModelError, match=r"published weights of 'timm/resnet18\.none'"):
        build("timm/resnet18.none", input_shape=(3, 32, 32), classes=5, pretrained=True)


def test_gray_images_for_torchvision_are_refused_with_the_cure() -> None:
    with pytest.raises(ModelError, match="takes images of 3 channels") as caught:
        build("torchvision/resnet18", input_shape=(1, 28, 28), classes=10)
    assert "data.channels: 3" in (caught.value.cure or "")


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("torchvision/resnet18", 3, IMAGENET),
        ("torchvision/swin_t", 3, IMAGENET),
        ("timm/resnet18", 3, IMAGENET),
        ("timm/vit_tiny_patch16_224", 3, Normalization((0.5,) * 3, (0.5,) * 3)),
        ("timm/resnet10t", 1, Normalization((0.449,), (0.226,))),
        ("timm/resnet10t", 4, None),
        ("timm/resnet10x", 3, None),
        ("torchvision/resnet19", 3, None),
        ("limbeck/cnn5", 3, None),
        ("user/mine", 3, None),
    ],
)
def test_the_published_normalization(name: str, channels: int, expected: Normalization | None) -> None:
    found = published_normalization(name, channels)
    assert (found is None) == (expected is None)
    if found and expected:
        assert found.mean == pytest.approx(expected.mean)
        assert found.std == pytest.approx(expected.std)


def test_inception_which_changes_its_inputs_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(FutureWarning):
        weights = torchvision.models.googlenet().state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *a, **k: dict(weights))
    with pytest.raises(ModelError, match="googlenet with its published weights is not the architecture"):
        build(
            "torchvision/googlenet",
            input_shape=(3, 64, 64),
            classes=5,
            pretrained=True,
            options={"init_weights": False},
        )
