"""Outputs: reading what models return, and the mixture of an ensemble, by hand numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from limbeck.errors import ModelError
from limbeck.outputs import Outputs

Z = torch.tensor([[1.0, 2.0]])


@pytest.mark.parametrize("value", [Z, {"logits": Z, "loss": 0}, SimpleNamespace(logits=Z), Outputs(Z)])
def test_logits_are_found_in_what_models_return(value: object) -> None:
    assert Outputs.of(value).logits is Z


@pytest.mark.parametrize("value", [None, (Z, Z), {"out": Z}, {"logits": [1.0]}, SimpleNamespace(scores=Z), 3.0])
def test_what_holds_no_logits_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(ModelError, match=f"{type(value).__name__}.*no logits"):
        Outputs.of(value)


def test_outputs_keep_their_features() -> None:
    outputs = Outputs(Z, features={"layer": Z})
    assert Outputs.of(outputs) is outputs
    assert Outputs(Z).features == {}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_one_model_has_the_same_logits_at_any_temperature(temperature: float) -> None:
    assert Outputs(Z).logits_at(temperature) is Z


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_is_the_mean_of_the_softened_probabilities(temperature: float) -> None:
    """Members (6, 0) and (0, 2) with weights 3/4 and 1/4."""
    members = torch.tensor([[[6.0, 0.0]], [[0.0, 2.0]]])
    both = Outputs.ensemble(members, torch.tensor([0.75, 0.25]))
    p = 0.75 / (1 + math.exp(-6 / temperature)) + 0.25 / (1 + math.exp(2 / temperature))
    found = torch.softmax(both.logits_at(temperature) / temperature, dim=1)
    torch.testing.assert_close(found, torch.tensor([[p, 1 - p]]))
    of_mean_logits = 1 / (1 + math.exp(-(0.75 * 6 - 0.25 * 2) / temperature))
    assert abs(p - of_mean_logits) > 0.01  # so that the two can be told apart


def test_an_ensembles_logits_are_those_at_temperature_1() -> None:
    members = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 0.25, 0.25])
    both = Outputs.ensemble(members, weights)
    expected = (weights[:, None, None] * members.softmax(dim=2)).sum(dim=0)
    torch.testing.assert_close(both.logits.softmax(dim=1), expected)
    torch.testing.assert_close(both.logits, both.logits_at(1.0))


def test_an_ensemble_of_one_is_its_member_up_to_a_constant() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 7.0):
        found = Outputs.ensemble(z[None], torch.ones(1)).logits_at(temperature)
        torch.testing.assert_close(found - found[:, :1], z - z[:, :1], rtol=1e-4, atol=1e-5)


def test_members_of_maps_mix_pixel_by_pixel() -> None:
    members = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    both = Outputs.ensemble(members, torch.tensor([0.5, 0.5])).logits_at(2.0)
    one = Outputs.ensemble(members[..., 1, 0], torch.tensor([0.5, 0.5])).logits_at(2.0)
    assert both.shape == (3, 4, 2, 2)
    torch.testing.assert_close(both[..., 1, 0], one)


def test_members_that_are_certain_mix_without_overflow() -> None:
    members = torch.tensor([[[400.0, -400.0]], [[-400.0, 400.0]]], dtype=torch.float16)
    found = Outputs.ensemble(members, torch.tensor([0.5, 0.5])).logits_at(1.0)
    torch.testing.assert_close(torch.softmax(found, dim=1), torch.tensor([[0.5, 0.5]]))
