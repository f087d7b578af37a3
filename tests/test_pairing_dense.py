"""Pairing of models that give a score for each pixel: their encoders' stages, by stride, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.models.reuse import reuse_classifier
from limbeck.objective import Objective, term
from limbeck.objective.binding import Scene, bind, layers_read
from limbeck.pairing import Pairing, pair_layers, sites
from limbeck.taps import Tap
from limbeck.teachers import ModuleTeacher

Found = list[tuple[str, tuple[int, ...]]]
SIDE = 64

# model, options; its stages by name and shape for pictures of 64×64, and what its classifier is given
MODELS: list[tuple[str, dict[str, Any], Found, tuple[str, tuple[int, ...]]]] = [
    (
        "limbeck/unet",  # no part that is called encoder: the way down
        {"width": 4},
        [("down.0", (4, 64, 64)), ("down.1", (8, 32, 32)), ("down.2", (16, 16, 16)), ("down.3", (32, 8, 8)),
         ("down.4", (64, 4, 4))],
        ("classifier:input", (4, 64, 64)),
    ),
    (
        "smp/unet",  # an encoder that gives its maps as a list, the picture first
        {"encoder_name": "resnet18"},
        [("encoder[1]", (64, 32, 32)), ("encoder[2]", (64, 16, 16)), ("encoder[3]", (128, 8, 8)),
         ("encoder[4]", (256, 4, 4)), ("encoder[5]", (512, 2, 2))],
        ("segmentation_head:input", (16, 64, 64)),
    ),
    (
        "smp/fpn",
        {"encoder_name": "mobilenet_v2"},
        [("encoder[1]", (16, 32, 32)), ("encoder[2]", (24, 16, 16)), ("encoder[3]", (32, 8, 8)),
         ("encoder[4]", (96, 4, 4)), ("encoder[5]", (1280, 2, 2))],
        ("segmentation_head:input", (128, 16, 16)),
    ),
    (
        "smp/deeplabv3plus",  # dilated: the last two have one size, and the last of them counts
        {"encoder_name": "resnet18"},
        [("encoder[1]", (64, 32, 32)), ("encoder[2]", (64, 16, 16)), ("encoder[3]", (128, 8, 8)),
         ("encoder[5]", (512, 4, 4))],
        ("segmentation_head:input", (256, 16, 16)),
    ),
    (
        "smp/linknet",  # the first map has the size of the picture
        {"encoder_name": "vgg11"},
        [("encoder[0]", (64, 64, 64)), ("encoder[1]", (128, 32, 32)), ("encoder[2]", (256, 16, 16)),
         ("encoder[3]", (512, 8, 8)), ("encoder[4]", (512, 4, 4)), ("encoder[5]", (512, 2, 2))],
        ("segmentation_head:input", (32, 64, 64)),
    ),
    (
        "smp/upernet",  # an empty map in the place of stride 2
        {"encoder_name": "tu-convnext_atto"},
        [
            ("encoder[2]", (40, 16, 16)),
            ("encoder[3]", (80, 8, 8)),
            ("encoder[4]", (160, 4, 4)),
            ("encoder[5]", (320, 2, 2)),
        ],
        ("segmentation_head:input", (256, 16, 16)),
    ),
    (
        "smp/dpt",  # tokens of one size: every third of the blocks
        {"encoder_name": "tu-vit_tiny_patch16_224", "img_size": 64},
        [("encoder.model.blocks.3", (17, 192)), ("encoder.model.blocks.7", (17, 192)),
         ("encoder.model.blocks.11", (17, 192))],
        ("segmentation_head:input", (256, 32, 32)),
    ),
    (
        "torchvision/fcn_resnet50",  # a backbone that gives its last map alone, dilated from stride 8 on
        {},
        [("backbone.relu", (64, 32, 32)), ("backbone.layer1", (256, 16, 16)), ("backbone.layer4", (2048, 8, 8))],
        ("classifier.4:input", (512, 8, 8)),
    ),
    (
        "torchvision/deeplabv3_resnet50",
        {"aux_loss": True},
        [("backbone.relu", (64, 32, 32)), ("backbone.layer1", (256, 16, 16)), ("backbone.layer4", (2048, 8, 8))],
        ("classifier.4:input", (256, 8, 8)),
    ),
    (
        "torchvision/lraspp_mobilenet_v3_large",
        {},
        [("backbone.1", (16, 32, 32)), ("backbone.3", (24, 16, 16)), ("backbone.6", (40, 8, 8)),
         ("backbone.16", (960, 4, 4))],
        ("classifier.high_classifier:input", (128, 8, 8)),
    ),
]  # fmt: skip


def made(name: str, side: int = SIDE, **options: Any) -> nn.Module:
    return build(name, input_shape=(3, side, side), classes=5, options=options)


def pairs_of(one: nn.Module, other: nn.Module, side: int = SIDE, device: str = "meta") -> Pairing:
    return pair_layers(one, other, torch.zeros(1, 3, side, side, device=device))


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case[0])
def test_the_stages_are_the_encoders_and_there_is_no_vector(case: tuple[Any, ...]) -> None:
    name, options, stages, decoded = case
    with torch.device("meta"):
        found = sites(made(name, **options), torch.zeros(2, 3, SIDE, SIDE))
    assert [tuple(one) for one in found.stages] == stages
    assert found.pooled is None
    assert found.decoded == decoded
    assert found.dense
    assert "a score for each pixel" in found.note


def test_two_widths_of_the_u_net_are_paired_stage_by_stage() -> None:
    with torch.device("meta"):
        found = pairs_of(made("limbeck/unet", width=8), made("limbeck/unet", width=4))
    assert list(found) == [(f"down.{level}", f"down.{level}") for level in range(5)]
    assert found.middle == ("down.2", "down.2")
    assert found.last == ("down.4", "down.4")
    assert found.pooled is None
    assert found.decoded == ("classifier:input", "classifier:input")
    last = found.rows()[-1]
    assert (last["site"], last["adapter"], last["parameters"]) == ("decoded", "conv", 4 * 8 + 2 * 8)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (  # strides 2 to 32 and 1 to 16: of both 2 to 16
            ("smp/unet", {"encoder_name": "resnet18"}),
            ("limbeck/unet", {"width": 4}),
            [("encoder[1]", "down.1"), ("encoder[2]", "down.2"), ("encoder[3]", "down.3"), ("encoder[4]", "down.4")],
        ),
        (  # dilated: 2 to 8
            ("torchvision/fcn_resnet50", {}),
            ("limbeck/unet", {"width": 4}),
            [("backbone.relu", "down.1"), ("backbone.layer1", "down.2"), ("backbone.layer4", "down.3")],
        ),
        (
            ("smp/deeplabv3plus", {"encoder_name": "resnet18"}),
            ("smp/fpn", {"encoder_name": "mobilenet_v2"}),
            [("encoder[1]",) * 2, ("encoder[2]",) * 2, ("encoder[3]",) * 2, ("encoder[5]", "encoder[4]")],
        ),
        (  # no stride 2
            ("smp/upernet", {"encoder_name": "tu-convnext_atto"}),
            ("torchvision/lraspp_mobilenet_v3_large", {}),
            [("encoder[2]", "backbone.3"), ("encoder[3]", "backbone.6"), ("encoder[4]", "backbone.16")],
        ),
        (  # tokens of one size are counted from the deep end
            ("smp/dpt", {"encoder_name": "tu-vit_tiny_patch16_224", "img_size": 64}),
            ("limbeck/unet", {"width": 4}),
            [(f"encoder.model.blocks.{block}", f"down.{level}") for block, level in ((3, 2), (7, 3), (11, 4))],
        ),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_stages_of_one_stride_belong_together(
    teacher: tuple[str, dict[str, Any]], student: tuple[str, dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    with torch.device("meta"):
        one, other = made(teacher[0], **teacher[1]), made(student[0], **student[1])
        assert list(pairs_of(one, other)) == expected
        assert list(pairs_of(other, one)) == [(b, a) for a, b in expected]


def test_a_teacher_with_inputs_of_its_own_size_is_paired_by_stride_too() -> None:
    with torch.device("meta"):
        models = made("limbeck/unet", width=8), made("limbeck/unet", width=4)
        found = pair_layers(*models, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 96, 96))
    assert list(found) == [(f"down.{level}", f"down.{level}") for level in range(5)]


class Skips(nn.Module):
    """An encoder-decoder of a user's, whose parts go by other names; a squeeze to one position on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.squeeze, self.lateral = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 6, 1)
        self.up, self.score = nn.Upsample(scale_factor=2), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.a(x)
        deep = self.b(first)
        deep = deep * self.squeeze(deep)
        return {"out": self.up(self.score(self.up(deep) + self.lateral(first)))}


