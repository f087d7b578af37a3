"""Pooled features of a store: against means taken by hand, and students that learn from them as from the teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.batch import Batch
from limbeck.data.data import Data
from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.views import Views
from limbeck.errors import ModelError, NumericsError
from limbeck.objective import Objective, supervised, term
from limbeck.objective.binding import Scene, bind
from limbeck.store import Store
from limbeck.store.build import Plan
from limbeck.store.codec import encode
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.learning import LearningStore, features_of
from limbeck.teachers import Ensemble, Teacher, as_teacher, asked, reading
from limbeck.training.loop import Job, fit
from limbeck.training.precision import choose
from limbeck.training.settings import Optimizer, Settings

COUNT, VIEWS = 90, Views(shift=1)
GENERATOR = torch.Generator().manual_seed(0)
TARGETS = torch.arange(COUNT) % 3
INPUTS = 0.3 * torch.rand(COUNT, 1, 8, 8, generator=GENERATOR)
for label in range(3):  # a bright stripe for each class
    INPUTS[label == TARGETS, 0, 2 * label + 1] += 0.6


class Tokens(nn.Module):
    """Maps as a sequence: [B, D, H, W] to [B, N, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


def net(width: int, seed: int = 0) -> nn.Sequential:
    """Layer 1 gives maps, 2 tokens, 4 is the classifier, which is given a vector."""

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    torch.manual_seed(seed)
    conv = nn.Conv2d(1, width, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), Tokens(), Mean(), nn.Linear(width, 3)).eval()


@pytest.fixture(scope="module")
def data() -> Data:
    return Data((INPUTS, TARGETS))


@pytest.fixture(scope="module")
def model(data: Data) -> nn.Sequential:
    """A teacher that knows its task."""
    made = net(12).train()
    optimizer = torch.optim.Adam(made.parameters(), 0.02)
    inputs, target = data.train.fetch(torch.arange(len(data.train)))
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(data.normalization(inputs)), target).backward()
        optimizer.step()
    return made.eval()


