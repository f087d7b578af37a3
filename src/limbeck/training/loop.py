"""The one training loop: a student, its objective, and what it is told by a teacher."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.data.batch import Batch
from limbeck.data.batches import batches, steps_per_epoch
from limbeck.data.order import stream_seed
from limbeck.data.split import Split
from limbeck.errors import NumericsError
from limbeck.files import Journal, remove_strays
from limbeck.objective import Objective
from limbeck.outputs import Outputs
from limbeck.taps import Tap
from limbeck.teachers import Keeps, Teacher, asked
from limbeck.training.distributed import world
from limbeck.training.gather import joined
from limbeck.training.interrupt import StopSignal
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.precision import Precision, choose
from limbeck.training.progress import Reporter, Silent
from limbeck.training.selection import judge
from limbeck.training.settings import Settings
from limbeck.training.sparsity import Thinning
from limbeck.training.state import Follower, State, average
from limbeck.training.transfer import Backbone
from limbeck.training.weighing import Weighing

Validate = Callable[[nn.Module], Mapping[str, float | None]]
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Job:
    """One training: everything it depends on, and where it writes.

    Args:
        module: the model to train, in place; it is moved to the device.
        objective: what is minimized.
        split: the training samples.
        preparation: of the module's inputs.
        validate: gives the validation metrics of a module, at least ``accuracy`` or ``loss``.
        settings: see :class:`Settings`.
        folder: where metrics and checkpoint are written.
        seed: of order, views and dropout.
        teacher: what the objective's teacher terms compare with.
        title: for the progress bar.
        key: what the training depends on, so that a checkpoint of another one is refused.
    """

    module: nn.Module
    objective: Objective
    split: Split
    preparation: Callable[[Tensor], Tensor]
    validate: Validate
    settings: Settings
    folder: Path
    seed: int = 0
    teacher: Teacher | None = None
    title: str = "training"
    key: str = ""
    reporter: Reporter = field(default_factory=Silent)


@dataclass(frozen=True)
class Fit:
    """What a training leaves: the last and the selected weights, and when the selected ones were reached.

    ``epochs`` is the number of the last epoch trained, ``selected_epoch`` that of the best one on validation.
    ``extras`` are the adapters and loss modules after the last epoch.
    """

    last: dict[str, Tensor]
    selected: dict[str, Tensor]
    extras: dict[str, Tensor]
    epochs: int
    selected_epoch: int
    seconds: float


def fit(job: Job) -> Fit:
    """Train ``job.module``, from its checkpoint if it has one.

    The order of samples, their views and dropout depend on (seed, epoch, step) only, so a stopped and resumed training
    ends in the same weights as one that was not stopped (same torch, processor, threads, precision and processes).
    Several processes train one model: each computes its part of every batch, and the first one writes.

    Raises:
        NumericsError: if a term or a gradient is not finite; that step does not reach the weights.
        Interrupted: after SIGINT or SIGTERM, once a checkpoint is written.
    """
    job.objective.check_pieces(job.settings.accumulate)
    precision = choose(job.settings.device, job.settings.precision, fast=job.settings.fast)
    state, steps = _prepare(job, precision), steps_per_epoch(job.split, job.settings.batch_size)
    remove_strays(job.folder)
    checkpoint, journal = job.folder / CHECKPOINT, Journal(job.folder / "metrics.jsonl")
    if world().agreed(checkpoint.exists()):
        changed = state.load(checkpoint, job.key)
        if changed:
            job.reporter.say(f"bit-identical resuming is not promised: {', '.join(changed)}")
    journal.truncate(state.progress.journal)
    if world().several and any(isinstance(one, _BatchNorm) for one in job.module.modules()):
        job.reporter.say("BatchNorm: each process normalizes its part of a batch; the averages are the first one's")
    job.reporter.begin(job.title, job.settings.epochs, steps, len(job.split))
    try:
        with state.tap, StopSignal(patient=world().several) as stop:
            keeper = _Keeper(state, checkpoint, job, stop)
            while state.progress.epoch < job.settings.epochs and not state.progress.stopped:
                _epoch(job, state, precision, keeper)
                _finish_epoch(job, state, journal)
                keeper.epoch_done()
    finally:
        job.reporter.end()
        state.replica.release()
        if state.backbone is not None:
            state.backbone.release()
    last, extras = (
        {name: value.detach().cpu().clone() for name, value in one.state_dict().items()}
        for one in (state.evaluated, state.extras)
    )
    selected = {name: value.detach().cpu() for name, value in state.best.items()}
    return Fit(last, selected, extras, state.progress.epoch, state.progress.best_epoch, state.progress.seconds)


class _Keeper:
    """Writes checkpoints: when enough time has passed, and before leaving on a signal."""

    def __init__(self, state: State, path: Path, job: Job, stop: StopSignal) -> None:
        self._state, self._path, self._key, self._stop = state, path, job.key, stop
        self._kept = job.teacher if isinstance(job.teacher, Keeps) else None
        self._every = job.settings.checkpoint_seconds
        self._time = time.monotonic()
        self._leaving = False

    def summed(self, values: list[float]) -> list[float]:
        """Add numbers over the processes, and agree to leave after this step if one of them got a signal."""
        *found, asked = world().summed([*values, float(self._stop.number is not None)])
        self._leaving = asked > 0
        return found

    def step_done(self) -> None:
        leaving = self._leaving if world().several else self._stop.number is not None
        if leaving:
            world().from_first(self._save)  # a process that leaves has torchrun end the others
            self._stop.number = self._stop.number or signal.SIGTERM
            self._stop.raise_if_set()
        elif world().rank == 0 and time.monotonic() - self._time >= self._every:
            self._save()

    epoch_done = step_done

    def _save(self) -> None:
        if self._kept is not None:
            self._kept.flush()
        self._state.save(self._path, self._key)
        self._time = time.monotonic()


def _prepare(job: Job, precision: Precision) -> State:
    settings, module = job.settings, precision.place(job.module)
    if settings.compile:
        torch.compiler.reset()  # what was compiled before, for a model of the same class, does not know the taps
    extras = precision.place(job.objective.modules)
    backbone = Backbone(module, settings.transfer) if settings.transfer else None
    if settings.transfer and backbone:
        new = [*backbone.head, *extras.parameters()]
        optimizer = build_optimizer(settings.optimizer, new, backbone.parameters, settings.transfer.rate)
    else:
        optimizer = build_optimizer(settings.optimizer, [*module.parameters(), *extras.parameters()])
    follower = job.teacher if isinstance(job.teacher, Follower) else None
    if follower is not None:
        follower.begin(module)
    steps = steps_per_epoch(job.split, settings.batch_size)
    return State(
        module=module,
        optimizer=optimizer,
        backbone=backbone,
        extras=extras,
        follower=follower,
        tap=Tap(module, job.objective.layers("student")),
        called=torch.compile(module) if settings.compile else module,
        schedule=build_schedule(optimizer, settings.schedule, settings.epochs, steps),
        scaler=torch.amp.GradScaler(precision.device.type, enabled=precision.needs_scaler),
        averaged=average(module, settings.ema),
        thinning=Thinning(module, settings.sparsity, steps * settings.epochs) if settings.sparsity else None,
        sums=torch.zeros(
            4 + len(job.objective.terms), dtype=torch.float32 if precision.device.type == "mps" else torch.float64
        ),
        environment=precision.environment(),
    )


def _epoch(job: Job, state: State, precision: Precision, keeper: _Keeper) -> None:
    settings, progress = job.settings, state.progress
    if progress.batch == 0:
        state.sums.zero_()
    state.trained.train()
    if state.backbone is not None:
        state.backbone.begin(progress.epoch)
    stream = batches(
        job.split,
        batch_size=settings.batch_size,
        seed=job.seed,
        epoch=progress.epoch,
        views=settings.views,
        sampling=settings.sampling,
        start=progress.batch,
        workers=settings.workers,
        part=(world().rank, world().size),
        replay=settings.replay,
        checked=isinstance(job.teacher, Keeps),
    )
    began = time.monotonic()
    for batch in stream:
        loss, samples = _step(job, state, precision, batch, keeper)
        progress.batch += 1
        progress.step += 1
        job.reporter.batch(progress.epoch + 1, progress.batch, samples, loss)
        progress.seconds += (now := time.monotonic()) - began
        began = now
        keeper.step_done()


def _step(job: Job, state: State, precision: Precision, batch: Batch, keeper: _Keeper) -> tuple[float, int]:
    """One optimizer step: its loss and samples; if it is not finite, weights and buffers stay as they were."""
    # Dropout is addressed, not consumed.
    precision.seed(stream_seed(job.seed, state.progress.step, world().rank))
    state.optimizer.zero_grad(set_to_none=True)
    state.hold_buffers()
    try:
        total, samples = _gradient(job, state, precision, batch, keeper)
        state.share_buffers()
        _check_gradient(job, state, batch)
    except NumericsError:
        state.undo()
        raise
    state.scaler.step(state.optimizer)
    state.scaler.update()
    job.objective.after_step(joined(batch) if world().several and job.objective.joins else None)
    state.follow_step()
    return total, samples


def _gradient(job: Job, state: State, precision: Precision, batch: Batch, keeper: _Keeper) -> tuple[float, int]:
    """The gradient of a whole batch, whose part here is computed in ``accumulate`` pieces; its loss and samples."""
    pieces = min(job.settings.accumulate, max(len(batch) // 2, 1))
    parts = [batch.narrow(*piece) for piece in _pieces(len(batch), pieces)] if pieces > 1 else [batch]
    counts = _counts(job, batch, keeper) if pieces > 1 or world().several else None
    samples = len(batch) if counts is None else int(counts["samples"])
    rows: list[list[float]] = []
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        weighing = Weighing(job.objective, state, steps_per_epoch(job.split, job.settings.batch_size), number == 1)
        compute = partial(_forward, job, state, precision, part, counts, weighing)
        loss, terms, student = state.replica.forward(compute, last=last)
        rows.append(_row(loss, terms, student, part, samples))
        if last and world().several:  # a process whose loss is not finite does not come here, nor do then the others
            rows = [world().summed([sum(column) for column in zip(*rows, strict=True)])]
        state.replica.backward(state.scaler.scale(loss if batch.counted else 0 * loss))
    for row in rows:
        state.sums += torch.tensor(row, dtype=state.sums.dtype)
    return sum(row[1] for row in rows), samples


def _counts(job: Job, batch: Batch, keeper: _Keeper) -> dict[str, Tensor]:
    """What the objective divides by: counts of the whole batch, over all processes."""
    mask = batch.target >= 0 if batch.target.ndim > 1 else None
    counts = job.objective.counts(batch.target, mask, mixed=batch.mixed)
    if not world().several:
        return counts
    found = keeper.summed([float(one) * batch.counted for one in counts.values()])
    return {name: torch.tensor(one).to(counts[name]) for name, one in zip(counts, found, strict=True)}


def _forward(
    job: Job,
    state: State,
    precision: Precision,
    batch: Batch,
    counts: dict[str, Tensor] | None,
    weighing: Weighing,
) -> tuple[Tensor, dict[str, Tensor], Outputs]:
    inputs, target = precision.inputs(batch.inputs), batch.target.to(precision.device)
    with precision.autocast():
        student = Outputs.of(state.called(job.preparation(inputs)))
        teacher = asked(job.teacher, batch, inputs) if job.objective.needs_teacher and job.teacher else None
    student = replace(student, features=state.tap.read())
    loss, terms = job.objective(
        student,
        teacher,
        target=target,
        index=batch.index,
        mask=target >= 0 if target.ndim > 1 else None,
        mixed=batch.mixed.to(precision.device) if batch.mixed else None,
        counts=counts,
        weights=weighing.weights,
        gather=joined(batch) if world().several and job.objective.joins else None,
        look=weighing.look if weighing.due else None,
    )
    return loss, terms, student


def _row(loss: Tensor, terms: dict[str, Tensor], student: Outputs, batch: Batch, samples: int) -> list[float]:
    """What a piece adds to the epoch's sums: batches, loss, right answers, labeled samples, then each term."""
    if not batch.counted:
        return [0.0] * (4 + len(terms))
    right = batch.right(student.logits.detach().argmax(dim=1).cpu())
    own = [float(term) for term in terms.values()]  # a piece's own part of the batch's mean
    return [len(batch) / samples, float(loss.detach()), *right, *own]


