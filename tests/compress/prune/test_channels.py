"""Channels are cut where they belong together: the cut model says what the whole one says without these channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.compress.prune.choice import choose
from limbeck.compress.prune.groups import Graph, Group
from limbeck.errors import ModelError
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models import build
from limbeck.models.structure import changed_sizes, resize, sizes_of

MODELS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "limbeck/cnn5": ((3, 16, 16), {"width": 8}),
    "limbeck/conv_mnist": ((1, 28, 28), {}),
    "limbeck/mlp_784": ((1, 8, 8), {}),
    "limbeck/resnet8": ((3, 16, 16), {}),
    "limbeck/mobilenet_v2": ((3, 32, 32), {}),
    "limbeck/unet": ((3, 32, 32), {"width": 4}),
}


def trained(name: str) -> tuple[nn.Module, Tensor]:
    """A model whose every number is its own, BatchNorm's averages too, and inputs."""
    shape, options = MODELS[name]
    module = build(name, input_shape=shape, classes=5, options=options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for one in (part.weight, part.bias, part.running_mean, part.running_var):
                    assert one is not None
                    one.copy_(torch.rand(one.shape, generator=generator) + 0.5)
    return module.eval(), torch.rand(2, *shape, generator=generator)


def out(sizes: dict[str, int]) -> int:
    return next(sizes[key] for key in ("out_channels", "out_features", "num_features", "num_channels") if key in sizes)


@pytest.mark.parametrize("name", MODELS)
def test_a_cut_channel_is_one_that_says_nothing(name: str) -> None:
    """By each group: the layers that lose an output are silenced there in the whole model, which then says the same."""
    module, inputs = trained(name)
    graph = Graph(module, inputs)
    groups, before = graph.groups(), sizes_of(module)
    assert groups
    for group in groups[:: max(len(groups) // 4, 1)]:
        channels = group.channels(range(0, len(group), 3)) if len(group) > 1 else []
        cut = graph.cut({group.name: channels})
        silenced = build(name, input_shape=MODELS[name][0], classes=5, options=MODELS[name][1])
        silenced.load_state_dict(module.state_dict())
        for layer, sizes in changed_sizes(cut, module).items():
            if out(sizes) < out(before[layer]):
                assert layer in group.layers
                part = silenced.get_submodule(layer)
                with torch.no_grad():
                    weight: Any = part.weight
                    (weight.transpose(0, 1) if getattr(part, "transposed", False) else weight)[channels] = 0
                    if isinstance(part.bias, Tensor):
                        part.bias[channels] = 0
        with torch.no_grad():
            assert torch.allclose(cut.eval()(inputs), silenced.eval()(inputs), rtol=1e-4, atol=1e-5), group.name


@pytest.mark.parametrize("name", MODELS)
def test_a_pruned_model_is_smaller_and_is_rebuilt_from_sizes_and_weights(name: str) -> None:
    module, inputs = trained(name)
    shape, options = MODELS[name]
    graph = Graph(module, inputs)
    whole = macs(module, shape)
    cut = graph.cut(choose(graph.groups(), 0.5, scope="uniform")).eval()
    assert macs(cut, shape) < 0.45 * whole
    assert parameters(cut) < 0.45 * parameters(module)
    assert sum(one.numel() for one in cut.state_dict().values()) < sum(
        one.numel() for one in module.state_dict().values()
    )
    base = build(name, input_shape=shape, classes=5, options=options, seed=9)
    again = resize(base, changed_sizes(cut, module)).eval()
    again.load_state_dict(cut.state_dict())
    with torch.no_grad():
        assert torch.equal(again(inputs), cut(inputs))
    assert parameters(module) == parameters(build(name, input_shape=shape, classes=5, options=options))  # as it was


def test_the_least_worth_is_what_numpy_says() -> None:
    """DepGraph's group L2: squares of all weights that a channel has in the group's layers, relative to their mean."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 2)
    )
    with torch.no_grad():
        net[1].weight.copy_(torch.rand(6))
    first, second = Graph(net.eval(), torch.rand(2, 3, 6, 6)).groups()
    assert (first.name, second.name) == ("0", "3")
    a, gamma, b, c = (
        one.detach().double().numpy() for one in (net[0].weight, net[1].weight, net[3].weight, net[5].weight)
    )
    worth = ((a**2).sum((1, 2, 3)) + gamma**2 + (b**2).sum((0, 2, 3))) / 3
    assert torch.allclose(first.scores.double(), torch.from_numpy(worth / worth.mean()), rtol=1e-5)
    worth = ((b**2).sum((1, 2, 3)) + (c**2).reshape(2, 4, 4).sum((0, 2))) / 2
    assert torch.allclose(second.scores.double(), torch.from_numpy(worth / worth.mean()), rtol=1e-5)


def test_scales_and_gradients_rank_by_themselves() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.5, -2.0, 0.1]))
    graph = Graph(net.eval(), torch.rand(2, 1, 2, 2))
    (group,) = graph.groups("bn_scale")
    assert group.scores.tolist() == pytest.approx([0.5, 2.0, 0.1])
    scores = {name: torch.zeros_like(one) for name, one in net.named_parameters()}
    scores["0.weight"][1], scores["1.bias"][0] = 3.0, 7.0  # biases do not count
    (group,) = graph.groups("taylor", scores)
    assert group.scores.tolist() == pytest.approx([0.0, 3.0, 0.0])


def test_what_gives_the_logits_is_kept_and_so_is_what_is_named() -> None:
    module, inputs = trained("limbeck/cnn5")
    graph = Graph(module, inputs)
    first = graph.groups()[0].name
    with torch.no_grad():
        assert graph.cut(choose(graph.groups(), 0.9)).eval()(inputs).shape == (2, 5)
    kept = [one.name for one in Graph(module, inputs, keep=[first]).groups()]
    assert first not in kept
    assert len(kept) == len(graph.groups()) - 1
    with pytest.raises(ModelError, match="no module 'stemm' to keep"):
        Graph(module, inputs, keep=["stemm"])


def test_grouped_convolutions_lose_the_same_channel_of_each_group() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
    )
    graph = Graph(net.eval(), torch.rand(2, 2, 2, 2))
    groups = {one.name: one for one in graph.groups()}
    assert {one.parts for one in groups.values()} == {2}
    cut = graph.cut({name: one.channels([1]) for name, one in groups.items()})
    assert cut[1].groups == 2
    assert (cut[1].in_channels, cut[1].out_channels) == (6, 6)


def test_a_layer_is_never_emptied() -> None:
    module, inputs = trained("limbeck/cnn5")
    graph = Graph(module, inputs)
    group = graph.groups()[0]
    with pytest.raises(ModelError, match=f"nothing of layer '{group.name}'"):
        graph.cut({group.name: group.channels(range(len(group)))})


def test_code_that_counts_channels_itself_is_named() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 1), nn.Linear(16, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(self.first(inputs).reshape(-1, 16))

    graph = Graph(Counting(), torch.rand(2, 1, 2, 2))
    with pytest.raises(ModelError, match=r"does not run with the channels that are left|gives"):
        graph.cut({"first": [0, 1]})


def test_a_model_without_a_graph_is_told_the_cure() -> None:
    class Numbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.from_numpy(self.last(inputs).detach().numpy())

    with pytest.raises(ModelError, match=r"can not be traced|no channels"):
        Graph(Numbers(), torch.rand(2, 4)).groups()


def test_importance_of_scales_needs_scales() -> None:
    module, inputs = trained("limbeck/mlp_784")
    with pytest.raises(ModelError, match="no BatchNorm"):
        Graph(module, inputs).groups("bn_scale")
    with pytest.raises(ModelError, match="needs the gradients' scores"):
        Graph(module, inputs).groups("taylor")


def test_groups_are_those_of_the_same_model_on_any_batch() -> None:
    module, inputs = trained("limbeck/resnet8")
    one, other = (Graph(module, given).groups() for given in (inputs, inputs[:1].repeat(3, 1, 1, 1)))
    assert [(a.name, a.layers, a.scores.tolist()) for a in one] == [
        (b.name, b.layers, b.scores.tolist()) for b in other
    ]
    assert isinstance(one[0], Group)
