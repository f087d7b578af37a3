"""|gradient · weight| against the change of the loss, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.compress.prune.importance import taylor
from limbeck.errors import DataError, NumericsError


def net() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return [
        (torch.rand(5, 1, 3, 3, generator=generator), torch.randint(2, (5,), generator=generator)) for _ in range(count)
    ]


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def test_it_is_the_slope_towards_zero() -> None:
    """Of one batch: moving a weight by a small part of itself changes the loss by that part of its score."""
    module, batch = net().double(), [(one.double(), label) for one, label in batches(1)]
    scores, step = taylor(module, batch, loss), 1e-6
    module.train()
    for name, index in (("0.weight", (1, 0, 1, 0)), ("4.weight", (1, 7)), ("1.weight", (2,))):
        weight = module.get_parameter(name)
        with torch.no_grad():
            before = loss(module, batch[0])
            weight[index] *= 1 - step
            slope = float((loss(module, batch[0]) - before).abs()) / step
            weight[index] /= 1 - step
        assert float(scores[name][index]) == pytest.approx(slope, rel=1e-3)


def test_it_is_the_mean_over_batches_of_absolute_values() -> None:
    both = batches(2)
    one, other, all_ = (taylor(net(), given, loss) for given in (both[:1], both[1:], both))
    for name, value in all_.items():
        assert torch.allclose(value, (one[name] + other[name]) / 2)


def test_the_module_is_left_as_it_was() -> None:
    module = net().eval()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    taylor(module, batches(3), loss)
    assert not module.training
    assert all(one.grad is None for one in module.parameters())
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_what_can_not_be_judged_is_said() -> None:
    module = net()
    with pytest.raises(DataError, match="no batch"):
        taylor(module, [], loss)
    with pytest.raises(NumericsError, match=r"'0\.weight'"):
        taylor(module, batches(1), lambda net, batch: loss(net, batch) * float("nan"))
    assert all(one.grad is None for one in module.parameters())
