"""The CIFAR networks have the published sizes, counted a second time here, and are fit to be distilled.

The layers are listed below as the papers' tables have them and, for what the CIFAR-100 distillation literature does
otherwise, the published code of Contrastive Representation Distillation (arXiv:1910.10699; HobbitLong/RepDistiller,
``models/``). EXACT follows from those lists. PAPERS has what was printed for ten classes, to one decimal: Zagoruyko and
Komodakis, arXiv:1612.03928 and 1605.07146. He et al.'s table 6 (option A) is held in ``test_models.py``.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from limbeck.compress.export.onnx import export_onnx, run_onnx
from limbeck.data import Normalization, Split
from limbeck.data.preparation import Preparation
from limbeck.errors import ModelError
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models import build
from limbeck.models.heads import find_head
from limbeck.taps import Tap

EXACT = {  # 100 classes
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenet_v2": 812_836,
    "shufflenet_v2": 1_355_528,
}
PAPERS = {"wrn_16_1": 0.2, "wrn_16_2": 0.7, "wrn_40_1": 0.6, "wrn_40_2": 2.2}  # millions
FAMILIES = ("resnet8", "resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2", "shufflenet_v2")


class Conv(NamedTuple):
    kernel: int
    before: int
    after: int
    side: int  # of the map that it gives
    groups: int = 1
    bias: bool = False


Layers = tuple[list[Conv], list[int], int]  # convolutions, widths of batch norms, width of the pooled vector


def resnet(depth: int, stem: int, width: int) -> Layers:
    convolutions, before = [Conv(3, 3, stem, 32)], stem
    for stage in range(3):
        side, after = 32 >> stage, width << stage
        convolutions += [Conv(3, before, after, side), Conv(3, after, after, side)]
        convolutions += [Conv(1, before, after, side)] * (before != after)
        convolutions += [Conv(3, after, after, side)] * (2 * ((depth - 2) // 6 - 1))
        before = after
    return convolutions, [one.after for one in convolutions], before


def wide(depth: int, widen: int) -> Layers:
    convolutions, before = [Conv(3, 3, 16, 32)], 16
    norms = []
    for stage in range(3):
        side, after, n = 32 >> stage, 16 * widen << stage, (depth - 4) // 6
        convolutions += [Conv(3, before, after, side)] + [Conv(3, after, after, side)] * (2 * n - 1)
        convolutions += [Conv(1, before, after, side)] * (before != after)
        norms += [before] + [after] * (2 * n - 1)
        before = after
    return convolutions, [*norms, before], before


def vgg(count: int) -> Layers:
    convolutions, before = [], 3
    for after, side in ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4)):
        for _ in range(count):
            convolutions.append(Conv(3, before, after, side, bias=True))
            before = after
    return convolutions, [one.after for one in convolutions], before


def mobilenet() -> Layers:
    convolutions = [Conv(3, 3, 16, 16)]
    rows = [  # (before, after, blocks, side before, side after, expansion), halved widths
        (16, 8, 1, 16, 16, 1),
        (8, 12, 2, 16, 16, 6),
        (12, 16, 3, 16, 8, 6),
        (16, 32, 4, 8, 4, 6),
        (32, 48, 3, 4, 4, 6),
        (48, 80, 3, 4, 2, 6),
        (80, 160, 1, 2, 2, 6),
    ]
    for before, after, count, large, small, expansion in rows:
        for number in range(count):
            fed, came = (after, small) if number else (before, large)
            inner = fed * expansion
            convolutions += [
                Conv(1, fed, inner, came),
                Conv(3, inner, inner, small, inner),
                Conv(1, inner, after, small),
            ]
    convolutions.append(Conv(1, 160, 1280, 2))
    return convolutions, [one.after for one in convolutions], 1280


def shufflenet() -> Layers:
    convolutions = [Conv(1, 3, 24, 32)]
    for before, after, count, side in ((24, 116, 3, 16), (116, 232, 7, 8), (232, 464, 3, 4)):
        half = after // 2
        convolutions += [Conv(3, before, before, side, before), Conv(1, before, half, side)]
        convolutions += [Conv(1, before, half, 2 * side), Conv(3, half, half, side, half), Conv(1, half, half, side)]
        convolutions += [Conv(1, half, half, side), Conv(3, half, half, side, half), Conv(1, half, half, side)] * count
    convolutions.append(Conv(1, 464, 1024, 4))
    return convolutions, [one.after for one in convolutions], 1024


LAYERS: dict[str, Layers] = {
    **{f"resnet{depth}": resnet(depth, 16, 16) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": resnet(depth, 32, 64) for depth in (8, 32)},
    **{f"wrn_{depth}_{widen}": wide(depth, widen) for depth in (16, 40) for widen in (1, 2)},
    "vgg8": vgg(1),
    "vgg13": vgg(2),
    "mobilenet_v2": mobilenet(),
    "shufflenet_v2": shufflenet(),
}


def counted(layers: Layers, classes: int) -> int:
    convolutions, norms, pooled = layers
    weights = sum(c.kernel**2 * c.before // c.groups * c.after + c.bias * c.after for c in convolutions)
    return weights + 2 * sum(norms) + (pooled + 1) * classes


def model(name: str, side: int = 32, classes: int = 100) -> nn.Module:
    return build(f"limbeck/{name}", input_shape=(3, side, side), classes=classes)


@pytest.mark.parametrize("name", EXACT)
def test_parameters_as_published_and_as_counted(name: str) -> None:
    """EXACT is what the lists above give; the module must have as many, and round to what was printed."""
    assert counted(LAYERS[name], 100) == EXACT[name]
    assert parameters(model(name)) == EXACT[name]
    ten = parameters(model(name, classes=10))
    assert ten == counted(LAYERS[name], 10) == EXACT[name] - 90 * (LAYERS[name][2] + 1)
    assert name not in PAPERS or round(ten / 1e6, 1) == PAPERS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_by_hand(name: str) -> None:
    convolutions, _, pooled = LAYERS[name]
    by_hand = sum(c.kernel**2 * c.before // c.groups * c.after * c.side**2 for c in convolutions)
    assert macs(model(name), (3, 32, 32)) == by_hand + pooled * 100


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("resnet20", {"blocks.2": (16, 32), "blocks.5": (32, 16), "blocks.8": (64, 8)}),
        ("resnet8x4", {"stem": (32, 32), "blocks.0": (64, 32), "blocks.1": (128, 16), "blocks.2": (256, 8)}),
        ("wrn_16_2", {"stages.0": (32, 32), "stages.1": (64, 16), "stages.2": (128, 8), "last": (128, 8)}),
        ("vgg8", {f"stages.{n}": shape for n, shape in enumerate([(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)])}),
        ("mobilenet_v2", {"stages.1": (12, 16), "stages.2": (16, 8), "stages.4": (48, 4), "stages.6": (160, 2)}),
        ("shufflenet_v2", {"stem": (24, 32), "stages.0": (116, 16), "stages.1": (232, 8), "stages.2": (464, 4)}),
    ],
)
def test_stages_and_the_pooled_vector_can_be_read(name: str, sites: dict[str, tuple[int, int]]) -> None:
    """At the places that the docstrings name, with the shapes of the published networks' features."""
    module = model(name).eval()
    with Tap(module, [*sites, "classifier:input"]) as tap, torch.no_grad():
        module(torch.rand(2, 3, 32, 32))
    found = {address: tuple(feature.shape) for address, feature in tap.features.items()}
    pooled = (2, LAYERS[name][2])
    assert found == {**{key: (2, c, side, side) for key, (c, side) in sites.items()}, "classifier:input": pooled}
    assert find_head(module) == ("classifier",)
    assert not any(part.inplace for part in module.modules() if isinstance(part, nn.ReLU))