def _check_gradient(job: Job, state: State, batch: Batch) -> None:
    """Clip the gradient; refuse one that is not finite before it reaches the weights."""
    state.scaler.unscale_(state.optimizer)
    parameters = [parameter for parameter in state.trained.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if state.scaler.is_enabled() or bool(torch.isfinite(norm)):  # the scaler skips such a step by itself
        if job.settings.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, job.settings.clip, norm)
        return
    parts = (state.module, state.extras)
    bad = [name for part in parts for name, parameter in part.named_parameters() if _not_finite(parameter.grad)]
    raise NumericsError(
        f"the gradient of {', '.join(bad[:3]) or 'the weights'} is not finite in epoch {state.progress.epoch + 1} "
        f"(samples {batch.index[:8].tolist()}…), while the loss is; the step was not taken",
        cure="lower the rate, set clip: 1.0, or precision: fp32",
    )


def _not_finite(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool(torch.isfinite(gradient).all())


def _finish_epoch(job: Job, state: State, journal: Journal) -> None:
    """Validate, note the best weights, write the journal's line, and move to the next epoch."""
    progress, settings = state.progress, job.settings
    metrics = world().agreed(job.validate(state.evaluated))
    state.module.train()
    better = judge(state, settings, metrics)
    line = _line(job, state, metrics, better)
    progress.journal = journal.append(line)
    job.reporter.epoch({**line, "select": settings.select})
    progress.epoch, progress.batch = progress.epoch + 1, 0


def _line(job: Job, state: State, metrics: Mapping[str, float | None], better: bool) -> dict[str, Any]:
    count, loss, right, labeled, *terms = state.sums.tolist()
    names = [term.name for term in job.objective.terms]
    seconds = max(state.progress.seconds, 1e-9) / (state.progress.epoch + 1)
    return {
        "epoch": state.progress.epoch + 1,
        "step": state.progress.step,
        "train": {
            "loss": loss / max(count, 1e-9),
            "accuracy": right / labeled if labeled else None,
            "terms": dict(zip(names, (term / max(count, 1e-9) for term in terms), strict=True)),
            "weights": job.objective.weights_at(state.progress.epoch + 1, state.progress.factors),
            "gradient": dict(state.progress.gradient),
        },
        "validation": metrics,
        "rate": state.schedule.get_last_lr()[0],
        "seconds": seconds,
        "samples_per_second": len(job.split) / seconds,
        "selected": better,
    }


def _pieces(length: int, count: int) -> list[tuple[int, int]]:
    ends = [length * number // count for number in range(count + 1)]
    return [(start, end - start) for start, end in pairwise(ends)]


__all__ = ["CHECKPOINT", "Fit", "Job", "fit"]
