"""A store that is learned by the way: asked or read, whole or killed, a student ends in the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.store.building import Counting, Telling, net
from torch import Tensor, nn

from limbeck.data.batch import Batch
from limbeck.data.batches import batches
from limbeck.data.normalization import Normalization
from limbeck.data.replay import Replay, Seer, pixel_checksum
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import FileError, RecipeError
from limbeck.objective import Objective, supervised, term
from limbeck.outputs import Outputs
from limbeck.store import learning as module
from limbeck.store.build import Plan, fill, finish
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.learning import LearningStore
from limbeck.teachers import Ensemble, FunctionTeacher, ModuleTeacher, Teacher
from limbeck.training.distributed import World
from limbeck.training.loop import Job, fit
from limbeck.training.precision import choose
from limbeck.training.settings import Optimizer, Schedule, Settings

SAMPLES, VIEWS = 44, 2
PLAIN = Views(shift=1, flip=True)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "in pieces": {"accumulate": 3},
    "balanced": {"sampling": "balanced"},
    "balanced in pieces": {"sampling": "balanced", "accumulate": 2},
    "averaged": {"ema": 0.9},
    "mixed": {"views": Views(shift=1, mixup=0.4, cutmix=1.0)},
    "workers": {"workers": 1},
}


class Killed(Exception):
    """Nobody catches it: what was not flushed is lost, as with a killed process."""


class Counter(Telling):
    """Counts steps, and is killed after some of them."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        super().batch(epoch, done, samples, loss)
        if self.done == self.limit:
            raise Killed


def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (SAMPLES,), generator=generator)
    targets[:30] = 0  # so that a balanced epoch draws the others again and again
    return Split(torch.rand(SAMPLES, 1, 8, 8, generator=generator), targets, list("abc"), "train")


def student() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3)
    )


def train(
    folder: Path,
    teacher: Teacher,
    told: Telling | None = None,
    *,
    epochs: int = 2 * VIEWS + 1,
    seed: int = 3,
    **own: Any,
) -> dict[str, Tensor]:
    settings = Settings(**{
        "epochs": epochs, "batch_size": 8, "optimizer": Optimizer("adamw"), "schedule": Schedule("cosine"),
        "views": PLAIN, "replay": Replay(7, VIEWS), "fast": False, "device": "cpu", "checkpoint_seconds": 1e9, **own,
    })  # fmt: skip
    job = Job(
        module=student(),
        objective=Objective([supervised(0.3), term("kl", 0.7, temperature=3.0)]),
        split=split(),
        preparation=Normalization((0.5,), (0.3,)),
        validate=lambda one: {"accuracy": 0.5, "loss": 1.0},
        settings=settings,
        folder=folder,
        seed=seed,
        teacher=teacher,
        reporter=told or Telling(),
        key="learning",
    )
    return fit(job).last


def wanted(teacher: Teacher, **own: Any) -> Plan:
    views, sampling = own.get("views", PLAIN), own.get("sampling", "none")
    see = Seer(split(), Sampler(split().targets, sampling), views, 7)
    return Plan(teacher, see, Replay(7, VIEWS), Layout(3), choose("cpu", fast=False), {})


def filling(folder: Path, plan: Plan) -> Filling:
    return Filling(folder, plan.layout, SAMPLES, VIEWS, plan.identity)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", list(CASES))
def test_asked_or_read_or_killed_makes_no_difference(tmp_path: Path, case: str) -> None:
    own, teacher = CASES[case], Counting(ModuleTeacher(net()))
    plan = wanted(teacher, **own)

    learning = LearningStore(teacher, filling(tmp_path / "store", plan))
    expected = train(tmp_path / "asked", learning, **own)
    asked = sum(teacher.asked)
    known = SAMPLES * VIEWS - int(learning.filling.missing(np.arange(SAMPLES * VIEWS)).sum())
    if "sampling" not in own:
        assert asked == known == SAMPLES * VIEWS, "each view of each sample once"
        assert learning.known
    assert same(train(tmp_path / "again", learning, **own), expected), "read from what is being made"
    assert sum(teacher.asked) == asked

    if not learning.known:
        fill(plan, teacher, learning.filling, batch_size=8, workers=0, told=Telling())
    store = finish(plan, learning.filling, {})
    learning.close()
    asked = sum(teacher.asked)
    assert same(train(tmp_path / "read", store, **own), expected), "read from the finished store"
    assert sum(teacher.asked) == asked

    teacher.asked.clear()
    for limit, seconds in ((7, 0.0), (10, 1e9), (None, 1e9)):  # dies in step 7 and in 16, with a checkpoint of 6
        part = filling(tmp_path / "killed store", plan)
        learning, told = LearningStore(teacher, part), Counter(limit)
        if limit is None:
            assert same(train(tmp_path / "killed", learning, told, checkpoint_seconds=seconds, **own), expected)
        else:
            with pytest.raises(Killed):
                train(tmp_path / "killed", learning, told, checkpoint_seconds=seconds, **own)
        part.close()
    if "sampling" not in own:  # the first epoch is 6 steps; the second is asked about after each kill
        assert sum(teacher.asked) == SAMPLES + 8 + SAMPLES + SAMPLES


