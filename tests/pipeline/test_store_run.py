"""A run with a store of its teacher's outputs: learned, read or built; what it equals, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck.data.normalization import Normalization
from limbeck.data.replay import Replay
from limbeck.errors import LimbeckError, RecipeError, ResumeError
from limbeck.files import sha256
from limbeck.models import MLP
from limbeck.pipeline import conclude
from limbeck.pipeline.run import execute
from limbeck.recipe.recipe import Recipe
from limbeck.training import loop

CLASSES, EPOCHS = 3, 3


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures take longer than all else here."""
    monkeypatch.setattr(conclude, "write_report", lambda folder: None)


def samples(count: int = 120, seed: int = 0) -> tuple[Tensor, Tensor]:
    targets = torch.arange(count) % CLASSES
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (noise + 0.3 * targets[:, None, None, None]) / 2, targets


def net(hidden: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MLP((1, 8, 8), CLASSES, hidden=[hidden])


class Rounded(nn.Module):
    """A teacher whose logits are numbers of half precision: what a store of all logits keeps."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inside(inputs).half().float()  # type: ignore[no-any-return]


def run(folder: Path, teacher: Any = None, **options: Any) -> limbeck.Result:
    given: dict[str, Any] = {
        "epochs": EPOCHS, "views": {"shift": 1}, "batch_size": 32, "fast": False, "export": (), "quiet": True,
        "data": samples(),
    }  # fmt: skip
    given |= options
    return limbeck.distill(net(16) if teacher is None else teacher, net(4, 1), given.pop("data"), run=folder, **given)


def weights(folder: Path, role: str = "student") -> str:
    return sha256(folder / "models" / role / "seed0" / "last.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": 30},
        {"views": {"mixup": 0.4, "cutmix": 1.0, "flip": True}},
        {"sampling": "balanced"},
        {"hard_labels": True},
        {"objective": {"supervised": {"class_weights": "balanced"}, "jsd": 0.5}, "accumulate": 2},
    ],
    ids=lambda one: next(iter(one), "plain"),
)
def test_a_store_changes_nothing_but_the_rounding(tmp_path: Path, options: dict[str, Any]) -> None:
    """The same training with a live teacher that rounds, and the same views in the same order."""
    run(tmp_path / "live", Rounded(net(16)), replay=Replay(0, EPOCHS), **options)
    result = run(tmp_path / "kept", store="auto", **options)
    for role in result.summary["models"]:
        if role != "teacher":
            assert weights(tmp_path / "kept", role) == weights(tmp_path / "live", role), role
    assert result.summary["store"]["finished"] is ("sampling" not in options), "balanced: not every sample is drawn"
    assert result.summary["store"]["bytes_per_view"] == 4 + 2 * CLASSES


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, list[bytes]]]:
    """For each epoch of each training, the pixels of each sample's views."""
    found: list[dict[int, list[bytes]]] = []
    before = loop.batches

    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        epoch: dict[int, list[bytes]] = {}
        found.append(epoch)
        for batch in before(*arguments, **options):
            for index, inputs in zip(batch.index.tolist(), batch.inputs, strict=True):
                epoch.setdefault(index, []).append(hashlib.sha256(inputs.numpy().tobytes()).digest())
            yield batch

    monkeypatch.setattr(loop, "batches", watched)
    return found


@pytest.mark.parametrize("store", ["auto", None])
def test_the_control_sees_the_same_views(tmp_path: Path, seen: list[Any], store: str | None) -> None:
    run(tmp_path, store=None if store is None else {"views": 2}, epochs=4, seeds=2)
    control, student, *others = (seen[at : at + 4] for at in range(0, 16, 4))
    assert control == student
    assert len(others) == 2
    if store is None:
        assert control[0] != control[2]
        assert others[0] != control, "another seed, other views"
        return
    assert control[0] == control[2] != control[1] == control[3]
    assert all(one[at] == control[at] for one in others for at in range(4)), "another seed sees the same two views"


def test_every_view_is_asked_for_once(tmp_path: Path) -> None:
    asked = []

    class Counting(Rounded):
        def forward(self, inputs: Tensor) -> Tensor:
            asked.append(len(inputs))
            return super().forward(inputs)

    teacher = Counting(net(16))
    first = run(tmp_path / "first", teacher, store={"path": tmp_path / "kept", "views": 2}, epochs=6, seeds=2).summary
    size = first["store"]["samples"]
    assert first["store"]["asked"]["samples"] == 2 * size
    assert (first["store"]["mode"], first["store"]["finished"], first["store"]["views"]) == ("auto", True, 2)
    again = run(tmp_path / "again", teacher, store=str(tmp_path / "kept"), epochs=6, seeds=2).summary["store"]
    assert (again["mode"], again["asked"]["samples"], again["views"]) == ("read", 0, 2), "the views are the store's"
    for key in ("identity", "certificate", "bytes"):
        assert again[key] == first["store"][key]
    for role in ("student", "control"):
        assert weights(tmp_path / "again", role) == weights(tmp_path / "first", role)
    alone = limbeck.Store.open(tmp_path / "kept")
    given = run(tmp_path / "alone", alone, epochs=6, seeds=2).summary
    assert weights(tmp_path / "alone") == weights(tmp_path / "first")
    assert given["store"]["mode"] == "read"
    assert given["models"]["teacher"]["parameters"] is None
    assert given["models"]["teacher"]["metrics"]["test"] == pytest.approx(first["models"]["teacher"]["metrics"]["test"])


def test_what_no_training_saw_is_asked_for_where_it_is_wanted_elsewhere(tmp_path: Path) -> None:
    left = run(tmp_path / "auto", store={"views": 4}).summary["store"]
    assert (left["finished"], left["known"], left["records"]) == (False, 3 * left["samples"], 4 * left["samples"])
    done = run(tmp_path / "path", store={"path": str(tmp_path / "kept"), "views": 4}).summary["store"]
    assert (done["finished"], done["known"]) == (True, 4 * done["samples"])
    assert limbeck.Store.open(tmp_path / "kept").replay == Replay(0, 4)
    assert weights(tmp_path / "auto") == weights(tmp_path / "path")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"teacher": net(16, 5)}, "teacher.weights"),
        ({"teacher": net(12)}, "teacher.weights"),
        ({"teacher_normalization": Normalization([0.3], [0.4])}, "teacher.inputs.normalization.mean"),
        ({"views": {"shift": 2}}, "views.shift: kept 1, now 2"),
        ({"views": {"shift": 1, "mixup": 0.2}}, "views.mixup: kept 0.0, now 0.2"),
        ({"store": {"views": 2}}, "views.count: kept 3, now 2"),
        ({"data": samples(seed=1)}, "data.contents"),
        ({"data": samples(count=150)}, "data.samples"),
        ({"store": {"top": 2}}, "record.top: kept 0, now 2"),
        ({"store": {"features": ["hidden"]}}, "record.features"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_something_else_is_refused_by_field(
    tmp_path: Path, options: dict[str, Any], field: str, finished: bool
) -> None:
    path = tmp_path / "kept"
    if finished:
        run(tmp_path / "first", store=path, control=False)
    else:  # two of three views are known
        run(tmp_path / "first", store={"views": EPOCHS}, epochs=2, control=False)
        (tmp_path / "first" / "store").rename(path)
    store = {"path": str(path), **options.get("store", {})}
    with pytest.raises(ResumeError) as caught:
        run(tmp_path / "other", **{**options, "store": store})
    assert field in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "other" / "models" / "student").exists(), "before any training"
    assert not (tmp_path / "other" / "models" / "control").exists()