def test_a_users_own_encoder_decoder_and_a_model_of_one_size() -> None:
    found = sites(Skips(), torch.zeros(2, 3, 16, 16))
    assert [tuple(one) for one in found.stages] == [("a", (4, 8, 8)), ("b", (6, 4, 4))]
    assert found.decoded == ("score:input", (6, 8, 8))
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    found = sites(flat, torch.zeros(2, 3, 16, 16))
    assert [tuple(one) for one in found.stages] == [("1", (4, 16, 16))]  # not the logits
    assert found.decoded == ("2:input", (4, 16, 16))
    inside = sites(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()), torch.zeros(2, 3, 16, 16))
    assert not inside.dense  # maps of another size than the picture's are no scores of its pixels


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("limbeck/unet", {"width": 2}),
        ("smp/unet", {"encoder_name": "tu-mobilenetv3_small_050", "decoder_channels": [8, 8, 4, 4, 4]}),
        ("torchvision/lraspp_mobilenet_v3_large", {}),
    ],
)
def test_what_the_stages_give_is_not_changed_in_place_and_has_a_gradient(name: str, options: dict[str, Any]) -> None:
    module = made(name, 32, **options).train()
    inputs = torch.randn(2, 3, 32, 32)
    addresses = [one.address for one in sites(module, inputs).stages]
    with Tap(module, addresses) as tap:
        module(inputs)
    for value in tap.read().values():
        assert bool(torch.isfinite(torch.autograd.grad(value.square().sum(), module.parameters(), allow_unused=True,
                                                       retain_graph=True)[0]).all())  # fmt: skip


