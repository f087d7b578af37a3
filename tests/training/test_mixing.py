"""A training with MixUp, CutMix and balanced sampling: pieces, workers and resuming change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.objective import Objective, supervised, term
from limbeck.teachers import FunctionTeacher
from limbeck.training.loop import Job, fit
from limbeck.training.settings import EarlyStopping

Make = Callable[..., Job]
VIEWS = Views(shift=1, mixup=0.4, cutmix=1.0)


def half_labeled() -> Split:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (40,), generator=generator)
    targets[::3] = -1
    return Split(torch.rand(40, 1, 8, 8, generator=generator), targets, ["0", "1", "2"], "train")


def made(make_job: Make, folder: str, **changes: Any) -> Job:
    weight = torch.randn(64, 3, generator=torch.Generator().manual_seed(3))
    teacher = FunctionTeacher(lambda x: x.flatten(1) @ weight)
    objective = Objective([supervised(0.3), term("kl", 0.7)])
    return make_job(
        folder=folder, split=half_labeled(), objective=objective, teacher=teacher, **{"views": VIEWS, **changes}
    )


def test_pieces_of_a_mixed_batch_sum_to_it(make_job: Make) -> None:
    whole, pieces = (fit(made(make_job, f"{n}", accumulate=n, epochs=3)).last for n in (1, 3))
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampling", ["none", "balanced"])
def test_workers_change_nothing(make_job: Make, same: Any, sampling: str) -> None:
    one, other = (fit(made(make_job, f"{n}", workers=n, epochs=2, sampling=sampling)).last for n in (0, 2))
    assert same(one, other)


class Crash(Exception):
    """What kills the training in the middle."""


@pytest.mark.parametrize("sampling", ["none", "balanced"])
def test_a_crash_is_resumed_to_the_same_weights(make_job: Make, recorder: Any, same: Any, sampling: str) -> None:
    arguments: dict[str, Any] = {"epochs": 3, "sampling": sampling, "checkpoint_seconds": 0.0}
    expected = fit(made(make_job, "whole", **arguments)).last

    def act(step: int) -> None:
        if step == 7:
            raise Crash

    with pytest.raises(Crash):
        fit(made(make_job, "crash", reporter=recorder(act), **arguments))
    assert same(fit(made(make_job, "crash", **arguments)).last, expected)


def test_mixing_and_sampling_change_what_is_learned(make_job: Make, same: Any) -> None:
    plain = fit(made(make_job, "plain", views=Views(shift=1))).last
    assert not same(plain, fit(made(make_job, "mixed")).last)
    assert not same(plain, fit(made(make_job, "balanced", views=Views(shift=1), sampling="balanced")).last)


def test_the_journals_accuracy_counts_shares(make_job: Make, recorder: Any) -> None:
    told = recorder()
    fit(made(make_job, "told", reporter=told, epochs=2, early_stopping=EarlyStopping(5)))
    assert all(0 <= line["train"]["accuracy"] <= 1 for line in told.lines)