def test_a_store_alone_is_refused_by_field_too(tmp_path: Path) -> None:
    run(tmp_path / "first", store=tmp_path / "kept", control=False)
    inputs, targets = samples()
    changed = inputs.clone()
    changed[7] += 0.1
    other = limbeck.Data(train=samples(), validation=samples(30, 4), test=samples(30, 5))
    for options, field in (
        ({"views": {"shift": 2}}, "views.shift: kept 1, now 2"),
        ({"data": (changed, targets)}, "data.contents"),
        ({"data": other}, "data.samples"),
    ):
        with pytest.raises(ResumeError, match=field):
            run(tmp_path / "other", tmp_path / "kept", **options)  # type: ignore[arg-type]
    for teacher, options in ((tmp_path / "kept", {"store": "auto"}), ([net(16), tmp_path / "kept"], {})):
        with pytest.raises(RecipeError, match="store"):
            run(tmp_path / "other", teacher, **options)
    assert not list((tmp_path / "other").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": {"kl": 1.0, "fitnet": 1.0}}, "term 'fitnet'"),
        ({"objective": {"kl": 1.0, "simkd": 1.0}}, "term 'simkd'"),
        ({"store": {"top": 2, "temperatures": [4]}, "objective": {"kl": {"temperature": 2}}}, "temperature 2"),
        ({"store": {"top": 2, "temperatures": [4]}, "objective": "auto"}, "temperature 1"),
        ({"store": {"top": 2}, "objective": {"dkd": 1.0}}, "all 3 classes"),
        ({"store": {"views": 2}, "views": {}}, "change nothing"),
        ({"labels": 30, "sampling": "balanced", "views": {"mixup": 0.2}}, "drawn by the labels"),
        ({"data": None}, "no view of them can be stored"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_a_store_can_not_serve_is_refused_before_training(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    if "data" in options:
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*samples()), batch_size=20)
        options = {"data": limbeck.Data(loader, validation=samples(30, 4), test=samples(30, 5)), "views": {}}
    with pytest.raises(LimbeckError) as caught:
        run(tmp_path / "run", **{"store": "auto", **options})
    assert said in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_largest_logits_of_many_classes_serve_a_search_at_all_its_temperatures(tmp_path: Path) -> None:
    result = run(tmp_path, store={"top": 2}, objective="auto", epochs=2, control=False)
    assert result.summary["store"]["layout"]["temperatures"] == [1.0, 2.0, 4.0, 8.0]
    assert result.summary["store"]["asked"]["samples"] == 2 * result.summary["store"]["samples"]


def test_several_teachers_and_what_stands_between_have_the_teachers_store(tmp_path: Path) -> None:
    both = run(tmp_path / "both", [net(16), net(12)], store="auto", control=False).summary["store"]
    assert both["layout"]["members"] == 2
    assert both["bytes_per_view"] == 4 + 2 * 2 * CLASSES
    models = [net(16), net(8), net(4)]
    options: dict[str, Any] = {"epochs": 2, "views": {"shift": 1}, "fast": False, "export": (), "quiet": True}
    chain = limbeck.chain(models, samples(), run=tmp_path / "chain", store={"views": 2}, **options).summary
    size = chain["store"]["samples"]
    assert chain["store"]["asked"]["samples"] == 2 * size, "by the assistant; the direct control reads"
    assert chain["mode"]["direct_epochs"] == 4


def test_a_stage_with_a_store_is_not_taken_for_one_without(tmp_path: Path) -> None:
    run(tmp_path / "online")
    run(tmp_path / "stored", store="auto")
    keys = {}
    for one in ("online", "stored"):
        for role in ("teacher", "control", "student"):
            keys[one, role] = json.loads((tmp_path / one / f"models/{role}/seed0/manifest.json").read_text())["key"]
    assert keys["online", "teacher"] == keys["stored", "teacher"]
    assert keys["online", "control"] != keys["stored", "control"]
    assert keys["online", "student"] != keys["stored", "student"]
    with pytest.raises(ResumeError):
        run(tmp_path / "online", store="auto")


SETTINGS = [
    "seeds=1", "teacher.epochs=2", "student.epochs=3", "student.views.shift=1", "threads=1", "export=[]", "fast=false",
    "teacher.store.views=2", "checkpoint_seconds=0.02", "controls.hard_labels=false",
]  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [*arguments, *(part for one in SETTINGS for part in ("--set", one))]


def test_a_run_killed_while_it_learns_a_store_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    execute(Recipe.load("digits", SETTINGS), whole, quiet=True)
    limbeck_ = [sys.executable, "-m", "limbeck"]
    process = subprocess.Popen(
        [*limbeck_, *command("run", "digits", "-o", str(broken))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    student = broken / "models" / "student" / "seed0"
    while not (student / "checkpoint.safetensors").exists():  # in the first epoch, in which views are asked for
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (student / "manifest.json").exists()
    assert not (broken / "store" / "manifest.json").exists()
    execute(Recipe.load("digits", SETTINGS), broken, quiet=True)
    assert weights(broken) == weights(whole)
    kept = [json.loads((one / "store" / "manifest.json").read_text())["shards"] for one in (whole, broken)]
    assert kept[0] == kept[1]
    assert not list((broken / "store").glob("*.known"))


@pytest.mark.timeout(300)
def test_several_processes_build_the_store_and_train_from_it(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "limbeck"]
    run_it = [*start, *command("run", "digits", "-q", "-o", str(tmp_path / "run"))]
    done = subprocess.run(run_it, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["store"]
    assert (found["mode"], found["finished"], found["views"]) == ("built", True, 2)
    store = limbeck.Store.open(tmp_path / "run" / "store")
    assert store.certificate["agreement"] == 1.0
    assert store.manifest.records == found["records"] == 2 * found["samples"]


def test_terms_may_read_the_pooled_features_that_are_kept(tmp_path: Path) -> None:
    layer = "layers.3:input"  # of 16 numbers, which the classifier is given
    objective = {"kl": 0.9, "rkd_distance": 1.0}
    learned = run(tmp_path / "a", store={"path": tmp_path / "kept", "features": [layer]}, objective=objective).summary
    assert learned["store"]["layout"]["features"] == [[layer, 16]]
    assert learned["store"]["bytes_per_view"] == 4 + 2 * (CLASSES + 16)
    run(tmp_path / "b", tmp_path / "kept", objective=objective)
    assert weights(tmp_path / "b") == weights(tmp_path / "a")
    with pytest.raises(LimbeckError, match="term 'rkd_distance'"):
        run(tmp_path / "c", store="auto", objective=objective)
