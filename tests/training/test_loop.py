"""The loop against loops written out by hand, closed forms, and trainings that go wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.data.order import permutation
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import FileError, NumericsError
from limbeck.objective import Objective, supervised, term
from limbeck.teachers import FunctionTeacher, ModuleTeacher
from limbeck.training.interrupt import Interrupted
from limbeck.training.loop import CHECKPOINT, Job, fit
from limbeck.training.settings import EarlyStopping, Optimizer, Settings

Make = Callable[..., Job]
Same = Callable[..., bool]


def copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def journal(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key not in {"seconds", "samples_per_second"}} for line in lines]


def test_an_epoch_is_the_plain_loop_bit_for_bit(make_job: Make, nets: Any) -> None:
    job = make_job(nets["dense"](), seed=3, epochs=2)
    plain = nets["dense"]()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9, fused=True)
    losses = []
    for epoch in range(2):
        for index in permutation(3, epoch, 40).split(8):
            x, y = (job.split.inputs[index] - 0.5) * 4.0, job.split.targets[index]
            loss = F.cross_entropy(plain(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    fitted = fit(job)
    for name, value in plain.state_dict().items():
        assert torch.equal(fitted.last[name], value), name
    assert job.reporter.losses == pytest.approx(losses, rel=1e-6)
    assert [line["train"]["loss"] for line in journal(job)] == pytest.approx([sum(losses[:5]) / 5, sum(losses[5:]) / 5])
    assert (fitted.epochs, fitted.selected_epoch) == (2, 1)


def test_distillation_follows_the_textbook_formula(make_job: Make, nets: Any) -> None:
    teacher, temperature = nets["dense"](seed=9), 3.0
    objective = Objective([supervised(0.25), term("kl", 0.75, temperature=temperature)])
    job = make_job(nets["dense"](), objective=objective, teacher=ModuleTeacher(teacher, lambda x: x * 2))
    plain = nets["dense"]()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    for index in permutation(0, 0, 40).split(8):
        x, y = job.split.inputs[index], job.split.targets[index]
        z = plain((x - 0.5) / 0.25)
        p = F.softmax(teacher(x * 2).detach() / temperature, 1)
        soft = F.kl_div(F.log_softmax(z / temperature, 1), p, reduction="batchmean") * temperature**2
        optimizer.zero_grad()
        (0.25 * F.cross_entropy(z, y) + 0.75 * soft).backward()
        optimizer.step()
    fitted = fit(job)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fitted.last[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [2, 3, 8, 50])
def test_accumulation_gives_the_whole_batchs_gradient_and_numbers(make_job: Make, nets: Any, pieces: int) -> None:
    def job(accumulate: int) -> Job:
        split = Split(
            torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), [0, 1, 2, -1] * 4, "abc", "t"
        )
        return make_job(
            nets["dense"](),
            folder=f"accumulate{accumulate}",
            split=split,
            objective=Objective([supervised(0.5), term("kl", 0.5)]),
            teacher=ModuleTeacher(nets["dense"](seed=4)),
            batch_size=16,
            accumulate=accumulate,
            epochs=2,
        )

    whole, parts = job(1), job(pieces)
    expected, found = fit(whole), fit(parts)
    for name, value in expected.last.items():
        torch.testing.assert_close(found.last[name], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(journal(whole), journal(parts), strict=True):
        assert one["train"]["terms"] == pytest.approx(other["train"]["terms"], rel=1e-4)
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=1e-4)
        assert one["train"]["accuracy"] == other["train"]["accuracy"]


def test_clipping_bounds_the_step_and_keeps_its_direction(make_job: Make) -> None:
    x, y = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)), [0, 1] * 4
    split = Split(x, y, "ab", "train")
    gradient = (torch.full((8, 2), 0.5) - F.one_hot(torch.tensor(y), 2)).T @ x / 8  # softmax regression at zero weights

    def step(clip: float | None) -> Tensor:
        module = nn.Linear(4, 2, bias=False)
        nn.init.zeros_(module.weight)
        rate = Optimizer("sgd", lr=1.0, momentum=0.0, weight_decay=0.0)
        job = make_job(module, folder=f"clip{clip}", split=split, optimizer=rate, clip=clip, preparation=lambda x: x)
        return -fit(job).last["weight"]

    torch.testing.assert_close(step(None), gradient)
    torch.testing.assert_close(step(1e6), gradient)
    torch.testing.assert_close(step(0.01), gradient * 0.01 / gradient.norm(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("accuracies", "epochs", "selected"),
    [
        ([0.5, 0.6, 0.62, 0.63, 0.9, 0.9], 4, 4),  # two epochs within 0.05 of 0.6
        ([0.5, 0.53, 0.56, 0.59, 0.62, 0.6], 6, 5),  # slow, but it gains 0.05 every second epoch
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.7], 5, 3),
        ([0.5, float("nan"), 0.6, 0.7, 0.8, 0.9], 6, 6),  # not a number is no best
        ([float("nan"), 0.2, 0.3, 0.4, 0.5, 0.6], 6, 6),
    ],
)
def test_early_stopping_and_the_best_weights(
    make_job: Make, same: Same, accuracies: list[float], epochs: int, selected: int
) -> None:
    seen: list[dict[str, Tensor]] = []

    def validate(module: nn.Module) -> dict[str, float]:
        seen.append(copy(module))
        return {"accuracy": accuracies[len(seen) - 1], "loss": 1.0}

    job = make_job(validate=validate, epochs=6, early_stopping=EarlyStopping(patience=2, min_delta=0.05))
    fitted = fit(job)
    assert (fitted.epochs, fitted.selected_epoch, len(seen)) == (epochs, selected, epochs)
    assert same(fitted.selected, seen[selected - 1])
    assert same(fitted.last, seen[-1])


@pytest.mark.parametrize(("select", "selected"), [("accuracy", 2), ("loss", 3)])
def test_selection_and_equal_accuracies(make_job: Make, select: Any, selected: int) -> None:
    scores = iter([(0.8, 1.0), (0.9, 0.5), (0.9, 0.45 if select == "loss" else 0.5), (0.7, 0.6)])

    def validate(module: nn.Module) -> dict[str, float]:
        return dict(zip(("accuracy", "loss"), next(scores), strict=True))

    assert fit(make_job(validate=validate, epochs=4, select=select)).selected_epoch == selected


def test_a_metric_that_is_not_defined_counts_as_the_worst(make_job: Make) -> None:
    scores = iter([(None, 0.1), (0.6, 0.9), (0.7, 0.9), (0.7, 0.8), (float("nan"), 0.1)])

    def validate(module: nn.Module) -> dict[str, float | None]:
        return dict(zip(("auc", "loss"), next(scores), strict=True))

    assert fit(make_job(validate=validate, epochs=5, select="auc")).selected_epoch == 4  # the loss decides a tie


def test_the_moving_average_is_the_one_computed_by_hand(make_job: Make, nets: Any) -> None:
    module, weights, averages = nets["dense"](), [], []

    def validate(evaluated: nn.Module) -> dict[str, float]:
        weights.append(copy(module))
        averages.append(copy(evaluated))
        return {"accuracy": 0.5}

    fitted = fit(make_job(module, validate=validate, batch_size=40, epochs=5, ema=0.8))
    expected = weights[0]
    for now, average in zip(weights, averages, strict=True):
        expected = {name: 0.8 * expected[name] + 0.2 * now[name] for name in now}
        for name in now:
            torch.testing.assert_close(average[name], expected[name], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(fitted.last["1.weight"], expected["1.weight"], rtol=1e-5, atol=1e-7)
    assert not torch.equal(fitted.last["1.weight"], weights[-1]["1.weight"])


def test_a_last_batch_of_one_is_trained_with_batch_norm(make_job: Make, nets: Any, make_images: Any) -> None:
    job = make_job(nets["convolutional"](), split=make_images(9), batch_size=4)
    assert int(fit(job).last["1.num_batches_tracked"]) == 2


def test_the_student_trains_although_validation_left_it_in_eval_mode(make_job: Make) -> None:
    modes = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(x.flatten(1))

    def validate(module: nn.Module) -> dict[str, float]:
        module.eval()
        return {"accuracy": 0.5}

    fit(make_job(Watched(64, 3).eval(), validate=validate, epochs=3))
    assert modes == [True] * 15


def test_the_teacher_is_a_constant(make_job: Make, nets: Any, same: Same) -> None:
    teacher = nets["convolutional"]().train()
    before = copy(teacher)
    fit(make_job(objective=Objective([term("kl")]), teacher=ModuleTeacher(teacher)))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert same(before, teacher.state_dict())
    assert all(part.training for part in teacher.modules())


def test_dropout_depends_on_seed_and_step_alone(make_job: Make) -> None:
    def masks(seed: int, *, noise: int = 0, workers: int = 0) -> list[Tensor]:
        found = []

        class Watched(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(64, 3)

            def forward(self, x: Tensor) -> Tensor:
                found.append(F.dropout(torch.ones(8, 64), 0.5, self.training))
                return self.layer(x.flatten(1) * found[-1])

        def validate(module: nn.Module) -> dict[str, float]:
            torch.rand(noise)
            return {"accuracy": 0.5}

        torch.manual_seed(noise)
        fit(make_job(Watched(), folder=f"{seed}-{noise}-{workers}", validate=validate, epochs=2, seed=seed))
        return found

    first, again, other = masks(0), masks(0, noise=7), masks(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert len({tuple(mask.flatten().tolist()) for mask in first + other}) == 20


def test_workers_change_nothing(make_job: Make, nets: Any, same: Same) -> None:
    def run(workers: int) -> Any:
        settings = {"views": Views(shift=1, flip=True), "epochs": 2, "workers": workers}
        job = make_job(nets["convolutional"](), folder=f"workers{workers}", **settings)
        return fit(job), timeless(journal(job))

    (alone, lines), (helped, same_lines) = run(0), run(2)
    assert same(alone.last, helped.last)
    assert lines == same_lines


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_input_is_named_and_its_step_never_reaches_the_model(
    make_job: Make, nets: Any, recorder: Any, same: Same, accumulate: int
) -> None:
    module = nets["convolutional"]()
    after = [copy(module)]
    job = make_job(module, reporter=recorder(lambda step: after.append(copy(module))), accumulate=accumulate)
    bad = int(permutation(0, 0, 40)[20])  # in the third of five batches
    job.split.inputs[bad, 0, 3, 3] = float("nan")
    with pytest.raises(NumericsError, match=r"'supervised'.*\b" + str(bad) + r"\b") as caught:
        fit(job)
    assert len(after) == 3, "two good steps and the start"
    assert same(module.state_dict(), after[-1]), "weights and BatchNorm's averages"
    assert all(parameter.grad is None for parameter in module.parameters())
    assert caught.value.exit_code == 5


def test_a_teacher_that_is_not_finite_is_named(make_job: Make, same: Same) -> None:
    def teacher(x: Tensor, index: Tensor) -> Tensor:
        return torch.where(index[:, None] == 17, torch.inf, torch.zeros(len(x), 3))

    job = make_job(objective=Objective([supervised(0.1), term("kl", 0.9)]), teacher=FunctionTeacher(teacher))
    with pytest.raises(NumericsError, match=r"'kl'.*\b17\b.*teacher"):
        fit(job)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_bad_gradient_of_a_finite_loss_is_named(make_job: Make, same: Same, clip: float | None) -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good, self.bad = nn.Linear(64, 3), nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.good(x.flatten(1)) + self.bad.sqrt() * 0  # 0 with an infinite slope: 0 · inf

    module = Root()
    before = copy(module)
    with pytest.raises(NumericsError, match=r"gradient of bad is not finite in epoch 1 \(samples") as caught:
        fit(make_job(module, clip=clip))
    assert same(module.state_dict(), before)
    assert "good" not in str(caught.value)


class Crash(Exception):
    """What kills the training in the middle."""


def crash_at(steps: int) -> Callable[[int], None]:
    def act(step: int) -> None:
        if step == steps:
            raise Crash

    return act


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_a_crash_after_any_step_is_resumed_to_the_same_weights_and_journal(
    make_job: Make, nets: Any, recorder: Any, same: Same, seconds: float
) -> None:
    settings: dict[str, Any] = {
        "epochs": 3,
        "ema": 0.9,
        "views": Views(shift=1),
        "optimizer": Optimizer("adamw"),
        "checkpoint_seconds": seconds,
    }

    def run(folder: str, act: Any = None) -> tuple[Any, Job]:
        job = make_job(nets["convolutional"](), folder=folder, reporter=recorder(act), **settings)
        return fit(job), job

    expected, reference = run("whole")
    for step in (1, 2, 4, 5, 6, 9, 10, 11, 14, 15) if seconds == 0 else (1, 6, 15):
        with pytest.raises(Crash):
            run(f"crash{step}", crash_at(step))
        found, job = run(f"crash{step}")
        assert same(found.last, expected.last), step
        assert same(found.selected, expected.selected), step
        assert timeless(journal(job)) == timeless(journal(reference)), step
        assert job.reporter.said == [], "nothing of the environment has changed"


def test_a_line_written_before_its_checkpoint_is_not_written_twice(
    make_job: Make, nets: Any, recorder: Any, same: Same
) -> None:
    class CrashAfterEpoch(recorder):  # type: ignore[misc, valid-type]
        def epoch(self, line: Any) -> None:
            if line["epoch"] == 2:
                raise Crash

    settings = {"epochs": 3, "checkpoint_seconds": 0.0}
    expected = fit(make_job(folder="whole", **settings))
    with pytest.raises(Crash):
        fit(make_job(reporter=CrashAfterEpoch(), **settings))
    job = make_job(**settings)
    assert [line["epoch"] for line in journal(job)] == [1, 2]
    assert same(fit(job).last, expected.last)
    assert [line["epoch"] for line in journal(job)] == [1, 2, 3]


def test_a_journal_that_lost_lines_is_refused(make_job: Make, recorder: Any) -> None:
    with pytest.raises(Crash):
        fit(make_job(reporter=recorder(crash_at(7)), epochs=2, checkpoint_seconds=0.0))
    job = make_job(epochs=2)
    (job.folder / "metrics.jsonl").write_text("")
    with pytest.raises(FileError, match=r"metrics.jsonl has 0 bytes, expected at least"):
        fit(job)


def test_a_finished_training_is_not_run_again(make_job: Make, same: Same) -> None:
    first = fit(make_job(epochs=2, checkpoint_seconds=0.0))
    job = make_job(epochs=2)
    again = fit(job)
    assert same(first.last, again.last)
    assert same(first.selected, again.selected)
    assert job.reporter.losses == []
    assert (again.epochs, again.selected_epoch) == (2, 1)


def test_another_environment_is_told(make_job: Make, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(Crash):
            fit(make_job(reporter=recorder(crash_at(2)), checkpoint_seconds=0.0))
        torch.set_num_threads(2)
        job = make_job(reporter=recorder(crash_at(1)), checkpoint_seconds=0.0)
        with pytest.raises(Crash):
            fit(job)
        assert job.reporter.said == ["bit-identical resuming is not promised: threads 1 -> 2"]
        now = torch.__version__
        monkeypatch.setattr(torch, "__version__", "9.9")
        torch.set_num_threads(1)
        job = make_job()
        fit(job)
        assert job.reporter.said == [f"bit-identical resuming is not promised: torch {now} -> 9.9"]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(
    make_job: Make, recorder: Any, same: Same, number: signal.Signals
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    before = signal.getsignal(number)

    def act(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), number)

    expected = fit(make_job(folder="whole", epochs=2))
    job = make_job(reporter=recorder(act), epochs=2, checkpoint_seconds=3600.0)
    with pytest.raises(Interrupted, match=number.name) as caught:
        fit(job)
    assert caught.value.exit_code == 128 + number
    assert len(job.reporter.losses) == 7
    assert (job.folder / CHECKPOINT).exists()
    assert signal.getsignal(number) == before
    rest = make_job(epochs=2)
    assert same(fit(rest).last, expected.last)
    assert len(rest.reporter.losses) == 3


def test_a_full_disk_keeps_the_last_checkpoint(
    make_job: Make, same: Same, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(make_job(folder="whole", epochs=2))
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = make_job(
        reporter=recorder(lambda step: monkeypatch.setattr(os, "fsync", full) if step == 6 else None),
        epochs=2,
        checkpoint_seconds=0.0,
    )
    with pytest.raises(FileError, match=f"{CHECKPOINT} can not be written: No space left"):
        fit(job)
    assert sorted(path.name for path in job.folder.iterdir()) == [CHECKPOINT, "metrics.jsonl"]
    monkeypatch.setattr(os, "fsync", real)
    rest = make_job(epochs=2)
    assert same(fit(rest).last, expected.last)
    assert len(rest.reporter.losses) == 5


def test_what_a_killed_process_left_is_removed(make_job: Make) -> None:
    job = make_job()
    job.folder.mkdir()
    (job.folder / f".{CHECKPOINT}.abc.part").write_bytes(b"half")
    fit(job)
    assert [path.name for path in job.folder.iterdir()] == ["metrics.jsonl"]


def test_bf16_trains_and_its_loss_is_computed_in_float32(make_job: Make, nets: Any) -> None:
    seen = []

    def loss(student: Tensor) -> Tensor:
        seen.append((student.dtype, torch.is_autocast_enabled("cpu")))
        return student.float().square().mean(dim=1)

    fit(make_job(nets["convolutional"](), objective=Objective([term(loss)]), precision="bf16", fast=True))
    assert {enabled for _, enabled in seen} == {False}


def test_the_defaults_train(make_job: Make, nets: Any) -> None:
    """auto precision, channels-last, AdamW, cosine: what everybody runs."""
    job = make_job(nets["convolutional"](), settings=Settings(epochs=12, batch_size=8, workers=0))
    fit(job)
    losses = [line["train"]["loss"] for line in journal(job)]
    assert losses[-1] < losses[0]
    assert journal(job)[-1]["rate"] == pytest.approx(0.0, abs=1e-9)
