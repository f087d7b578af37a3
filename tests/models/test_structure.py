"""A pruned model is rebuilt from plain data and its weights; sizes that lie are refused by layer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.models.structure import changed_sizes, resize, sizes_of


def net(width: int = 8, groups: int = 1) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(4, width, 3, groups=groups),
        nn.BatchNorm2d(width),
        nn.GroupNorm(2, width),
        nn.PReLU(width),
        nn.ConvTranspose2d(width, width // 2, 2, bias=False),
        nn.Flatten(2),
        nn.LayerNorm(25),
        nn.Linear(25, 3),
    )


def test_sizes_weights_and_json_give_the_same_model() -> None:
    small = net(4).eval()
    told = json.loads(json.dumps(changed_sizes(small, net(8))))
    assert set(told) == {"0", "1", "2", "3", "4"}
    again = resize(net(8), told).eval()
    again.load_state_dict(small.state_dict())
    inputs = torch.rand(2, 4, 6, 6)
    assert torch.equal(again(inputs), small(inputs))
    assert repr(again) == repr(small)


@pytest.mark.parametrize(
    "name", ["limbeck/resnet20", "limbeck/mobilenet_v2", "torchvision/resnet18", "timm/convnext_atto"]
)
def test_a_whole_model_has_nothing_that_changed(name: str) -> None:
    one, other = (build(name, input_shape=(3, 32, 32), classes=5, seed=seed) for seed in (0, 1))
    assert changed_sizes(one, other) == {}
    assert sizes_of(one)


def test_what_sizes_would_not_rebuild_is_refused_by_name() -> None:
    class Scaled(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(width))
            self.last = nn.Linear(width, 2)

    with pytest.raises(ModelError, match="'scale' became \\[3\\] from \\[4\\]"):
        changed_sizes(Scaled(3), Scaled(4))
    with pytest.raises(ModelError, match="other modules"):
        changed_sizes(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU()))


CONV = {"in_channels": 4, "out_channels": 8, "groups": 1}


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"9": CONV}, "no layer '9'"),
        ({"5": {"in_channels": 1}}, "Flatten"),
        ({"0": {**CONV, "out_channels": 9}}, "of 1 to 8, found 9"),
        ({"0": {**CONV, "out_channels": 0}}, "found 0"),
        ({"0": {**CONV, "out_channels": -1}}, "found -1"),
        ({"0": {**CONV, "out_channels": True}}, "found True"),
        ({"0": {**CONV, "out_channels": 2.0}}, "found 2.0"),
        ({"0": {**CONV, "out_channels": "8"}}, "found '8'"),
        ({"0": {**CONV, "out_channels": 10**30}}, "found 1000"),
        ({"0": {"out_channels": 8}}, "expected in_channels, out_channels, groups"),
        ({"0": {**CONV, "forward": 1}}, "expected in_channels"),
        ({"0": [4, 8, 1]}, "expected in_channels"),
        ({"2": {"num_channels": 5, "num_groups": 2}}, "do not divide into 2 groups"),
    ],
)
def test_sizes_that_lie_are_refused_and_nothing_is_changed(sizes: dict[str, Any], words: str) -> None:
    whole = net()
    before = {name: one.clone() for name, one in whole.state_dict().items()}
    with pytest.raises(ModelError, match=words) as caught:
        resize(whole, {"1": {"num_features": 4}, **sizes}, where="model.json")
    assert str(caught.value).startswith("model.json: ")
    assert all(torch.equal(one, before[name]) for name, one in whole.state_dict().items())


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ModelError, match="do not divide into 2 groups"):
        resize(net(groups=2), {"0": {"in_channels": 3, "out_channels": 8, "groups": 2}})
