"""Segmentation models by name: torchvision's and segmentation_models_pytorch's. Nothing is fetched here."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm.models._builder
import torch
import torchvision.models._api
from safetensors.torch import save_file
from torch import nn

from limbeck.data import Data, Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import ModelError
from limbeck.evaluation.sizes import parameters
from limbeck.models import build, published_normalization
from limbeck.models.heads import find_head, replace_head
from limbeck.models.segmenters import torchvision_segmenters
from limbeck.outputs import Outputs
from limbeck.pipeline.experiment import Candidate
from limbeck.pipeline.fits import check_fits
from limbeck.recipe.values import model_name
from limbeck.teachers.digest import structure_digest, weights_digest

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL = {"encoder_name": "mobilenet_v2"}
LRASPP, DEEPLAB = "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"


def made(name: str, side: int = 32, classes: int = 5, pretrained: bool = False, **options: Any) -> nn.Module:
    return build(name, input_shape=(3, side, side), classes=classes, options=options, pretrained=pretrained, seed=2)


def drawn(module: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


# segmentation_models_pytorch


def test_every_architecture_of_the_library_has_its_name() -> None:
    """On the meta device: built and called, no number computed."""
    assert "unet" in smp.MODEL_ARCHITECTURES_MAPPING
    for name in smp.MODEL_ARCHITECTURES_MAPPING:
        options = {"encoder_name": "tu-vit_tiny_patch16_224", "img_size": 128} if name == "dpt" else SMALL
        with torch.device("meta"):
            module = made(f"smp/{name}", side=128, **options).eval()
            assert module(torch.zeros(1, 3, 128, 128)).shape == (1, 5, 128, 128), name
        assert model_name(f"smp/{name}") == f"smp/{name}"


def test_the_librarys_own_function_gives_the_same_model() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        theirs = smp.create_model("unet", **SMALL, encoder_weights=None, classes=5, decoder_channels=(32, 16, 8, 8, 4))
    own = made("smp/unet", **SMALL, decoder_channels=[32, 16, 8, 8, 4])
    assert theirs.state_dict().keys() == own.state_dict().keys()
    assert all(torch.equal(one, own.state_dict()[key]) for key, one in theirs.state_dict().items())
    assert find_head(own) == ("decoder", "segmentation_head")
    same = copy.deepcopy(own)
    assert (structure_digest(same), weights_digest(same)) == (structure_digest(own), weights_digest(own))


def test_pictures_of_any_number_of_channels() -> None:
    module = build("smp/unet", input_shape=(4, 33, 50), classes=2, options=SMALL).eval()
    assert module(torch.zeros(1, 4, 33, 50)).shape == (1, 2, 33, 50)  # the U-Net takes any size, too


@pytest.mark.parametrize(
    ("name", "options", "told", "cure"),
    [
        ("smp/unett", {}, "no model 'unett'; did you mean 'unet'?", "known: deeplabv3, deeplabv3plus"),
        ("smp/unet", {"encoder_name": "resnet19"}, "no encoder 'resnet19'; did you mean 'resnet1", "one of resnet18"),
        ("smp/unet", {"encoder_name": "tu-resnet19"}, "no encoder 'tu-resnet19': timm has no model", None),
        ("smp/unet", {"encoder_name": "tu-hf-hub:evil/model"}, "no encoder 'tu-hf-hub:evil/model'", None),
        ("smp/unet", {"encoder_name": "tu-resnet18.a/../b"}, "no encoder 'tu-resnet18.a/../b'", None),
        (
            "smp/unet",
            {"decoder_chanels": [8]},
            "no option 'decoder_chanels'; did you mean 'decoder_channels'",
            "known:",
        ),
        ("smp/unet", {"encoder_weights": "imagenet"}, "'encoder_weights' is no option, it is what pretrained", "leave"),
        ("smp/unet", {"activation": "softmax"}, "'activation' is no option.*need logits", "leave 'activation' out"),
        ("smp/unet", {"classes": 3}, "'classes' is no option, it is the data's", "leave 'classes' out"),
        ("smp/unet", {**SMALL, "encoder_depth": 3}, "smp/unet can not be built with these options: .*depth", None),
        ("smp/deeplabv3", {"encoder_name": "vgg11"}, "smp/deeplabv3 can not be built with these options", None),
        ("torchvision/fcn_resnet51", {}, "no model 'fcn_resnet51'; did you mean 'fcn_resnet50'", None),
        (f"torchvision/{DEEPLAB}", {"depth": 3}, "no option 'depth'", "it takes aux_loss"),
        (f"torchvision/{LRASPP}", {"aux_loss": True}, "no option 'aux_loss'", "it takes none"),
    ],
)
def test_what_there_is_not_is_answered(name: str, options: dict[str, Any], told: str, cure: str | None) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match=told) as caught:
        build(name, input_shape=(3, 32, 32), classes=5, options=options)
    assert cure is None or cure in (caught.value.cure or "")


def test_sides_that_a_model_does_not_take_are_told_with_the_cure() -> None:
    with torch.device("meta"):
        with pytest.raises(
            ModelError, match="smp/fpn takes heights and widths that are multiples of 32, found 100×"
        ) as e:
            made("smp/fpn", side=100, **SMALL)
        assert "set data.patch to a multiple of 32, such as 96 or 128" in (e.value.cure or "")
        with pytest.raises(ModelError, match="multiples of 32, found 20×70") as e:
            build("smp/linknet", input_shape=(3, 20, 70), classes=2, options=SMALL)
        assert "[32, 64] or [32, 96]" in (e.value.cure or "")
        made("smp/pspnet", side=40, **SMALL)  # three stages: 8


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ModelError, match="segmentation_models_pytorch is not installed") as caught:
        made("smp/unet")
    assert caught.value.cure == "pip install 'limbeck[smp]'"
    assert published_normalization("smp/unet") is None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, torch.Tensor]:
    """What the library would have fetched for its mobilenet_v2: weights of ImageNet, and how inputs are normalized."""
    weights = drawn(smp.encoders.get_encoder("mobilenet_v2"))
    save_file(weights, tmp_path / "model.safetensors")
    told = {"mean": IMAGENET.mean, "std": IMAGENET.std, "input_space": "RGB", "input_range": [0, 1]}
    (tmp_path / "config.json").write_text(json.dumps(told))

    def fetched(repo_id: str, filename: str, revision: str) -> str:
        assert repo_id == "smp-hub/mobilenet_v2.imagenet"
        return str(tmp_path / filename)

    monkeypatch.setattr(smp.encoders, "hf_hub_download", fetched)
    return weights


def test_the_encoder_begins_with_the_published_weights(hub: dict[str, torch.Tensor], tmp_path: Path) -> None:
    first, again = (made("smp/unet", pretrained=True, **SMALL).state_dict() for _ in range(2))
    assert all(torch.equal(first[f"encoder.{key}"], value) for key, value in hub.items())
    assert all(torch.equal(first[key], again[key]) for key in first)  # decoder and head come from the seed
    gray = build("smp/unet", input_shape=(1, 32, 32), classes=5, options=SMALL, pretrained=True).state_dict()
    summed = hub["features.0.0.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(gray["encoder.features.0.0.weight"], summed)
    found = published_normalization("smp/unet", 3, SMALL)
    assert found is not None
    assert found.mean == pytest.approx(IMAGENET.mean)
    (tmp_path / "config.json").write_text(
        json.dumps({"mean": [127.5] * 3, "std": [51.0] * 3, "input_space": "RGB", "input_range": [0, 255]})
    )
    assert published_normalization("smp/unet", 3, SMALL) == Normalization((0.5,) * 3, (0.2,) * 3)
    (tmp_path / "config.json").write_text(
        json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3, "input_space": "BGR", "input_range": [0, 1]})
    )
    with pytest.raises(ModelError, match="'mobilenet_v2' was trained on BGR"):
        published_normalization("smp/unet", 3, SMALL)


def test_an_encoder_of_timms_begins_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = drawn(timm.create_model("mobilenetv3_small_050", num_classes=1000))
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *a, **k: dict(weights))
    name = {"encoder_name": "tu-mobilenetv3_small_050"}
    found = made("smp/fpn", pretrained=True, **name).state_dict()
    assert torch.equal(found["encoder.model.conv_stem.weight"], weights["conv_stem.weight"])
    told = published_normalization("smp/fpn", 3, name)
    assert told is not None
    assert told.mean == pytest.approx(IMAGENET.mean)


def test_no_network_and_no_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*rest: Any, **options: Any) -> Any:
        raise OSError("Name or service not known")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", offline)
    for call in (
        lambda: made("smp/unet", pretrained=True, **SMALL),
        lambda: published_normalization("smp/unet", 3, SMALL),
    ):
        with pytest.raises(ModelError, match=r"weights of 'smp/unet, encoder mobilenet_v2' can not be had: Name") as e:
            call()
        assert "weights: FILE" in (e.value.cure or "")
    with pytest.raises(ModelError, match=r"'dpn92' of smp/unet has no weights of ImageNet, only imagenet\+5k"):
        made("smp/unet", pretrained=True, encoder_name="dpn92")
    assert published_normalization("smp/unet", 3, {"encoder_name": "dpn92"}) is None
    assert published_normalization("smp/unett") is None


# torchvision


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, *rest: Any, **options: Any) -> Any:
        raise AssertionError(f"fetches {url}")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refused)


def test_the_closed_list_has_torchvisions_six() -> None:
    assert torchvision_segmenters() == [
        "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50",
        "fcn_resnet101", "fcn_resnet50", "lraspp_mobilenet_v3_large",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", torchvision_segmenters())
def test_torchvisions_are_built_for_the_datas_classes_and_nothing_is_fetched(name: str) -> None:
    with torch.device("meta"):
        module = made(f"torchvision/{name}").eval()
        said = module(torch.zeros(2, 3, 33, 50))
    assert list(said) == ["out"]
    assert Outputs.of(said).logits is said["out"]
    assert said["out"].shape == (2, 5, 33, 50)
    twice = name == LRASPP
    expected = ("classifier.low_classifier", "classifier.high_classifier") if twice else ("classifier.4",)
    assert find_head(module) == expected
    with torch.device("meta"):
        assert replace_head(module, 7)(torch.zeros(1, 3, 32, 32))["out"].shape == (1, 7, 32, 32)


@pytest.mark.parametrize(("name", "published"), [("fcn_resnet50", 35_322_218), (LRASPP, 3_221_538)])
def test_torchvisions_have_their_documented_sizes(name: str, published: int) -> None:
    """With 21 classes; torchvision counts FCN with its auxiliary classifier."""
    with torch.device("meta"):
        options = {"aux_loss": True} if name == "fcn_resnet50" else {}
        assert parameters(made(f"torchvision/{name}", classes=21, **options)) == published


@pytest.mark.usefixtures("no_network")
def test_the_auxiliary_classifier_is_there_if_asked_for_and_is_no_logits() -> None:
    with torch.device("meta"):
        module = made("torchvision/fcn_resnet50", aux_loss=True).eval()
        said = module(torch.zeros(2, 3, 32, 32))
        assert list(said) == ["out", "aux"]
        assert Outputs.of(said).logits is said["out"]
        assert find_head(module) == ("classifier.4",)
        assert replace_head(module, 7)(torch.zeros(1, 3, 32, 32))["aux"].shape == (1, 7, 32, 32)


@pytest.mark.parametrize("asked", [{}, {"aux_loss": True}])
def test_published_weights_of_a_whole_segmenter_but_for_its_head(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, bool]
) -> None:
    from torchvision.models import get_model

    published = drawn(get_model(DEEPLAB, weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *a, **k: dict(published))
    module = made(f"torchvision/{DEEPLAB}", pretrained=True, **asked)
    found, plain = module.state_dict(), made(f"torchvision/{DEEPLAB}", **asked).state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in plain.items()}
    last = ("classifier.4.", "aux_classifier.4.")
    assert all(torch.equal(value, published[key]) for key, value in found.items() if not key.startswith(last))
    with torch.no_grad():
        said = module.eval()(torch.zeros(1, 3, 32, 32))
    assert list(said) == (["out", "aux"] if asked else ["out"])
    assert {value.shape for value in said.values()} == {(1, 5, 32, 32)}
    told = published_normalization(f"torchvision/{DEEPLAB}")
    assert told is not None
    assert told.mean == pytest.approx(IMAGENET.mean)


def test_gray_pictures_are_refused_with_the_cure() -> None:
    with pytest.raises(ModelError, match="takes images of 3 channels") as caught:
        build(f"torchvision/{LRASPP}", input_shape=(1, 32, 32), classes=2)
    assert "for masks smp/…" in (caught.value.cure or "")


# A model for another task


def candidate(name: str) -> Candidate:
    return Candidate(name, lambda seed: made(name, classes=2), Preparation(Normalization.none(3)))


def test_a_classifier_does_not_segment_and_a_segmenter_does_not_classify() -> None:
    pictures = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    masks = torch.arange(4 * 32 * 32).view(4, 32, 32).remainder(2).byte()
    dense = Data((pictures, masks), (pictures, masks), (pictures, masks), classes=["land", "water"])
    flat = Data(*[(pictures, [0, 1, 0, 1])] * 3, classes=["land", "water"])
    classifier, segmenter = candidate("torchvision/shufflenet_v2_x0_5"), candidate(f"torchvision/{LRASPP}")
    check_fits(classifier.make(0), classifier, flat)
    check_fits(segmenter.make(0), segmenter, dense)
    told = r"gives logits of shape \(2,\) for inputs of shape \(3, 32, 32\), expected \(2, 32, 32\)"
    with pytest.raises(ModelError, match=told) as caught:
        check_fits(classifier.make(0), classifier, dense)
    assert "for masks take a model of segmentation" in (caught.value.cure or "")
    told = r"gives logits of shape \(2, 32, 32\) for inputs of shape \(3, 32, 32\), expected \(2,\)"
    with pytest.raises(ModelError, match=told) as caught:
        check_fits(segmenter.make(0), segmenter, flat)
    assert "for samples with one label a classifier" in (caught.value.cure or "")
