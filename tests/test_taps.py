"""Taps: they read what the layers give, and leave nothing behind."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.taps import Address, Tap, names, plain, shapes


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4, 3))


def read(module: nn.Module, x: Tensor, layers: Iterable[str], **options: Any) -> dict[str, Tensor]:
    with Tap(module, layers, **options) as tap:
        module(x)
    return tap.read()


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
    module = nn.LSTM(2, 3)
    with Tap(module, [""]) as tap:
        module(torch.zeros(4, 1, 2))
    with pytest.raises(ModelError, match=r"layer '' gives tuple, expected a tensor\n  cure: one of: \[0\], \[1\]\[0\]"):
        tap.read()
    found = [("[0]", (4, 1, 3)), ("[1][0]", (1, 1, 3)), ("[1][1]", (1, 1, 3))]
    assert shapes(module, torch.zeros(4, 1, 2)) == found


def test_shapes_are_in_the_order_of_the_calls() -> None:
    found = shapes(net(), torch.zeros(2, 1, 4, 4))
    assert found == [("0", (2, 2, 2, 2)), ("1", (2, 2, 2, 2)), ("2", (2, 8)), ("3", (2, 3)), ("", (2, 3))]


class Several(nn.Module):
    """One ReLU called twice, by two names; blocks that give a dict and an object; one that is called by keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.other = self.relu
        self.block, self.thing, self.scaled, self.unused = Gives(), Gives(), Scaled(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.relu(x) - 1)
        x = x + self.block({"hidden": x, "deep": [x + 1, (x + 2,)], 3: x + 3})["hidden"]
        x = self.thing(SimpleNamespace(hidden=x + 4, none=None)).hidden
        return self.scaled(factor=2.0, x=x)


class Gives(nn.Module):
    def forward(self, what: Any) -> Any:
        return what


class Scaled(nn.Module):
    def forward(self, x: Tensor, factor: float) -> Tensor:
        return x * factor


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("relu", [1.0, 0.0]),
        ("other", [1.0, 0.0]),
        ("relu#0", [2.0, 0.0]),
        ("other#1", [1.0, 0.0]),
        ("relu:input", [1.0, -1.0]),
        ("relu#0:input", [2.0, -3.0]),
        ("block[hidden]", [1.0, 0.0]),
        ("block:input[hidden]", [1.0, 0.0]),
        ("block[deep][0]", [2.0, 1.0]),
        ("block[deep][-1][0]", [3.0, 2.0]),
        ("block[3]", [4.0, 3.0]),
        ("thing[hidden]", [6.0, 4.0]),
        ("scaled:input", [6.0, 4.0]),
        ("scaled", [12.0, 8.0]),
        ("", [12.0, 8.0]),
        (":input", [2.0, -3.0]),
    ],
)
def test_an_address_gives_what_it_says(address: str, expected: list[float]) -> None:
    module = Several()
    with Tap(module, [address]) as tap:
        for _ in range(2):  # calls are counted from the start of a pass
            module(torch.tensor([[2.0, -3.0]]))
    assert {key: value.tolist() for key, value in tap.read().items()} == {address: [expected]}
    assert str(Address.parse(address)) == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "relu#2",
            r"layer 'relu' was called 2 times in the latest pass: there is no call #2\n  cure: write relu#0 … #1,",
        ),
        ("scaled#1", "layer 'scaled' was called once in the latest pass: there is no call #1"),
        ("unused", "layer 'unused' was not called in the latest pass"),
        ("unused:input#1", "'unused:input#1' is no address of a layer"),
        (
            "block",
            r"'block' gives dict, expected a tensor\n  cure: one of: block\[hidden\], block\[deep\]\[0\], ",
        ),
        ("block:input", r"layer 'block' is given dict, expected a tensor\n  cure: one of: block:input\[hidden\]"),
        ("block[hiden]", r"layer 'block' gives dict, which has no tensor \[hiden\]\n  cure: one of: block\[hidden\]"),
        ("block[deep][7]", r"gives dict, which has no tensor \[deep\]\[7\]"),
        ("thing[none]", r"gives SimpleNamespace, which has no tensor \[none\]\n  cure: one of: thing\[hidden\]"),
        ("scaled[0]", r"layer 'scaled' gives Tensor, which has no tensor \[0\]\n  cure: one of: scaled"),
        ("scled:input", r"the model has no layer 'scled' \(of 'scled:input'\); did you mean 'scaled'\?"),
    ],
)
def test_a_wrong_address_is_answered_with_what_there_is(address: str, message: str) -> None:
    module = Several()
    with pytest.raises(ModelError, match=message):
        read(module, torch.ones(1, 2), [address])
    assert hooks(module) == 0


def test_several_near_names_of_layers_that_exist() -> None:
    module = nn.ModuleDict({"stem": nn.ReLU(), "stage": nn.Sequential(nn.ReLU(), nn.ReLU()), "head": nn.ReLU()})
    with pytest.raises(ModelError, match=r"no layer 'stage.2'; did you mean 'stage.1', 'stage.0' or 'stage'\?"):
        Tap(module, ["stage.2"])
    with pytest.raises(ModelError, match=r"no layer 'module.head'; did you mean 'head'\?"):
        Tap(module, ["module.head"])
    with pytest.raises(ModelError, match=r"no layer 'zzz'\n"):
        Tap(module, ["zzz"])


