"""Building: what is kept is what the teacher says, each view is asked about once, and no answer is lost."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.store.building import PLAIN, SAMPLES, VIEWS, Counting, Telling, images, net, plan, shards
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import limbeck
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.replay import pixel_checksum
from limbeck.data.views import Views
from limbeck.errors import FileError, LimbeckError, RecipeError, ResumeError
from limbeck.files import read_tensors
from limbeck.outputs import Outputs
from limbeck.slots import Slots, refused
from limbeck.store import build as module
from limbeck.store.build import Plan, build, fill, finish
from limbeck.store.filling import BEGIN, LOCK, Filling
from limbeck.store.layout import Layout
from limbeck.store.store import Store
from limbeck.teachers import FunctionTeacher, ModuleTeacher
from limbeck.teachers.ema import EmaTeacher
from limbeck.training.interrupt import Interrupted
from limbeck.training.precision import choose

RECORDS = SAMPLES * VIEWS


def made(folder: Path, wanted: Plan | None = None, **changes: Any) -> Store:
    return build(wanted or plan(), folder, **{"batch_size": 100, "told": Telling(), **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was built without any trouble."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    made(folder)
    return folder


def test_each_record_is_what_the_teacher_says_of_its_view(whole: Path) -> None:
    """Read without the code under test: 4 bytes of checksum, then half-precision logits, at view · N + sample."""
    text = b"".join(path.read_bytes() for path in sorted(whole.glob("shard-*.bin")))
    assert len(text) == RECORDS * 10
    split, module_ = images(), net().eval()
    for view in range(VIEWS):
        sample = torch.arange(SAMPLES)
        inputs = PLAIN(split.inputs.float() / 255, seed=7, sample=sample, view=view)
        with torch.no_grad():
            expected = module_(inputs).numpy()
        for row in range(0, SAMPLES, 7):
            record = text[(view * SAMPLES + row) * 10 :][:10]
            assert int.from_bytes(record[:4], "little") == int(pixel_checksum(inputs[row : row + 1]))
            np.testing.assert_allclose(np.frombuffer(record[4:], "<f2"), expected[row], rtol=1e-3, atol=1e-4)


def test_the_other_splits_are_kept_in_float32(whole: Path) -> None:
    with torch.no_grad():
        expected = net()(images(20, "validation").inputs.float() / 255)
    torch.testing.assert_close(read_tensors(whole / "said-validation.safetensors")[0]["logits"], expected)
    torch.testing.assert_close(Store.open(whole).says("validation").logits, expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(whole: Path, tmp_path: Path, workers: int) -> None:
    made(tmp_path, workers=workers)
    assert shards(tmp_path) == shards(whole)


def test_a_build_that_fails_goes_on_with_what_is_missing(whole: Path, tmp_path: Path) -> None:
    """It fails after 3, then after 9 more questions: each view is asked about once, by the piece."""

    def fails(limit: int, done: int) -> None:
        if done == limit:
            raise RuntimeError("the GPU fell off")

    asked = []
    for limit in (3, 9):
        teacher = Counting(ModuleTeacher(net()), partial(fails, limit))
        with pytest.raises(RuntimeError, match="fell off"):
            made(tmp_path, plan(teacher))
        asked.append(sum(teacher.asked))
        assert not (tmp_path / "manifest.json").exists()
        with pytest.raises(FileError, match="not finished"):
            Store.open(tmp_path)
    told = Telling()
    made(tmp_path, plan(teacher := Counting(ModuleTeacher(net()))), told=told)
    assert told.said[0].endswith(f": {sum(asked):,} of {RECORDS:,} views are there already")
    assert asked == [300, 724 + 100]
    # 11 pieces in each shard of 1,024, the last of 24; 3 in that of 228; 12 are there
    assert told.begun == [("store", 1, 3 * 11 + 3 - 12, RECORDS)]
    assert told.done == 24
    again = 512 + 20  # for the certificate, and of validation
    assert sum(asked) + sum(teacher.asked) == RECORDS + again
    assert shards(tmp_path) == shards(whole)
    assert told.ended == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_question_and_all_answers_are_kept(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    def stop(done: int) -> None:
        if done == 4:
            os.kill(os.getpid(), number)

    told, teacher = Telling(), Counting(ModuleTeacher(net()), stop)
    with pytest.raises(Interrupted) as stopped:
        made(tmp_path, plan(teacher), told=told)
    assert stopped.value.exit_code == 128 + number
    assert told.said == [f"{tmp_path} is not finished: the same command goes on with it"]
    assert len(teacher.asked) == 5
    told, teacher = Telling(), Counting(ModuleTeacher(net()))
    made(tmp_path, plan(teacher), told=told)
    assert told.said[0] == f"{tmp_path}: 500 of 3,300 views are there already"
    assert sum(teacher.asked) == RECORDS - 500 + 512 + 20
    assert shards(tmp_path) == shards(whole)


def test_a_finished_store_is_opened_and_not_asked_again(tmp_path: Path) -> None:
    made(tmp_path, plan(Counting(ModuleTeacher(net()))))
    for name in (BEGIN, LOCK, "shard-00000.known"):  # as if killed while it was sealed
        (tmp_path / name).write_text("left")
    teacher = Counting(ModuleTeacher(net()))
    store = made(tmp_path, plan(teacher))
    assert sum(teacher.asked) <= 64, "to see that it still says the same"
    assert store.replay.views == VIEWS
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin"] * 4 + [".json", ".safetensors"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"views": Views(shift=3, flip=True)}, "views.shift: kept 2, now 3"),
        ({"count": VIEWS + 1}, "views.count: kept 11, now 12"),
        ({"teacher": ModuleTeacher(net(2))}, "teacher.weights: kept"),
        ({"split": images(299)}, "data.samples: kept 300, now 299"),
        ({"layout": Layout(3, top=2, temperatures=(4.0,))}, "top"),
        ({"splits": {"validation": images(21, "validation")}}, "said.validation: kept"),
    ],
)  # fmt: skip
def test_a_store_of_something_else_is_refused_before_anything_is_asked(
    whole: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ResumeError) as error:
        made(whole, plan(**changes))
    assert named in str(error.value)
    if "splits" in changes:
        return
    Filling(tmp_path, Layout(3), SAMPLES, VIEWS, plan().identity).close()
    with pytest.raises(ResumeError) as error:
        made(tmp_path, plan(**changes))
    assert named in str(error.value)


class Noisy(TensorDataset):
    def __getitem__(self, at: int) -> Any:
        return torch.rand(1, 8, 8), at % 2


def loader() -> LoaderSplit:
    data = TensorDataset(torch.rand(9, 1, 8, 8), torch.arange(9) % 2)
    return LoaderSplit(DataLoader(data, batch_size=4), ("a", "b"), "train")


def test_samples_that_can_not_be_kept_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="split 'train' is a DataLoader: its samples have no address"):
        plan(split=loader())
    with pytest.raises(RecipeError, match="split 'train' has random transforms of its own"):
        plan(split=DatasetSplit(Noisy(torch.zeros(12)), ("a", "b"), "train"))
    with pytest.raises(RecipeError, match="the teacher follows the student"):
        plan(EmaTeacher())


@pytest.mark.parametrize("train", ["loader", "noisy", "same"])
def test_from_python_too_and_nothing_is_asked(tmp_path: Path, train: str) -> None:
    parts = {
        "loader": DataLoader(TensorDataset(torch.rand(9, 1, 8, 8), torch.arange(9) % 2), batch_size=4),
        "noisy": Noisy(torch.zeros(40)),
        "same": (torch.rand(40, 1, 8, 8), torch.arange(40) % 2),
    }
    given = (torch.rand(8, 1, 8, 8), torch.arange(8) % 2)
    data = limbeck.Data(parts[train], validation=given, test=given)
    teacher = Counting(FunctionTeacher(lambda x: x.flatten(1)[:, :2]))
    options: dict[str, Any] = {} if train == "same" else {"augmentation": {"shift": 1}}
    with pytest.raises(RecipeError, match="one view" if train == "same" else "split 'train'"):
        Store.build(teacher, data, tmp_path / "store", views=2, quiet=True, **options)
    assert teacher.asked == []
    assert not (tmp_path / "store").exists()


def test_splits_that_are_not_the_same_each_time_are_left_out(tmp_path: Path) -> None:
    others = {"validation": images(20, "validation"), "test": loader()}
    store = made(tmp_path, plan(count=1, splits=others))
    assert list(store.manifest.said) == ["validation"]


def test_a_store_is_far_smaller_than_what_is_held_while_it_is_built(tmp_path: Path) -> None:
    """At most one shard is open at a time."""
    opened: list[int] = []

    def look(done: int) -> None:
        opened.append(len(filling._parts))

    wanted = plan(teacher := Counting(ModuleTeacher(net()), look))
    filling = Filling(tmp_path, wanted.layout, SAMPLES, VIEWS, wanted.identity)
    assert fill(wanted, teacher, filling, batch_size=100, workers=0, told=Telling()) == RECORDS
    assert max(opened) == 1
    store = finish(wanted, filling, {"seconds": 1.0})
    assert store.manifest.built["seconds"] == 1.0
    filling.close()


def test_a_shard_that_was_damaged_is_asked_again_and_told(whole: Path, tmp_path: Path) -> None:
    wanted = plan(teacher := Counting(ModuleTeacher(net())))
    filling = Filling(tmp_path, wanted.layout, SAMPLES, VIEWS, wanted.identity)
    fill(wanted, teacher, filling, batch_size=100, workers=0, told=Telling())
    filling.close()
    text = bytearray((tmp_path / "shard-00001.bin").read_bytes())
    text[77] ^= 1
    (tmp_path / "shard-00001.bin").write_bytes(bytes(text))
    teacher.asked.clear()
    made(tmp_path, wanted, told=(told := Telling()))
    assert told.said[0] == f"{tmp_path}/shard-00001.bin is not as it was left: what it lacks is asked for again"
    assert sum(teacher.asked) == 1024 + 512 + 20
    assert shards(tmp_path) == shards(whole)


# A full disk.


def test_a_full_disk_stops_the_build_and_nothing_is_lost(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 1,500 records, nothing can be written any more but what has its room."""
    original, written = Slots.write, [0]

    def write(self: Slots, offset: int, data: bytes) -> None:
        if self.path.suffix == ".bin":
            written[0] += len(data)
            if written[0] > 15_000:
                raise refused(self.path, OSError(28, os.strerror(28)))
        original(self, offset, data)

    monkeypatch.setattr(Slots, "write", write)
    with pytest.raises(FileError, match=r"shard-00001\.bin can not be written: No space left on device") as error:
        made(tmp_path)
    assert "what was finished before is kept" in str(error.value)
    monkeypatch.undo()
    told = Telling()
    made(tmp_path, told=told)
    assert told.said[0] == f"{tmp_path}: 1,424 of 3,300 views are there already"  # a shard, and 4 pieces of 100
    assert shards(tmp_path) == shards(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("a disk can not be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_really_is_full(
    whole: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_disk / "store"
    with pytest.raises(FileError, match=r"300 samples in 11 views needs .* more bytes; .* are free where"):
        made(folder, plan(count=11, splits={"validation": images(9000, "validation")}))
    assert list(folder.iterdir()) == []
    made(folder, plan(count=1))  # there is room for one view, and checking leaves nothing behind
    subprocess.run(["rm", "-r", str(folder)], check=True)

    ballast = small_disk / "ballast"

    def grab(done: int) -> None:  # another one fills the disk meanwhile
        if done == 15:
            with open(ballast, "wb", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(512))
                    except OSError:
                        break

    monkeypatch.setattr(module, "NOTED", 1e9)  # notes only where a shard ends, and at the end
    teacher = Counting(ModuleTeacher(net()), grab)
    with pytest.raises(FileError, match=r"can not be written: No space left on device\n  cure: free space"):
        made(folder, plan(teacher))
    assert len(teacher.asked) >= 16
    kept = sum(teacher.asked[:-1])
    ballast.unlink()
    told, teacher = Telling(), Counting(ModuleTeacher(net()))
    made(folder, plan(teacher), told=told)
    assert told.said[0].startswith(f"{folder}: {kept:,} of 3,300 views are there already")
    assert sum(teacher.asked) == RECORDS - kept + 512 + 20
    assert shards(folder) == shards(whole)


def test_the_build_asks_under_the_precision_it_names(tmp_path: Path) -> None:
    seen: list[bool] = []

    def said(inputs: Tensor) -> Outputs:
        seen.append(torch.is_autocast_enabled("cpu"))
        return Outputs(inputs.flatten(1)[:, :3])

    teacher = FunctionTeacher(said)
    teacher.digest = "precision"  # type: ignore[attr-defined]
    wanted = plan(teacher, count=1, precision=choose("cpu", "bf16"), splits={})
    filling = Filling(tmp_path, wanted.layout, SAMPLES, 1, wanted.identity)
    fill(wanted, teacher, filling, batch_size=100, workers=0, told=Telling())
    filling.close()
    assert seen == [True] * 3
    assert wanted.identity["precision"] == "bf16"


def test_errors_of_workers_arrive_as_they_were(tmp_path: Path) -> None:
    split = images()
    split.inputs = split.inputs[:200]  # a split that can not be read to its end
    with pytest.raises((LimbeckError, IndexError)):
        made(tmp_path, plan(split=split))
