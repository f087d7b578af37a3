"""Taps: they read what the layers give, and leave nothing behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.taps import Tap, shapes


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4, 3))


def hooks(module: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())


def test_a_layer_gives_what_a_by_hand_pass_gives() -> None:
    module, x = net(), torch.randn(5, 1, 4, 4)
    with Tap(module, ["0", "1"]) as tap:
        logits = module(x)
    torch.testing.assert_close(tap.features["0"], module[0](x))
    torch.testing.assert_close(tap.features["1"], module[0](x).clamp(min=0))
    grad = torch.autograd.grad(logits.sum(), tap.features["1"])[0]  # the graph is kept
    torch.testing.assert_close(grad, module[3].weight.sum(0).reshape(1, 2, 2, 2).expand(5, -1, -1, -1))


def test_the_module_is_left_as_it_was() -> None:
    module = net().train()
    before = copy.deepcopy(module.state_dict())
    for crash in (False, True):
        try:
            with Tap(module, ["1"]):
                module(torch.randn(2, 1, 4, 4))
                assert hooks(module) == 2
                if crash:
                    raise KeyError
        except KeyError:
            pass
        assert hooks(module) == 0
    with pytest.raises(RuntimeError):
        shapes(module, torch.randn(2, 3, 4, 4))
    assert hooks(module) == 0
    assert all(one.training for one in module.modules())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    module(torch.randn(2, 1, 4, 4))


def test_a_layer_that_was_left_out_has_nothing_stale() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.skip = False

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) if self.skip else self.second(self.second(x))

    module = Sometimes()
    x = torch.randn(3, 2)
    with Tap(module, ["first", "second"]) as tap:
        out = module(x)
        assert torch.equal(tap.features["second"], out)  # of two calls the last
        module.skip = True
        module(x)
    assert set(tap.features) == {"first"}


def test_a_shared_layer_goes_by_either_name() -> None:
    module = nn.Module()
    module.add_module("a", nn.Linear(2, 2))
    module.add_module("b", module.a)
    with Tap(module, ["b"]) as tap:
        out = module.a(torch.ones(1, 2))
    assert torch.equal(tap.features["b"], out)


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no layer 'layer_4'; did you mean 'layer4'"):
        Tap(nn.ModuleDict({"layer4": nn.ReLU()}), ["layer_4"])


def test_a_layer_without_a_tensor_is_named() -> None:
    module = nn.LSTM(2, 2)
    with Tap(module, [""]), pytest.raises(ModelError, match="layer '' gives tuple"):
        module(torch.zeros(1, 1, 2))
    assert shapes(nn.Sequential(module), torch.zeros(1, 1, 2)) == []


def test_shapes_are_in_the_order_of_the_calls() -> None:
    found = shapes(net(), torch.zeros(2, 1, 4, 4))
    assert found == [("0", (2, 2, 2, 2)), ("1", (2, 2, 2, 2)), ("2", (2, 8)), ("3", (2, 3)), ("", (2, 3))]