def scene(teacher: nn.Module, student: nn.Module, side: int = 32) -> Scene:
    inputs = torch.rand(4, 3, side, side)
    return Scene(student, lambda x: x, ModuleTeacher(teacher.eval()), inputs, torch.full((4,), -1), 5)


def read(name: str, **more: Any) -> list[tuple[str, str]]:
    bound = bind(
        Objective([term(name, **more)]), scene(made("limbeck/unet", 32, width=4), made("limbeck/unet", 32, width=2))
    )
    return [(theirs, own) for _, theirs, own, _ in layers_read(bound)]


def test_losses_find_the_encoders_stages_by_themselves() -> None:
    every = [(f"down.{level}", f"down.{level}") for level in range(5)]
    assert read("attention_transfer") == every
    assert read("review") == every
    assert read("fitnet") == [("down.2", "down.2")]
    assert read("pairwise") == [("down.4", "down.4")]


def test_a_pooled_vector_is_refused_with_the_cure_and_maps_do() -> None:
    with pytest.raises(ModelError, match="reads 'pooled', and models that give a score for each pixel pool no") as e:
        read("rkd_distance")
    assert "at: last_stage" in (e.value.cure or "")
    assert read("rkd_distance", at="last_stage") == [("down.4", "down.4")]


def test_a_classifier_of_pixels_is_not_reused() -> None:
    teacher, student = (made("limbeck/unet", 16, width=width) for width in (2, 1))
    inputs = torch.zeros(2, 3, 16, 16)
    with pytest.raises(ModelError, match=r"UNet gives scores of shape \(5, 16, 16\) for each sample; simkd") as caught:
        reuse_classifier(teacher, student, inputs, inputs, "down.4", "down.4")
    assert "for masks" in (caught.value.cure or "")
