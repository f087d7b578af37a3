"""Pairing: the stages that the papers compare, found in models that nobody has described to us."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.pairing import Pairing, layers, pair_layers, sites

Found = list[tuple[str, tuple[int, ...]]]

# model, options, side of the pictures; its stages and the input of its classifier, as its paper has them
MODELS: list[tuple[str, dict[str, Any], int, Found, tuple[str, int] | None]] = [
    (
        "limbeck/resnet",  # shortcuts without parameters; one Sequential of all blocks
        {"depth": 20},
        32,
        [("blocks.2", (16, 32, 32)), ("blocks.5", (32, 16, 16)), ("blocks", (64, 8, 8))],
        ("classifier:input", 64),
    ),
    (
        "limbeck/conv_mnist",  # convolutions without padding; Dropout on maps in the classifier
        {},
        28,
        [("features.4", (64, 23, 23)), ("features", (64, 11, 11))],
        ("classifier.5:input", 128),
    ),
    ("limbeck/mlp_784", {"hidden": [8, 7]}, 28, [], ("layers.5:input", 7)),
    (
        "torchvision/resnet50",  # a block keeps the size of the stage before in its first convolution
        {},
        64,
        [
            ("relu", (64, 32, 32)),
            ("layer1", (256, 16, 16)),
            ("layer2", (512, 8, 8)),
            ("layer3", (1024, 4, 4)),
            ("layer4", (2048, 2, 2)),
        ],
        ("fc:input", 2048),
    ),
    (
        "torchvision/mobilenet_v3_small",  # expansions at the size of the stage before; squeezes to one position
        {},
        64,
        [
            ("features.0", (16, 32, 32)),
            ("features.1", (16, 16, 16)),
            ("features.3", (24, 8, 8)),
            ("features.8", (48, 4, 4)),
            ("features", (576, 2, 2)),
        ],
        ("classifier.3:input", 1024),
    ),
    (
        "torchvision/convnext_tiny",  # a norm before the convolution that halves the size, in one Sequential
        {"stochastic_depth_prob": 0.0},
        32,
        [("features.1", (96, 8, 8)), ("features.3", (192, 4, 4)), ("features.5", (384, 2, 2))],
        ("classifier.2:input", 768),
    ),
    (
        "torchvision/vgg11",  # an adaptive pooling that makes maps larger
        {},
        32,
        [
            ("features.1", (64, 32, 32)),
            ("features.4", (128, 16, 16)),
            ("features.9", (256, 8, 8)),
            ("features.14", (512, 4, 4)),
            ("features.19", (512, 2, 2)),
        ],
        ("classifier.6:input", 4096),
    ),
    (
        "timm/vit_tiny_patch16_224",
        {"img_size": 64},
        64,
        [("blocks.3", (17, 192)), ("blocks.7", (17, 192)), ("blocks.11", (17, 192))],
        ("head:input", 192),
    ),
    (
        "timm/convnext_atto",
        {},
        64,
        [("stages.0", (40, 16, 16)), ("stages.1", (80, 8, 8)), ("stages.2", (160, 4, 4)), ("stages", (320, 2, 2))],
        ("head.fc:input", 320),
    ),
    (
        "timm/levit_128s",  # tokens that become fewer
        {},
        224,
        [("stages.0", (196, 128)), ("stages.1", (49, 256)), ("stages.2", (16, 384))],
        ("head:input", 384),
    ),
    (
        "timm/swin_tiny_patch4_window7_224",  # channels last, and windows stacked as samples are
        {"img_size": 56, "window_size": 7, "depths": [1, 1, 1, 1]},
        56,
        [],
        ("head.fc:input", 768),
    ),
    ("torchvision/squeezenet1_1", {}, 32, [("features.1", (64, 15, 15)), ("features.4", (128, 7, 7))], None),
]


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case[0])
def test_the_stages_and_the_vector_of_the_classifier(case: tuple[Any, ...]) -> None:
    name, options, side, stages, pooled = case
    channels = 1 if name == "limbeck/conv_mnist" else 3
    module = build(name, input_shape=(channels, side, side), classes=5, options=options)
    found = sites(module, torch.zeros(2, channels, side, side))
    if name == "torchvision/squeezenet1_1":
        assert [tuple(one) for one in found.stages[:2]] == stages
        assert found.pooled is None  # its head is a convolution on maps
        assert "is given no vector" in found.note
        return
    assert [tuple(one) for one in found.stages] == stages
    assert pooled is not None
    assert found.pooled == (pooled[0], (pooled[1],))
    assert ("no stages" in found.note) is (not stages)
    assert ("channels come last" in found.note) is ("swin" in name)


def net(*widths: int) -> nn.Sequential:
    """Convolutions that each halve the size, then the mean and a linear layer."""
    steps = [nn.Conv2d(a, b, 3, 2, 1) for a, b in zip((3, *widths), widths, strict=False)]
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))


def pairs_of(teacher: nn.Module, student: nn.Module, side: int = 32, theirs: int | None = None) -> Pairing:
    return pair_layers(
        teacher, student, torch.zeros(1, 3, side, side), torch.zeros(1, 3, theirs, theirs) if theirs else None
    )


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ((4, 5, 6), (4, 5, 6), [("0", "0"), ("1", "1"), ("2", "2")]),
        ((4, 5, 6, 7), (4, 5), [("2", "0"), ("3", "1")]),
        ((4, 5), (4, 5, 6, 7), [("0", "2"), ("1", "3")]),
        ((4,), (4, 5), [("0", "1")]),
    ],
)
def test_stages_are_matched_from_the_deep_end(
    teacher: tuple[int, ...], student: tuple[int, ...], expected: list[tuple[str, str]]
) -> None:
    found = pairs_of(net(*teacher), net(*student))
    assert list(found) == list(found.stages) == expected
    assert len(found) == len(expected)
    assert found.last == expected[-1]
    assert found.middle == expected[(len(expected) - 1) // 2]
    assert found.pooled == (f"{len(teacher) + 2}:input", f"{len(student) + 2}:input")


def test_sizes_count_relative_to_the_deepest_stage() -> None:
    skips = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 4, 1), nn.Flatten(), nn.Linear(5 * 64, 2))
    assert list(pairs_of(skips, net(4, 5, 6, 7), side=64)) == [("0", "1"), ("1", "3")]  # 32 of 8, and 16 of 4
    larger = pairs_of(net(4, 5, 6), net(4, 5, 6), side=32, theirs=96)
    assert list(larger) == [("0", "0"), ("1", "1"), ("2", "2")]
    assert larger.shapes == ({"0": (4, 48, 48), "1": (5, 24, 24), "2": (6, 12, 12), "5:input": (6,)},
                             {"0": (4, 16, 16), "1": (5, 8, 8), "2": (6, 4, 4), "5:input": (6,)})  # fmt: skip


def test_a_transformer_is_paired_with_a_convolutional_network_by_counting() -> None:
    vit = build("timm/vit_tiny_patch16_224", input_shape=(3, 64, 64), classes=4, options={"img_size": 64})
    found = pairs_of(vit, net(4, 5, 6, 7), side=64)
    assert list(found) == [("blocks.3", "1"), ("blocks.7", "2"), ("blocks.11", "3")]
    assert [row["adapter"] for row in found.rows()][:3] == ["tokens + resize + conv"] * 2 + ["tokens + conv"]
    assert found.rows()[0]["parameters"] == 5 * 192 + 2 * 192
    back = pairs_of(net(4, 5, 6, 7), vit, side=64)
    assert list(back) == [("1", "blocks.3"), ("2", "blocks.7"), ("3", "blocks.11")]
    reads = {"stage": ["tokens + resize + conv"] * 2 + ["tokens + conv"], "pooled": ["linear"]}
    assert [row["adapter"] for row in back.rows()] == reads["stage"] + reads["pooled"]


def test_the_table_says_what_fits_what() -> None:
    text = str(pairs_of(net(4, 6), net(4, 5)))
    assert text.splitlines()[1:] == [
        "stage, middle  0        4×16×16  0        4×16×16  none     0",
        "stage, last    1        6×8×8    1        5×8×8    conv     42",
        "pooled         4:input  6        4:input  5        linear   36",
    ]
    swin = MODELS[-2]
    last = build(swin[0], input_shape=(3, 56, 56), classes=4, options=swin[1])
    found = pairs_of(last, net(4, 5), side=56)
    assert (found.stages, found.middle, found.last) == ((), None, None)
    assert found.pooled == ("head.fc:input", "4:input")
    assert "teacher: maps whose channels come last are left out" in str(found)


def test_shapes_that_no_adapter_bridges_are_said_in_the_table() -> None:
    found = Pairing((("a", "b"),), None, ({"a": (8, 4, 4)}, {"b": (19, 12)}))
    assert found.rows()[0]["adapter"].startswith(
        "none fits: adapter 'auto' does not bridge the student's 19×12 (tokens)"
    )
    assert found.rows()[0]["parameters"] is None


def test_the_models_are_left_as_they_were() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 3, 8, 8))
    module[1].eval()
    before, modes = copy.deepcopy(module.state_dict()), [part.training for part in module.modules()]
    student = net(4, 5)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    str(pairs_of(module, student, side=8))
    assert torch.equal(torch.rand(1), expected)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    with pytest.raises(
        ModelError, match=r"the teacher: Sequential does not run on inputs of shape 3×9×9: RuntimeError"
    ):
        pairs_of(module, net(4, 5), side=8, theirs=9)
    with pytest.raises(
        ModelError, match=r"the student: Sequential does not run on inputs of shape 3×9×9: RuntimeError"
    ):
        pairs_of(net(4, 5), module, side=9, theirs=8)
    assert [part.training for part in module.modules()] == modes


def test_layers_are_listed_with_their_own_parameters() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(self.layer(x)) * self.scale, x

    assert [tuple(one) for one in layers(Twice(), torch.zeros(2, 3))] == [
        ("layer#0", "Linear", (3,), 12, 2),
        ("layer", "Linear", (3,), 12, 2),
        ("[0]", "Twice", (3,), 3, 2),
        ("[1]", "Twice", (3,), 3, 2),
    ]