def test_a_name_that_looks_like_an_address_is_a_name() -> None:
    module = nn.Sequential(nn.ReLU())
    module.add_module("a#0:input", nn.Identity())
    with Tap(module, ["a#0:input"]) as tap:
        module(torch.ones(1))
    assert tap.read()["a#0:input"].tolist() == [1.0]


def test_nested_taps_are_independent_and_a_tap_is_opened_once() -> None:
    module, x = net(), torch.randn(2, 1, 4, 4)
    with Tap(module, ["0"]) as outer:
        with Tap(module, ["0", "3"]) as inner:
            module(x)
            with pytest.raises(ModelError, match="open already"), inner:
                pass  # and it stays open
            module(2 * x)
        module(3 * x)
    assert hooks(module) == 0
    torch.testing.assert_close(inner.read()["0"], module[0](2 * x))
    torch.testing.assert_close(outer.read()["0"], module[0](3 * x))
    with inner:  # again, after it was closed
        module(x)
    torch.testing.assert_close(inner.read()["0"], module[0](x))


def test_hooks_that_were_set_before_a_failure_are_taken_off() -> None:
    class Refuses(nn.Linear):
        def register_forward_hook(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no hooks here")

    module = nn.Sequential(nn.Linear(2, 2), Refuses(2, 2))
    for use in (lambda: Tap(module, ["0", "1"]).__enter__(), lambda: shapes(module, torch.ones(1, 2))):
        with pytest.raises(RuntimeError, match="no hooks here"):
            use()
        assert hooks(module) == 0


def test_what_is_changed_in_place_afterwards_is_refused_or_copied() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, 2))
    module[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    layers, x = ["0", "1:input", "1"], torch.tensor([[1.0, 2.0]])
    with Tap(module, layers) as tap:
        module(x)
    assert tap.changed == ("0", "1:input")
    for layer in ("0", "1:input"):
        with pytest.raises(ModelError, match=f"'{layer}' in place after it was read"):
            read(module, x, [layer])
    found = read(module, x, layers, copy=("0", "1:input"))
    assert [found[layer].tolist() for layer in layers] == [[[1.0, -2.0]], [[1.0, -2.0]], [[1.0, 0.0]]]
    found["0"].sum().backward()  # a copy has a graph too
    assert module[0].weight.grad.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    with torch.inference_mode():
        assert read(module, x, ["1"])["1"].tolist() == [[1.0, 0.0]]


def test_shapes_give_every_tensor_by_its_address() -> None:
    module, x = Several(), torch.ones(1, 2)
    found = shapes(module, x)
    keys = ["relu#0", "relu", "block[hidden]", "block[deep][0]", "block[deep][1][0]", "block[3]", "thing[hidden]"]
    assert [name for name, _ in found] == [*keys, "scaled", ""]
    tapped = read(module, x, [name for name, _ in found])
    assert {name: tuple(value.shape) for name, value in tapped.items()} == dict(found)


class Compiled(nn.Module):
    """A layer before a change in place, one that is called twice, a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.pair = nn.Linear(3, 3), nn.Linear(3, 3), Gives()
        self.change = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.change(self.first(x))
        return self.pair((self.twice(self.twice(x)), x))[0]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_gives_the_same_in_one_graph_that_is_kept(backend: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    module, counter = Compiled(), CompileCounterWithBackend(backend)
    layers = ["first", "twice#0", "twice", "twice:input", "pair[1]"]
    x = torch.randn(2, 3)
    expected = read(module, x, layers, copy=["first"])
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    with Tap(compiled, layers) as tap:
        for step in range(3):
            compiled(x + step)  # a pass that nobody reads
            compiled(x)
            found = tap.read()
            for layer in layers:
                torch.testing.assert_close(found[layer], expected[layer])
            loss, truth = (sum(one.square().sum() for one in of.values()) for of in (found, expected))
            grads = torch.autograd.grad(loss, list(module.parameters()))
            torch.testing.assert_close(grads, torch.autograd.grad(truth, list(module.parameters()), retain_graph=True))
    assert counter.frame_count == 1
    assert hooks(module) == 0
    compiled(x)
    assert counter.frame_count == 2  # the tap was closed: once more, without what it added
    torch._dynamo.reset()


def test_a_tap_that_a_compiled_model_does_not_know_of_says_so() -> None:
    torch._dynamo.reset()
    compiled, x = torch.compile(Compiled(), backend="eager"), torch.ones(1, 3)
    compiled(x)  # with no hook: it does not look for any from here on
    with pytest.raises(ModelError, match="before a compiled model's first call"):
        read(compiled, x, ["change"])
    torch._dynamo.reset()


def test_names_are_those_of_the_model_before_it_was_compiled() -> None:
    torch._dynamo.reset()
    module = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="aot_eager"), nn.Linear(2, 1))
    assert list(names(module)) == ["", "0", "0.0", "1"]
    assert plain(torch.compile(module)) is module
    x = torch.ones(1, 2)
    with Tap(module, ["0", "0.0"]) as tap:
        module(x)
    for layer in ("0", "0.0"):
        torch.testing.assert_close(tap.read()[layer], plain(module[0])(x))
    torch._dynamo.reset()
