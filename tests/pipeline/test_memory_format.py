"""Modules that call ``view`` after a convolution, as many do, are trained and asked like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck


class Viewing(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, width, 3), nn.Linear(width * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().view(len(x), -1))


class Flattening(Viewing):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().flatten(1))


@pytest.mark.parametrize(
    ("teacher", "student", "views", "told"),
    [
        (Flattening, Viewing, {}, "Viewing calls view"),
        (Viewing, Flattening, {"shift": 1}, "Viewing calls view"),  # the teacher is asked in the student's training
        (Viewing, Flattening, {}, None),  # the teacher is asked once, beforehand
        (Flattening, Flattening, {"shift": 1}, None),
    ],
)
def test_a_module_that_calls_view_is_trained(
    tmp_path: Path, teacher: type[Viewing], student: type[Viewing], views: dict[str, Any], told: str | None
) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    result = limbeck.distill(
        teacher(8), student(4), (x, y), run=tmp_path / "r", epochs=1, views=views, export=(), quiet=True
    )
    notes = [one["message"] for one in result.summary["findings"] if one["code"] == "model_begins"]
    assert [told in note for note in notes] == ([True] if told else [])