def test_two_students_and_a_control_see_the_same_views(tmp_path: Path) -> None:
    """So a second seed asks about nothing, though it draws another order."""
    teacher = Counting(ModuleTeacher(net()))
    learning = LearningStore(teacher, filling(tmp_path / "store", wanted(teacher)))
    one = train(tmp_path / "one", learning, seed=3)
    assert sum(teacher.asked) == SAMPLES * VIEWS
    other = train(tmp_path / "other", learning, seed=4)
    assert sum(teacher.asked) == SAMPLES * VIEWS
    assert not same(one, other)
    learning.close()


def test_the_live_teacher_teaches_nearly_the_same(tmp_path: Path) -> None:
    """Half precision moves a logit by less than 0.05 %."""
    teacher = ModuleTeacher(net())
    learning = LearningStore(teacher, filling(tmp_path / "store", wanted(teacher)))
    kept, live = train(tmp_path / "kept", learning), train(tmp_path / "live", teacher)
    learning.close()
    assert not same(kept, live)
    for name, value in live.items():
        torch.testing.assert_close(kept[name], value, rtol=0.02, atol=0.02, msg=name)


def test_fewer_epochs_than_views_leave_a_store_that_can_be_completed(tmp_path: Path) -> None:
    teacher = Counting(ModuleTeacher(net()))
    plan = wanted(teacher)
    learning = LearningStore(teacher, filling(tmp_path, plan))
    train(tmp_path / "run", learning, epochs=1)
    assert not learning.known
    assert sum(teacher.asked) == SAMPLES
    with pytest.raises(FileError, match=f"lacks {SAMPLES} of {SAMPLES * VIEWS} records"):
        learning.filling.seal()
    learning.close()
    teacher.asked.clear()
    told, part = Telling(), filling(tmp_path, plan)
    fill(plan, teacher, part, batch_size=10, workers=0, told=told)
    assert told.said == [f"{tmp_path}: 44 of 88 views are there already"]
    assert sum(teacher.asked) == 88 - 40, "the pieces of 10 in which one is missing"
    assert finish(plan, part, {}).manifest.records == 88
    part.close()


def batch_of(index: list[int], view: int | list[int] = 0, views: Views = PLAIN) -> Batch:
    see = Seer(split(), Sampler(split().targets), views, 7)
    at = torch.tensor(index)
    numbers = torch.tensor(view if isinstance(view, list) else [view] * len(index))
    inputs, target, mixed = see(at, numbers)
    return Batch(at, inputs, target, mixed, True, numbers, pixel_checksum(inputs))


@pytest.mark.parametrize(
    ("layout", "classes"),
    [(Layout(5), 5), (Layout(40, top=4, temperatures=(1.0, 3.0)), 40), (Layout(5, members=2, weights=(0.3, 0.7)), 5)],
    ids=["dense", "top", "members"],
)
def test_what_is_said_first_is_what_is_kept(tmp_path: Path, layout: Layout, classes: int) -> None:
    table = torch.randn(64, classes, generator=torch.Generator().manual_seed(0))
    one: Teacher = FunctionTeacher(lambda x: x.flatten(1) @ table)
    if layout.members == 2:
        one = Ensemble([one, FunctionTeacher(lambda x: x.flatten(1) @ -table)], [0.3, 0.7])
    live = one
    learning = LearningStore(live, Filling(tmp_path, layout, SAMPLES, VIEWS))
    batch = batch_of([5, 1, 30, 5], [0, 1, 1, 0])
    first = learning.recall(batch, batch.inputs)
    second = learning.recall(batch, batch.inputs)
    turned = learning.recall(batch.narrow(1, 3), batch.inputs[1:])
    for name in ("logits", "members"):
        values = [getattr(outputs, name) for outputs in (first, second, turned)]
        if values[0] is not None:
            assert torch.equal(values[0], values[1])
            assert torch.equal(values[0][..., 1:, :], values[2])
    said = live(batch.inputs)
    if layout.top:
        assert first.top is not None
        assert second.top is not None
        assert torch.equal(first.top.ids, said.logits.topk(4).indices)
        for temperature in (1.0, 3.0):
            assert torch.equal(first.top.rest[temperature], second.top.rest[temperature])
    else:
        torch.testing.assert_close(first.logits, said.logits, rtol=2e-3, atol=2e-3)
        assert not torch.equal(first.logits, said.logits), "as kept, not as said"
    learning.close()


