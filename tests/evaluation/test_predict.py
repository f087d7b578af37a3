"""Predictions do not depend on how images lie in memory, and no module is refused for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.data import Split
from limbeck.evaluation.predict import predict


class Viewing(nn.Module):
    """A common way to flatten, which tensors in channels-last memory refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.calls = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.conv(x)
        return self.fc(x.view(len(x), -1))


def test_a_module_that_calls_view_is_predicted_with() -> None:
    torch.manual_seed(0)
    module, split = Viewing().eval(), Split(torch.rand(10, 3, 8, 8), [0, 1] * 5, ["a", "b"], "test")
    found, _ = predict(module, None, split, batch_size=4)
    assert module.calls == 4  # one try, then the three batches
    with torch.no_grad():
        torch.testing.assert_close(found, module(split.inputs), atol=1e-6, rtol=1e-6)


def test_a_convolution_gives_the_same_in_either_memory_format() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2)).eval()
    split = Split(torch.rand(9, 3, 8, 8), [0, 1, 0] * 3, ["a", "b"], "test")
    with torch.no_grad():
        torch.testing.assert_close(predict(module, None, split)[0], module(split.inputs), atol=1e-6, rtol=1e-6)
