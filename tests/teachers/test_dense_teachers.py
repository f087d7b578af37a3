"""Teachers of every kind for models that give a score for each pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.losses import TABLE
from limbeck.models import build
from limbeck.teachers import Ensemble, FunctionTeacher, ModuleTeacher, as_teacher
from limbeck.teachers.ema import EmaTeacher
from limbeck.teachers.modules import ReorderedModule

X = torch.randn(2, 3, 16, 17, generator=torch.Generator().manual_seed(0))


def unet(seed: int, classes: int = 4) -> nn.Module:
    return build("limbeck/unet", input_shape=(3, 16, 17), classes=classes, options={"width": 1}, seed=seed).train()


class Named(nn.Module):
    """Says what torchvision's segmentation models say: a mapping with ``out`` and ``aux``."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.inside(x)
        return {"out": logits, "aux": -logits}


def test_a_module_and_a_function_teach_pixels() -> None:
    module = unet(0)
    with torch.no_grad():
        expected = module(X)
    said = ModuleTeacher(Named(module), layers=["inside.down.4", "[aux]"])(X)
    assert torch.equal(said.logits, expected)
    assert said.features["inside.down.4"].shape == (2, 16, 1, 1)
    assert torch.equal(said.features["[aux]"], -expected)  # a term may read it
    assert torch.equal(FunctionTeacher(module)(X).logits, expected)
    assert not FunctionTeacher(module)(X).logits.requires_grad
    turned = as_teacher(ReorderedModule(module, (2, 0, 1, 3), 4))(X).logits
    assert torch.equal(turned, expected[:, [2, 0, 1, 3]])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_is_the_mean_of_softened_probabilities_at_every_pixel(temperature: float) -> None:
    """Against numpy, pixel by pixel; an ensemble among the members counts by its own members."""
    modules, weights = [unet(seed) for seed in (0, 1, 2)], (0.5, 0.3, 0.2)
    teacher = Ensemble([modules[0], Ensemble(modules[1:], weights[1:])], [0.5, 0.5])
    said = teacher(X)
    assert said.members is not None
    assert said.members.shape == (3, 2, 4, 16, 17)
    expected = np.zeros((2, 4, 16, 17))
    for module, weight in zip(modules, weights, strict=True):
        with torch.no_grad():
            z = module(X).double().numpy() / temperature
        e = np.exp(z - z.max(axis=1, keepdims=True))
        expected += weight * e / e.sum(axis=1, keepdims=True)
    found = torch.softmax(said.logits_at(temperature) / temperature, dim=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(said.logits, said.logits_at(1.0))


def test_members_of_other_sizes_or_classes_are_refused() -> None:
    coarse = nn.Sequential(unet(0), nn.AvgPool2d(2))
    with pytest.raises(ModelError, match=r"logits of different shapes: \(2, 4, 16, 17\), \(2, 4, 8, 8\)"):
        Ensemble([unet(0), coarse])(X)
    with pytest.raises(ModelError, match=r"different shapes: \(2, 4, 16, 17\), \(2, 3, 16, 17\)"):
        Ensemble([unet(0), unet(1, classes=3)])(X)


def test_a_moving_average_of_a_segmenter() -> None:
    student, teacher = unet(0), EmaTeacher(0.5)
    teacher.begin(student)
    first = [value.clone() for value in student.state_dict().values()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.follow(student)  # at the first step the mean of both
    mean = unet(0)
    mean.load_state_dict(dict(zip(mean.state_dict(), [value + 0.5 for value in first], strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(teacher(X).logits, mean.eval()(X))


def test_a_dense_loss_takes_an_ensembles_pixels() -> None:
    """Of equal members the ensemble is one of them, so its distance to that one is 0 at every temperature."""
    module = unet(3)
    said = Ensemble([module, module])(X)
    with torch.no_grad():
        logits = module(X)
    value = TABLE["pixel_kl"](logits, said.logits_at(3.0), temperature=3.0)
    torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-5, rtol=0)