def test_a_batch_that_is_known_in_part_is_asked_whole_and_keeps_what_it_had(tmp_path: Path) -> None:
    answers = iter([1.0, 2.0, 3.0])
    teacher = Counting(FunctionTeacher(lambda x: torch.full((len(x), 3), next(answers))))
    learning = LearningStore(teacher, Filling(tmp_path, Layout(3), SAMPLES, VIEWS))
    for index, expected in (([1, 2], [1, 1]), ([2, 3, 1], [1, 2, 1]), ([1, 3], [1, 2]), ([9, 1], [3, 1])):
        found = learning.recall(batch := batch_of(index), batch.inputs)
        assert found.logits[:, 0].tolist() == expected
    assert teacher.asked == [2, 3, 2]
    learning.close()


def test_samples_without_a_view_are_asked_and_not_kept(tmp_path: Path) -> None:
    teacher = Counting(ModuleTeacher(net()))
    learning = LearningStore(teacher, Filling(tmp_path, Layout(3), SAMPLES, VIEWS))
    inputs = torch.rand(4, 1, 8, 8)
    assert torch.equal(learning(inputs).logits, ModuleTeacher(net())(inputs).logits)
    assert learning.filling.missing(np.arange(88)).all()
    learning.close()


def test_views_that_are_new_in_every_epoch_are_noticed(tmp_path: Path) -> None:
    """A training without a replay shows other pixels at the same address the second time."""
    teacher = ModuleTeacher(net())
    learning = LearningStore(teacher, filling(tmp_path / "store", wanted(teacher)))
    with pytest.raises(FileError, match="has other pixels now than the teacher was"):
        train(tmp_path / "run", learning, epochs=2, replay=None)
    learning.close()


def test_other_pixels_are_refused_by_sample_and_view(tmp_path: Path) -> None:
    learning = LearningStore(ModuleTeacher(net()), Filling(tmp_path, Layout(3), SAMPLES, VIEWS))
    batch = batch_of([4, 8], 1)
    learning.recall(batch, batch.inputs)
    other = batch_of([4, 8], 1, Views(shift=3))
    with pytest.raises(FileError, match=r"view 1 of sample \d has other pixels"):
        learning.recall(other, other.inputs)
    learning.close()


def test_closing_keeps_what_was_learned_and_frees_the_folder(tmp_path: Path) -> None:
    plan = wanted(ModuleTeacher(net()))
    learning = LearningStore(plan.teacher, filling(tmp_path, plan))
    batch = batch_of([0, 7, 9], 1)
    learning.recall(batch, batch.inputs)
    learning.close()
    assert not (tmp_path / ".lock").exists()
    again = filling(tmp_path, plan)
    assert (~again.missing(np.arange(88))).nonzero()[0].tolist() == [44, 51, 53]
    again.close()


def test_a_full_disk_in_a_training_leaves_the_checkpoint_and_what_it_relies_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Counting(ModuleTeacher(net()))
    plan = wanted(teacher)
    learning = LearningStore(teacher, filling(tmp_path / "store", plan))
    expected = train(tmp_path / "whole", learning)
    learning.close()

    put: Callable[..., None] = Filling.put
    turns: list[int] = []

    def fails(self: Filling, *arguments: Any) -> None:
        turns.append(1)
        if len(turns) > 8:
            raise FileError("shard-00000.bin can not be written: No space left on device")
        put(self, *arguments)

    monkeypatch.setattr(Filling, "put", fails)
    learning = LearningStore(teacher, filling(tmp_path / "full", plan))
    with pytest.raises(FileError, match="No space left"):
        train(tmp_path / "run", learning, checkpoint_seconds=0.0)
    learning.filling.close()
    monkeypatch.undo()
    teacher.asked.clear()
    learning = LearningStore(teacher, filling(tmp_path / "full", plan))
    assert same(train(tmp_path / "run", learning), expected)
    assert sum(teacher.asked) == SAMPLES * VIEWS - (44 + 2 * 8)
    learning.close()


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Filling(tmp_path, Layout(3), SAMPLES, VIEWS)
    monkeypatch.setattr(module, "world", lambda: World(rank=1, size=2))
    with pytest.raises(RecipeError, match="can not be filled while several processes train\n  cure: build it before"):
        LearningStore(ModuleTeacher(net()), own)
    own.close()


def test_the_batches_of_a_training_are_what_is_asked(tmp_path: Path) -> None:
    """Nothing else: neither more samples nor others."""
    seen: list[Tensor] = []

    def said(inputs: Tensor, index: Any = None) -> Outputs:
        seen.append(inputs)
        return Outputs(inputs.flatten(1)[:, :3])

    learning = LearningStore(FunctionTeacher(said), Filling(tmp_path, Layout(3), SAMPLES, VIEWS))
    train(tmp_path / "run", learning, epochs=1)
    stream = batches(split(), batch_size=8, seed=3, views=PLAIN, replay=Replay(7, VIEWS))
    for one, batch in zip(seen, stream, strict=True):
        assert torch.equal(one, batch.inputs)
    learning.close()
