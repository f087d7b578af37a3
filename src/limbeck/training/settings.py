"""What a training is told: plain values with defaults that work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limbeck.data.replay import Replay
from limbeck.data.views import Views


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of torch's by name: ``sgd``, ``adam`` or ``adamw``.

    ``lr`` None takes the usual start: 0.05 for SGD, 0.001 for Adam and AdamW. ``weight_decay`` None takes 5e-4 for SGD,
    0 for Adam, 0.01 for AdamW. ``momentum`` and ``nesterov`` concern SGD only.
    """

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    nesterov: bool = False


@dataclass(frozen=True)
class Schedule:
    """How the rate changes: ``cosine`` to zero, ``step`` by ``gamma`` at the ``milestones`` (epochs), ``constant``.

    ``warmup`` is in epochs; the rate rises linearly over it.
    """

    name: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after ``patience`` epochs in which the selected metric did not improve by more than ``min_delta``."""

    patience: int
    min_delta: float = 0.0


@dataclass(frozen=True)
class Transfer:
    """Start from trained weights: the head alone for ``freeze`` epochs, then all, the rest at ``rate`` × the rate.

    A new head's first gradients would distort the features that it starts from (Kumar et al., 2022,
    https://arxiv.org/abs/2202.10054); one epoch is the usual pause (fastai's ``fine_tune``), a tenth the usual
    part of the rate (DETR, https://arxiv.org/abs/2005.12872; Lightning's ``BackboneFinetuning``).
    ``head`` names the head; None: it is found.
    """

    freeze: int = 1
    rate: float = 0.1
    head: str | None = None


@dataclass(frozen=True)
class Sparsity:
    """Weights that are set to zero by magnitude while a training goes on, and stay zero.

    Args:
        final: share of the weights that are zero in the end, in [0, 1); None: those that are zero at the start.
        begin: share of the training after which weights begin to go.
        end: share of the training after which no more go; 0: all go at once, before the first step.
        every: steps between two times that weights go.
        scope: ``global``: weights of all layers are compared with each other; ``uniform``: each layer loses its share.
        keep: names of modules that keep all weights; the head does anyway.
    """

    final: float | None = None
    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    scope: Literal["global", "uniform"] = "global"
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """One training.

    Args:
        epochs: passes over the training split.
        batch_size: samples of one optimizer step.
        accumulate: number of pieces that a batch is computed in; less memory, the same gradient.
        clip: largest norm of the gradient, or None.
        select: validation metric that chooses the selected epoch; see ``limbeck.evaluation.names``.
        transfer: train the head first and the backbone at a lower rate, or None: all alike.
        ema: decay of an exponential moving average of the weights that is evaluated and kept instead, or None.
        views: augmentation of the training inputs.
        replay: see the same few views over and over, as a store of teacher outputs keeps them; None: new ones in
            every epoch.
        sparsity: weights that are set to zero while it goes on, or None.
        sampling: ``none``: each training sample once an epoch; ``balanced``: drawn with replacement, so that classes
            are equally likely; samples without a label keep their part.
        workers: processes that prepare batches; the batches are the same at any number.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: run the student's steps through ``torch.compile``; taps stay open, see ``docs/layers.md``.
        fast: channels-last memory and automatic precision where the hardware has it; False: plain float32.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        checkpoint_seconds: least time between two checkpoints.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    accumulate: int = 1
    clip: float | None = None
    early_stopping: EarlyStopping | None = None
    select: str = "accuracy"
    transfer: Transfer | None = None
    ema: float | None = None
    views: Views = field(default_factory=Views)
    replay: Replay | None = None
    sparsity: Sparsity | None = None
    sampling: Literal["none", "balanced"] = "none"
    workers: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    fast: bool = True
    device: str = "auto"
    checkpoint_seconds: float = 15.0