OPTIONS: Any = {
    "augmentation": VIEWS, "views": 2, "seed": 4, "quiet": True, "device": "cpu", "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, data: Data, model: nn.Module) -> Store:
    path = tmp_path_factory.mktemp("kept") / "store"
    return Store.build(model, data, path, features=["1", "2", "4:input"], **OPTIONS)


def shown(data: Data, view: int = 1) -> tuple[Tensor, Tensor]:
    """A view of some samples, and their addresses in the store."""
    index = torch.tensor([3, 0, 11, 3])
    return Seer(data.train, Sampler(data.train.targets), VIEWS, 4)(index, view)[0], view * len(data.train) + index


def test_the_mean_over_all_places_in_half_precision(store: Store, data: Data, model: nn.Sequential) -> None:
    inputs, addresses = shown(data)
    said = store.reading(["1", "2", "4:input"])(inputs, addresses)
    with torch.no_grad():
        maps = model[1](model[0](data.normalization(inputs))).numpy().astype(np.float64)
    by_hand = maps.sum((2, 3)) / 64
    for name in ("1", "2", "4:input"):  # the mean of maps, of the same as tokens, and what the network takes itself
        kept = said.features[name].numpy()
        assert kept.shape == (4, 12)
        np.testing.assert_allclose(kept, by_hand, rtol=2**-11 + 1e-5, atol=1e-6)
        np.testing.assert_array_equal(kept, kept.astype(np.float16).astype(np.float32))


def test_the_layout_and_the_certificate_name_them(store: Store) -> None:
    assert dict(store.layout.features) == {"1": 12, "2": 12, "4:input": 12}
    assert store.layout.stride == 4 + 2 * 3 + 3 * 2 * 12
    errors = store.certificate["features"]
    assert list(errors) == ["1", "2", "4:input"]
    assert all(0 < one < 2**-10 for one in errors.values())


def test_layers_that_are_not_kept_are_refused_by_name(store: Store) -> None:
    with pytest.raises(ModelError, match=r"no features of layer '3'; of: 1, 2, 4:input\n  cure: build it with"):
        store.reading(["1", "3"])
    with pytest.raises(ModelError, match="did you mean '4:input'"):
        store.reading(["4:inptu"])


def test_a_store_that_keeps_more_layers_serves(store: Store, data: Data, model: nn.Module) -> None:
    again = Store.build(model, data, store.folder, features=["2"], **OPTIONS)
    assert list(again.layout.features) == ["1", "2", "4:input"]


def test_features_of_every_shape() -> None:
    said = as_teacher(net(5)).reading(["0", "2", "3"])(torch.zeros(2, 1, 8, 8))  # type: ignore[attr-defined]
    assert features_of(said, ["0", "2", "3"]) == {"0": 5, "2": 5, "3": 5}


def test_an_ensembles_members_by_number(tmp_path: Path, data: Data, model: nn.Sequential) -> None:
    both = Ensemble([model, net(5)])
    store = Store.build(both, data, tmp_path / "s", features=["2/4:input", "1/1"], **OPTIONS)
    assert dict(store.layout.features) == {"2/4:input": 5, "1/1": 12}


def test_features_too_large_for_half_precision_are_refused_by_layer() -> None:
    said = as_teacher(lambda x: x)(torch.zeros(1, 2))
    large = replace(said, features={"deep": torch.tensor([[1e6]])})
    with pytest.raises(NumericsError, match="layer 'deep'"):
        encode(Layout(2, features={"deep": 1}), large, torch.zeros(1, dtype=torch.int64))


# Students.


def bound(teacher: Teacher, terms: list[Any], student: nn.Module, data: Data) -> Objective:
    scene = Scene(student, data.normalization, teacher, data.train.fetch(torch.arange(8))[0], data.train.targets, 3)
    return bind(Objective([supervised(), term("kl"), *terms]), scene)


def trained(teacher: Teacher, terms: list[Any], data: Data, folder: Path, epochs: int = 6) -> list[dict[str, Any]]:
    """The journal of a training."""
    student = net(4, seed=8)
    objective = bound(teacher, terms, student, data)
    heard = reading(teacher, objective.layers("teacher"))
    settings = Settings(
        epochs=epochs, batch_size=30, optimizer=Optimizer("adam", lr=0.01), views=VIEWS, replay=Replay(4, 2),
        device="cpu", precision="fp32", fast=False, workers=0,
    )  # fmt: skip
    fit(Job(student, objective, data.train, data.normalization, lambda module: {"accuracy": 0.0}, settings, folder,
            teacher=heard))  # fmt: skip
    return [json.loads(one) for one in (folder / "metrics.jsonl").read_text().splitlines()]


AT = {"at": ("4:input", "4:input")}
TERMS = {
    "rkd_distance": [term("rkd_distance", **AT)],
    "pkt and cc": [term("pkt", **AT), term("cc", adapter="linear", **AT)],
    "crd": [term("crd", **AT)],
    "fitnet": [term("fitnet", **AT)],
}


@pytest.mark.parametrize("terms", TERMS)
def test_a_student_learns_from_a_store_as_from_the_live_teacher(
    store: Store, data: Data, model: nn.Module, tmp_path: Path, terms: str
) -> None:
    live = trained(as_teacher(model, data.normalization), TERMS[terms], data, tmp_path / "live")
    kept = trained(store, TERMS[terms], data, tmp_path / "kept")
    losses = [[one["train"]["loss"] for one in lines] for lines in (live, kept)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    assert losses[1] != losses[0]  # half precision
    assert losses[1][-1] < losses[1][0]
    for name in live[0]["train"]["terms"]:
        values = [[one["train"]["terms"][name] for one in lines] for lines in (live, kept)]
        np.testing.assert_allclose(values[1][0], values[0][0], rtol=1e-2)


@pytest.mark.parametrize("loss", ["rkd_distance", "rkd_angle", "pkt", "cc", "sp", "crd"])
def test_the_one_kept_layer_is_found_for_terms_between_pooled_features(
    tmp_path: Path, data: Data, model: nn.Module, loss: str
) -> None:
    store = Store.build(model, data, tmp_path / "s", features="4:input", **OPTIONS)
    assert store.pooled == "4:input"
    options: Any = {"adapter": "linear"} if loss == "cc" else {}
    one = bound(store, [term(loss, at="pooled", **options)], net(4, seed=8), data)
    assert one.layers("teacher") == ("4:input",)
    assert one.layers("student") == ("4:input",)


def test_the_layer_must_be_named_where_several_are_kept(store: Store, data: Data) -> None:
    assert store.pooled is None
    with pytest.raises(ModelError, match="term 'rkd_distance' reads 'pooled', which is not found"):
        bound(store, [term("rkd_distance", at="pooled")], net(4), data)


def test_a_store_that_learns_gives_what_it_keeps_from_the_first_batch(
    data: Data, model: nn.Module, store: Store, tmp_path: Path
) -> None:
    """Asked or read: the same bits; and those of the store that was built beforehand."""
    live = reading(as_teacher(model, data.normalization), ["1", "2", "4:input"])
    see = Seer(data.train, Sampler(data.train.targets), VIEWS, 4)
    plan = Plan(live, see, Replay(4, 2), store.layout, choose("cpu", "fp32", fast=False), {})
    learning = LearningStore(live, Filling(tmp_path / "s", plan.layout, len(data.train), 2, plan.identity))
    inputs, addresses = shown(data)
    index = addresses % len(data.train)
    one = Batch(index, inputs, data.train.targets[index], None, view=torch.ones_like(index))
    first, again = (asked(learning.reading(["4:input"]), one, inputs) for _ in range(2))
    built = store.recall(one, inputs)
    for name in ("1", "2", "4:input"):
        assert torch.equal(first.features[name], again.features[name])
        assert torch.equal(first.features[name], built.features[name])
    assert learning(inputs).features["1"].shape == (4, 12)  # pooled too, where nothing is kept
    with pytest.raises(ModelError, match="keeps no features of layer '0'"):
        learning.reading(["0"])
    learning.close()
    alone = LearningStore(live, Filling(tmp_path / "alone", Layout(3, features={"4:input": 12}), 9, 1))
    assert (learning.pooled, alone.pooled) == (None, "4:input")
    alone.close()