@pytest.mark.parametrize(
    ("name", "stage", "last"),
    [
        ("resnet8", "blocks.1", "blocks.1.last"),
        ("resnet8x4", "blocks.0", "blocks.0.last"),
        ("vgg13", "stages.2", "stages.2.5"),
    ],
)
def test_the_map_before_the_activation_is_the_input_of_the_last_relu(name: str, stage: str, last: str) -> None:
    module = model(name).eval()
    with Tap(module, [stage, f"{last}:input"]) as tap, torch.no_grad():
        module(torch.rand(1, 3, 32, 32))
    before = tap.features[f"{last}:input"]
    assert (before < 0).any()
    assert torch.equal(before.clamp(min=0), tap.features[stage])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    module = model(name, classes=10)
    names = list(module.state_dict())
    nn.functional.cross_entropy(module(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
    assert [key for key, value in module.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert list(copy.deepcopy(module).state_dict()) == names == list(model(name, classes=10).state_dict())


@pytest.mark.parametrize("name", FAMILIES)
def test_memory_formats_and_half_precision(name: str) -> None:
    module, images = model(name, classes=10).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        plain = module(images)
        with torch.autocast("cpu", torch.bfloat16):
            half = module(images)
        last = module.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1 * float(plain.abs().max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_smallest_images_and_other_channels(name: str) -> None:
    module = build(f"limbeck/{name}", input_shape=(1, 8, 9), classes=3)
    assert module(torch.rand(2, 1, 8, 9)).shape == (2, 3)
    with pytest.raises(ModelError, match="at least 8×8"):
        model(name, side=7)


@pytest.mark.parametrize("name", FAMILIES)
def test_convolutions_start_as_the_paper_says(name: str) -> None:
    """He et al., arXiv:1502.01852: the deviation √(2 / (k² · outputs)); biases zero."""
    for part in model(name).modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 10_000:
            expected = (2 / (part.kernel_size[0] ** 2 * part.out_channels)) ** 0.5
            assert float(part.weight.detach().std()) == pytest.approx(expected, rel=0.05)
            assert part.bias is None or not part.bias.any()


def test_shortcuts_of_option_b_are_convolutions_where_the_shape_changes_only() -> None:
    """With its second norm at zero a block is its shortcut."""
    module = model("resnet8x4").eval()
    x = torch.rand(2, 32, 6, 6)
    for block in module.blocks:
        nn.init.zeros_(block.layers[4].weight)
        expected: Tensor = nn.functional.conv2d(x, block.shortcut[0].weight, stride=block.stride) / (1 + 1e-5) ** 0.5
        x = block(x)
        torch.testing.assert_close(x, expected.clamp(min=0))
    assert x.shape == (2, 256, 2, 2)
    assert [block.shortcut is not None for block in model("resnet20").blocks] == [n in (3, 6) for n in range(9)]


def test_wide_blocks_activate_before_their_shortcut_only_where_the_width_changes() -> None:
    block, same = model("wrn_16_2").eval().stages[1]
    for one in (block, same):
        nn.init.zeros_(one.layers[3].weight)
    x = torch.randn(2, 32, 6, 6)
    active = (x / (1 + 1e-5) ** 0.5).clamp(min=0)
    torch.testing.assert_close(block(x), nn.functional.conv2d(active, block.shortcut.weight, stride=2))
    wide_x = torch.randn(2, 64, 3, 3)
    assert torch.equal(same(wide_x), wide_x)
    assert model("wrn_16_1").stages[0][0].shortcut is None  # 16 channels stay 16


def test_shuffled_channels_come_from_both_halves_in_turn() -> None:
    block = model("shufflenet_v2").eval().stages[0][1]
    x = torch.rand(1, 116, 4, 4)
    found = block(x)
    assert torch.equal(found[:, 0::2], x[:, :58])
    assert torch.equal(found[:, 1::2], block.layers(x[:, 58:]))


def test_mobile_blocks_add_their_input_where_the_shape_is_the_same() -> None:
    stages = model("mobilenet_v2").stages
    added = [[block.same for block in stage] for stage in stages]
    first = [False, False, False, False, False, False, False]
    assert [row[0] for row in added] == first
    assert all(all(row[1:]) for row in added)
    assert sum(map(len, added)) == 17  # table 2 of arXiv:1801.04381


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("resnet20", {"depth": 8}, "one form and takes no options, found depth.*use limbeck/resnet"),
        ("resnet", {"shortcut": "C"}, "expected 'A' or 'B'"),
        ("resnet", {"stem": 32}, 'set shortcut: "B"'),
        ("wide_resnet", {"depth": 20}, r"expected 6n \+ 4"),
        ("vgg", {"convolutions": [1, 1]}, "expected five numbers"),
        ("mobilenet_v2", {"width": 0}, "expected a factor"),
        ("shufflenet_v2", {"size": 3}, "expected one of 0.5, 1, 1.5"),
        ("resnet18", {}, "known: .*resnet32x4.*wrn_40_2"),
        ("wrn_16_3", {}, "did you mean 'wrn_16_"),
    ],
)
def test_what_is_not_there_is_answered(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){told}"):
        build(f"limbeck/{name}", input_shape=(3, 32, 32), classes=10, options=options)


def test_names_of_weights_are_kept() -> None:
    """Files that were written before the shortcuts could be chosen still fit ``limbeck/resnet``."""
    module = build("limbeck/resnet", input_shape=(3, 32, 32), classes=10, options={"depth": 8})
    block = [f"layers.{n}.{key}" for n in (0, 1, 3, 4) for key in ("weight", *NORM * (n in (1, 4)))]
    expected = ["stem.0.weight", "stem.1.weight", *(f"stem.1.{key}" for key in NORM)]
    expected += [f"blocks.{n}.{key}" for n in range(3) for key in block] + ["classifier.weight", "classifier.bias"]
    assert list(module.state_dict()) == expected


NORM = ("bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_exported_it_says_the_same(name: str, tmp_path: Path) -> None:
    module = model(name, classes=10)
    for _ in range(2):
        module(torch.rand(8, 3, 32, 32))  # statistics of its own for the norms
    images = torch.rand(3, 3, 32, 32)
    classes = [str(number) for number in range(10)]
    preparation = Preparation(Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    path = tmp_path / "model.onnx"
    export_onnx(module, path, preparation=preparation, shape=(3, 32, 32), classes=classes, name=name)
    with torch.no_grad():
        expected = module.eval()(preparation(images))
    found = run_onnx(path, Split(images, None, classes, "test"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
