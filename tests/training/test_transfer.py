"""Transfer: the backbone stands still, then moves at its own rate; and none of it depends on where a run was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.files import Journal
from limbeck.training.loop import CHECKPOINT, Job, fit
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.settings import Optimizer, Schedule, Settings, Transfer
from limbeck.training.transfer import Backbone

MakeJob = Callable[..., Job]
Same = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], bool]
OPTIMIZERS = [
    Optimizer("sgd", lr=0.1, weight_decay=0.1),
    Optimizer("adam", weight_decay=0.1),
    Optimizer("adamw", weight_decay=0.1),
]


def net(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3)
    )


def backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("5.")}


def head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith("5.")}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_backbone_is_bit_identical_while_frozen_and_moves_afterwards(
    make_job: MakeJob, same: Same, optimizer: Optimizer, ema: float | None
) -> None:
    start = {key: value.clone() for key, value in net().state_dict().items()}
    plain: dict[str, Any] = {"optimizer": optimizer, "ema": ema, "transfer": Transfer(freeze=2)}
    frozen = fit(make_job(net(), folder="frozen", epochs=2, **plain)).last
    assert same(backbone(frozen), backbone(start))  # weights, and BatchNorm's averages and its count
    assert not any(torch.equal(value, start[key]) for key, value in head(frozen).items())
    moved = fit(make_job(net(), folder="moved", epochs=3, **plain)).last
    assert not any(torch.equal(value, start[key]) for key, value in backbone(moved).items() if value.ndim)


def test_the_head_learns_as_if_the_backbone_were_not_there(make_job: MakeJob, same: Same) -> None:
    """The same epochs with parameters that the user froze, and BatchNorm held still by hand."""
    still = net()
    for parameter in list(still.parameters())[:-2]:
        parameter.requires_grad_(False)
    train = still.train
    still.train = lambda mode=True: (train(mode), still[1].eval())[0]  # type: ignore[method-assign,assignment]
    expected = fit(make_job(still, folder="by hand", epochs=2)).last
    found = fit(make_job(net(), folder="transfer", epochs=2, transfer=Transfer(freeze=2))).last
    assert same(found, expected)


def test_the_rates_have_the_ratio_in_every_step_of_the_schedule() -> None:
    module = net()
    part = Backbone(module, Transfer(rate=0.25))
    optimizer = build_optimizer(Optimizer("sgd", lr=0.5), part.head, part.parameters, 0.25)
    schedule = build_schedule(optimizer, Schedule("cosine", warmup=1), 3, 4)
    for _ in range(12):
        slow, fast = optimizer.param_groups[1]["lr"], optimizer.param_groups[0]["lr"]
        assert slow == 0.25 * fast  # exact: a power of two
        optimizer.step()
        schedule.step()
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]


def test_the_distances_gone_have_the_ratio_of_the_rates(make_job: MakeJob) -> None:
    """With one gradient for both and no momentum, one step of each goes as far as its rate."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Linear(1, 3, bias=False), nn.Linear(1, 3, bias=False)
            for one in (self.body, self.fc):
                nn.init.zeros_(one.weight)

        def forward(self, x: Tensor) -> Tensor:
            ones = torch.ones(len(x), 1)
            return self.body(ones) + self.fc(ones)

    plain = Optimizer("sgd", lr=0.1, momentum=0.0, weight_decay=0.0)
    last = fit(make_job(Sum(), optimizer=plain, transfer=Transfer(freeze=0, rate=0.1))).last
    assert float(last["fc.weight"].abs().max()) > 0
    torch.testing.assert_close(last["body.weight"], 0.1 * last["fc.weight"])


@pytest.mark.parametrize(("optimizer", "ema"), [(OPTIMIZERS[0], None), (OPTIMIZERS[1], None), (OPTIMIZERS[2], 0.9)])
def test_killed_after_any_step_and_started_again_it_ends_in_the_same_bits(
    make_job: MakeJob, same: Same, recorder: Any, optimizer: Optimizer, ema: float | None
) -> None:
    plain: dict[str, Any] = {
        "epochs": 3,
        "optimizer": optimizer,
        "ema": ema,
        "schedule": Schedule("cosine", warmup=0.5),
        "transfer": Transfer(freeze=1, rate=0.1),
        "checkpoint_seconds": 0.0,
    }
    expected = fit(make_job(net(), folder="whole", **plain))

    class Killed(Exception):
        pass

    for stop in (3, 5, 6, 14):  # 5 steps an epoch: within, at, and after the boundary

        def act(steps: int, stop: int = stop) -> None:
            if steps == stop + 1:
                raise Killed

        folder = f"killed{stop}"
        with pytest.raises(Killed):
            fit(make_job(net(), folder=folder, reporter=recorder(act), **plain))
        resumed = fit(make_job(net(seed=9), folder=folder, **plain))  # from the checkpoint alone
        assert same(resumed.last, expected.last), stop
        assert same(resumed.selected, expected.selected), stop


def test_the_module_is_left_as_it_was_given(make_job: MakeJob, recorder: Any) -> None:
    module = net()
    module[0].bias.requires_grad_(False)

    def stop(steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_job(module, transfer=Transfer(freeze=1), reporter=recorder(stop)))
    assert [name for name, one in module.named_parameters() if not one.requires_grad] == ["0.bias"]
    before = module[0].bias.clone()
    fit(make_job(module, folder="again", epochs=3, transfer=Transfer(freeze=1)))
    assert torch.equal(module[0].bias, before)  # frozen by the user, before and after


def test_what_keeps_buffers_stands_still_but_for_the_head_and_what_it_is_in() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1))
            self.body = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
            self.head = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))

    module = Odd().train()
    Backbone(module, Transfer(freeze=1, head="head")).begin(0)
    assert {name for name, one in module.named_modules() if not one.training} == {"body.1"}


def test_an_unknown_head_is_answered_with_the_nearest(make_job: MakeJob) -> None:
    module = nn.Sequential()
    module.add_module("features", nn.Flatten())
    module.add_module("fc", nn.Linear(64, 3))
    with pytest.raises(ModelError, match=r"no module 'fcc'.*did you mean 'fc'"):
        fit(make_job(module, transfer=Transfer(head="fcc")))
    assert not make_job(module).folder.joinpath(CHECKPOINT).exists()


def test_a_whole_training_frozen_is_a_linear_probe(make_job: MakeJob, same: Same) -> None:
    job = make_job(net(), epochs=2, transfer=Transfer(freeze=2))
    start = backbone({key: value.clone() for key, value in job.module.state_dict().items()})
    assert same(backbone(fit(job).selected), start)
    assert [line["rate"] for line in Journal(job.folder / "metrics.jsonl").read()] == [0.1, 0.1]  # the head's


def test_without_a_transfer_nothing_is_grouped() -> None:
    assert Settings().transfer is None
    assert len(build_optimizer(Optimizer(), net().parameters()).param_groups) == 1
