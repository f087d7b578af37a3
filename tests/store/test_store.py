"""A store as its user meets it: what it says, to whom it refuses to say it, and what it names when it does."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck.data import views as views_module
from limbeck.data.batch import Batch
from limbeck.data.data import Data
from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.views import Views
from limbeck.errors import FileError, ModelError, RecipeError, ResumeError
from limbeck.objective import Objective, supervised, term
from limbeck.store import Store
from limbeck.store.certificate import probe, spread
from limbeck.store.identity import identity, surroundings
from limbeck.store.layout import Layout
from limbeck.teachers import Keeps, Teacher, as_teacher
from limbeck.training.loop import Job, fit
from limbeck.training.progress import Silent
from limbeck.training.settings import Settings

INPUTS = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(200) % 3


def net(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).eval()


@pytest.fixture(scope="module")
def data() -> Data:
    return Data((INPUTS, TARGETS))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return net()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, data: Data, model: nn.Module) -> Store:
    path = tmp_path_factory.mktemp("kept") / "store"
    return Store.build(model, data, path, views=3, augmentation={"shift": 1, "mixup": 0.4}, seed=9, quiet=True,
                       device="cpu", precision="fp32")  # fmt: skip


def seer(data: Data, **changed: Any) -> Seer:
    known = {"views": Views(shift=1, mixup=0.4), "seed": 9, **changed}
    return Seer(data.train, Sampler(data.train.targets), known["views"], known["seed"])


def wanted(data: Data, model: nn.Module, **changed: Any) -> dict[str, Any]:
    see = seer(data, **changed)
    return identity(as_teacher(model, data.normalization), see, Replay(see.seed, 3), "fp32")


def batch(data: Data, samples: list[int], view: int) -> Batch:
    index = torch.tensor(samples)
    inputs, target, mixed = seer(data)(index, view)
    return Batch(index, inputs, target, mixed, view=torch.full_like(index, view))


def test_it_is_a_teacher_that_keeps(store: Store) -> None:
    assert isinstance(store, Teacher)
    assert isinstance(store, Keeps)
    assert limbeck.Store is Store
    assert store.replay == Replay(9, 3)


@pytest.mark.parametrize("view", [0, 1, 2])
def test_it_says_what_the_teacher_says_of_the_view_in_half_precision(
    store: Store, data: Data, model: nn.Module, view: int
) -> None:
    one = batch(data, [7, 0, 140, 7], view)
    live = model(data.normalization(one.inputs)).detach().numpy().astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(store.recall(one, one.inputs).logits.numpy(), live)
    address = view * len(data.train) + one.index
    np.testing.assert_array_equal(store(one.inputs, address).logits.numpy(), live)


def test_other_splits_are_kept_in_full_precision(store: Store, data: Data, model: nn.Module) -> None:
    with torch.no_grad():
        live = model(data.normalization(data.validation.fetch(torch.arange(len(data.validation)))[0]))
    said = store.says("validation", data.validation).logits
    np.testing.assert_allclose(said.numpy(), live.numpy(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ModelError, match="nothing of split 'vaildation'; did you mean 'validation'"):
        store.says("vaildation")
    with pytest.raises(ResumeError, match=r"said\.validation: kept [0-9a-f]{12}, now [0-9a-f]{12}"):
        store.says("validation", data.train)


def test_its_repr_says_what_it_is(store: Store) -> None:
    assert (
        repr(store)
        == f"Store('{store.folder}': 3 views of {store.manifest.samples} samples, 3 classes, 10 bytes a view)"
    )


def test_it_can_be_pickled_and_placed(store: Store, data: Data) -> None:
    one = batch(data, [3], 1)
    again = pickle.loads(pickle.dumps(store)).placed(lambda module: module)  # noqa: S301
    assert torch.equal(again.recall(one, one.inputs).logits, store.recall(one, one.inputs).logits)


def test_something_of_its_shape_before_any_view_is_asked_about(store: Store) -> None:
    assert store.like(torch.zeros(5, 1, 6, 6)).logits.shape == (5, 3)
    assert store.like(torch.zeros(1000, 1, 6, 6)).logits.shape == (1000, 3)


@pytest.mark.parametrize("address", [-1, 3 * 200, 10**12])
def test_addresses_outside_are_refused(store: Store, address: int) -> None:
    with pytest.raises(FileError, match="keeps records 0 to"):
        store(torch.zeros(1, 1, 6, 6), torch.tensor([address]))


def test_without_addresses_it_can_not_be_asked(store: Store) -> None:
    with pytest.raises(ModelError, match="views with addresses"):
        store(torch.zeros(1, 1, 6, 6))


# Another teacher, other data or views: refused before training, by field.


def test_the_same_is_accepted(store: Store, data: Data, model: nn.Module) -> None:
    store.check(wanted(data, model))


def test_what_differs_is_named(store: Store, data: Data, model: nn.Module) -> None:
    with pytest.raises(ResumeError, match=r"teacher\.weights: kept [0-9a-f]{12}, now [0-9a-f]{12}\n  cure: "):
        store.check(wanted(data, net(1)))
    with pytest.raises(ResumeError, match=r"else: views\.seed: kept 9, now 8; views\.shift: kept 1, now 2\n"):
        store.check(wanted(data, model, seed=8, views=Views(shift=2, mixup=0.4)))
    other = Data((INPUTS.flip(0), TARGETS))
    with pytest.raises(ResumeError, match=r"data\.contents: kept"):
        store.check(wanted(other, model))


@pytest.mark.parametrize(
    ("kept", "now", "told"),
    [
        (Layout(3), Layout(3), None),
        (Layout(100, top=10, temperatures=(1.0, 4.0)), Layout(100, top=10, temperatures=(4.0,)), None),
        (Layout(3, features={"a": 2, "b": 3}), Layout(3, features={"a": 2}), None),
        (Layout(100), Layout(100, top=10, temperatures=(4.0,)), r"record\.kind: kept dense, now top"),
        (
            Layout(100, top=10, temperatures=(4.0,)),
            Layout(100, top=5, temperatures=(4.0,)),
            r"record\.top: kept 10, now 5",
        ),
        (
            Layout(100, top=10, temperatures=(4.0,)),
            Layout(100, top=10, temperatures=(2.0, 4.0)),
            r"record\.temperatures: kept \[4\.0\], now \[2\.0, 4\.0\]",
        ),
        (Layout(3, features={"a": 2}), Layout(3, features={"b": 2}), r"record\.features\.b: kept none, now 2"),
        (Layout(3, features={"a": 2}), Layout(3, features={"a": 4}), r"record\.features\.a: kept 2, now 4"),
        (Layout(3), Layout(4), r"record\.classes: kept 3, now 4"),
    ],
)  # fmt: skip
def test_a_record_must_hold_what_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, kept: Layout, now: Layout, told: str | None
) -> None:
    from dataclasses import replace

    monkeypatch.setattr(store, "manifest", replace(store.manifest, layout=kept))
    if told is None:
        return store.check(store.manifest.identity, now)
    with pytest.raises(ResumeError, match=f"something else: {told}\n"):
        store.check(store.manifest.identity, now)
    return None


def test_another_torch_may_describe_its_modules_in_other_words(
    store: Store, data: Data, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    now = wanted(data, model)
    now["teacher"]["structure"] = "0" * 64
    with pytest.raises(ResumeError, match=r"teacher\.structure"):
        store.check(now)
    older = replace(store.manifest, built={**store.manifest.built, "torch": "2.1"})
    monkeypatch.setattr(store, "manifest", older)
    store.check(now)
    now["teacher"]["weights"] = "0" * 64
    with pytest.raises(ResumeError, match=r"else: teacher\.weights"):
        store.check(now)


def test_what_it_was_built_with_is_kept(store: Store) -> None:
    assert {**surroundings(), "when": None}.items() <= {**store.manifest.built, "when": None}.items()


def test_built_again_it_is_opened_and_another_is_refused(store: Store, data: Data, model: nn.Module) -> None:
    options: Any = {"views": 3, "augmentation": {"shift": 1, "mixup": 0.4}, "seed": 9, "quiet": True, "device": "cpu"}
    before = (store.folder / "manifest.json").read_bytes()
    again = Store.build(model, data, store.folder, precision="fp32", **options)
    assert (store.folder / "manifest.json").read_bytes() == before
    assert again.manifest == store.manifest
    with pytest.raises(ResumeError, match=r"views\.count: kept 3, now 4"):
        Store.build(model, data, store.folder, precision="fp32", **{**options, "views": 4})
    with pytest.raises(ResumeError, match=r"record\.features\.1:input: kept none, now 36"):
        Store.build(model, data, store.folder, precision="fp32", features="1:input", **options)


def test_a_function_without_a_digest_is_not_stored(tmp_path: Path, data: Data, model: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"it has no digest\n  cure: .*digest"):
        Store.build(lambda x: model(x), data, tmp_path / "s", quiet=True)
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_views_that_are_all_the_same_are_one(tmp_path: Path, data: Data, model: nn.Module) -> None:
    with pytest.raises(RecipeError, match="4 views of samples that are never changed are one"):
        Store.build(model, data, tmp_path / "s", views=4, quiet=True)


# A library that computes something else.


def darker(inputs: Tensor, *rest: Any) -> Tensor:
    """The last bit of every pixel of every picture."""
    return torch.nextafter(_shifted(inputs, *rest), torch.tensor(-1.0))


_shifted = views_module.views.shifted


def test_views_that_are_made_otherwise_are_refused_before_training(
    store: Store, data: Data, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(store, seer(data))
    monkeypatch.setattr(views_module.views, "shifted", darker)
    store.check(wanted(data, model))  # all that is declared is the same
    with pytest.raises(FileError, match=r"store: view 0 of sample \d+ has other pixels now .*\n  cure: "):
        probe(store, seer(data))


def test_versions_are_quoted_where_pixels_differ(store: Store, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(store, "manifest", replace(store.manifest, built={**store.manifest.built, "Pillow": "1.0"}))
    with pytest.raises(FileError, match=r"looked at\); built with Pillow 1\.0, this is "):
        probe(store, seer(data, seed=10))


def test_a_rare_view_that_is_made_otherwise_is_refused_in_its_batch(
    data: Data, model: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One bit of one pixel, in one view of one sample that no probe looks at."""
    options: Any = {"augmentation": {"shift": 1}, "seed": 9, "quiet": True, "device": "cpu", "precision": "fp32"}
    store = Store.build(model, data, tmp_path / "s", views=3, **options)
    samples = store.manifest.samples
    probed = set(spread(store.manifest.records, 64).tolist())
    rare = next(one for one in range(samples) if samples + one not in probed)
    real = Views.__call__

    def patched(self: Views, inputs: Tensor, *, seed: int, sample: Any, view: Any) -> Tensor:
        found = real(self, inputs, seed=seed, sample=sample, view=view)
        here = (np.asarray(sample) == rare) & (np.asarray(view) == 1)
        found[np.flatnonzero(here), 0, 2, 3] += 1e-6
        return found

    monkeypatch.setattr(Views, "__call__", patched)
    probe(store, seer(data, views=Views(shift=1)))
    lines: list[Any] = []

    class Recorder(Silent):
        def epoch(self, line: Any) -> None:
            lines.append(line)

    job = Job(
        module=net(3),
        objective=Objective([supervised(), term("kl")]),
        split=data.train,
        preparation=data.normalization,
        validate=lambda module: {"accuracy": 0.0},
        settings=Settings(epochs=3, batch_size=50, views=Views(shift=1), replay=store.replay, device="cpu", workers=0),
        folder=tmp_path / "run",
        teacher=store,
        reporter=Recorder(),
    )
    with pytest.raises(FileError, match=rf"view 1 of sample {rare} has other pixels now .*1 of \d+ views looked at"):
        fit(job)
    assert len(lines) == 1  # the first epoch shows view 0
