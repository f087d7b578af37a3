"""Weights that go to zero and stay there: by hand, against numpy, through crashes, in the stored tensors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from limbeck.data.order import permutation
from limbeck.errors import ModelError, RecipeError
from limbeck.training.loop import Job, fit
from limbeck.training.settings import EarlyStopping, Optimizer, Sparsity
from limbeck.training.sparsity import (
    Thinning,
    apply_masks,
    magnitude_masks,
    polynomial,
    sparsity_of,
    thinned_weights,
)

Make = Callable[..., Job]


def deep(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def zeros(tensors: dict[str, Any], names: list[str]) -> float:
    flat = np.concatenate([np.asarray(tensors[name]).ravel() for name in names])
    return float((flat == 0).mean())


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.6), st.integers(0, 50), st.sampled_from(["global", "uniform"]))
def test_masks_leave_what_numpy_finds_largest(sparsity: float, seed: int, scope: str) -> None:
    module = deep(seed)
    names = thinned_weights(module)
    assert names == ["0.weight", "3.weight"]
    masks = magnitude_masks(module, sparsity, names, scope=scope)
    sizes = {name: module.get_parameter(name).detach().abs().numpy() for name in names}
    every = np.sort(np.concatenate([one.ravel() for one in sizes.values()]))
    for name, one in sizes.items():
        ranked = every if scope == "global" else np.sort(one.ravel())
        count = round(sparsity * len(ranked))
        expected = one > ranked[count - 1] if count else np.ones_like(one, bool)
        assert np.array_equal(masks[name].numpy(), expected)


def test_equal_weights_go_in_their_order_and_exactly_so_many() -> None:
    module = nn.Linear(10, 1)
    with torch.no_grad():
        module.weight.fill_(1.0)
    masks = magnitude_masks(module, 0.3, ["weight"])
    assert masks["weight"].tolist() == [[False] * 3 + [True] * 7]


def test_a_schedule_against_its_formula() -> None:
    """Zhu and Gupta's figure: cubic between t0 and t0 + n dt, constant outside."""
    done = np.linspace(0, 1, 101)
    found = np.array([polynomial(float(t), 0.25, 0.75, 0.2, 0.8) for t in done])
    inside = 0.75 + (0.25 - 0.75) * (1 - (done - 0.2) / 0.6) ** 3
    assert np.allclose(found, np.where(done < 0.2, 0.25, np.where(done >= 0.8, 0.75, inside)))
    assert (np.diff(found) >= 0).all()


def test_one_shot_training_is_a_plain_loop_with_masks(make_job: Make, nets: Any) -> None:
    """SGD with momentum: masked weights stay zero, the others move as if these weights were not there."""
    job = make_job(nets["dense"](), seed=3, epochs=2, sparsity=Sparsity(0.6, end=0.0))
    plain = nets["dense"]()
    flat = plain[1].weight.detach().abs().flatten()
    mask = (flat > flat.sort().values[round(0.6 * len(flat)) - 1]).reshape(plain[1].weight.shape)
    with torch.no_grad():
        plain[1].weight.mul_(mask)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    for epoch in range(2):
        for index in permutation(3, epoch, 40).split(8):
            loss = F.cross_entropy(plain((job.split.inputs[index] - 0.5) * 4.0), job.split.targets[index])
            optimizer.zero_grad()
            loss.backward()
            plain[1].weight.grad *= mask
            optimizer.step()
    fitted = fit(job)
    for name, value in plain.state_dict().items():
        assert torch.allclose(fitted.last[name], value, atol=1e-6), name
    assert torch.equal(fitted.last["1.weight"] != 0, mask)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_growing_sparsity_ends_exactly_and_never_gives_a_weight_back(
    make_job: Make, recorder: Any, optimizer: str, ema: float | None
) -> None:
    seen: list[torch.Tensor] = []
    module = deep()

    def look(step: int) -> None:
        seen.append(
            torch.cat([module.get_parameter(name).detach().flatten() == 0 for name in ("0.weight", "3.weight")])
        )

    job = make_job(
        module, epochs=6, optimizer=Optimizer(optimizer), ema=ema, reporter=recorder(look),
        sparsity=Sparsity(0.75, begin=0.1, end=0.7, every=3),
    )  # fmt: skip
    fitted = fit(job)
    share = [float(one.float().mean()) for one in seen]
    assert all(bool((later | ~earlier).all()) for earlier, later in pairwise(seen))
    assert share[0] == 0.0
    assert share[20] == share[-1] == pytest.approx(0.75, abs=1 / 360)  # end: step 21 of 30
    assert len(set(share)) >= 5
    names = ["0.weight", "3.weight"]
    assert zeros(fitted.last, names) == share[-1]
    assert zeros(fitted.selected, names) == share[-1], "an epoch with more weights is not the best one"
    assert fitted.selected_epoch >= 5


def test_what_an_optimizer_remembers_of_a_masked_weight_is_nothing() -> None:
    module = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    mask = torch.tensor([[True, False, True, False]])
    apply_masks(module, {"weight": mask}, optimizer)
    state = optimizer.state[module.weight]
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[key] != 0, mask)
    assert int(state["step"]) == 1


def test_early_stopping_waits_until_no_more_weights_go(make_job: Make) -> None:
    sparsity = Sparsity(0.5, end=0.6, every=1)
    fitted = fit(make_job(deep(), epochs=10, early_stopping=EarlyStopping(1), sparsity=sparsity))
    assert (fitted.selected_epoch, fitted.epochs) == (6, 7)  # of ten alike the first that is settled, and one more


def test_zeros_that_were_there_are_kept(make_job: Make) -> None:
    module = deep()
    apply_masks(module, magnitude_masks(module, 0.5, thinned_weights(module)))
    before = {name: module.get_parameter(name).detach() == 0 for name in thinned_weights(module)}
    fitted = fit(make_job(module, epochs=2, sparsity=Sparsity()))
    for name, mask in before.items():
        assert torch.equal(fitted.last[name] == 0, mask)
    with pytest.raises(RecipeError, match=r"50\.0% of the weights are zero already"):
        Thinning(module, Sparsity(0.25), 10)


class Crash(Exception):
    """What kills the training in the middle."""


def test_a_crash_is_resumed_to_the_same_weights(make_job: Make, recorder: Any, same: Any) -> None:
    def run(folder: str, at: int | None = None) -> Any:
        def act(step: int) -> None:
            if step == at:
                raise Crash

        return fit(make_job(
            deep(), folder=folder, epochs=4, optimizer=Optimizer("adamw"), ema=0.9, checkpoint_seconds=0.0,
            reporter=recorder(act), sparsity=Sparsity(0.8, begin=0.1, end=0.8, every=4),
        ))  # fmt: skip

    whole = run("whole")
    for step in (1, 3, 8, 9, 16, 19):
        with pytest.raises(Crash):
            run(f"crash{step}", step)
        found = run(f"crash{step}")
        assert same(found.last, whole.last), step
        assert same(found.selected, whole.selected), step


def test_three_quarters_zero_compress_to_less_than_half(make_job: Make) -> None:
    module = deep()
    dense = len(gzip.compress(module[3].weight.detach().numpy().tobytes()))
    fitted = fit(make_job(module, epochs=2, sparsity=Sparsity(0.75, end=0.0, scope="uniform")))
    assert len(gzip.compress(fitted.last["3.weight"].numpy().tobytes())) < 0.45 * dense


def test_what_can_not_be_is_told() -> None:
    module = deep()
    with torch.no_grad():
        module[0].weight.mul_(1e-6)
    with pytest.raises(RecipeError, match=r"leaves nothing of '0\.weight'"):
        magnitude_masks(module, 0.5, thinned_weights(module))
    with pytest.raises(ModelError, match="no module 'x' to keep"):
        thinned_weights(module, ["x"])
    with pytest.raises(ModelError, match="no weights that could be set to zero"):
        thinned_weights(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    for wrong in (-0.1, 1.0):
        with pytest.raises(RecipeError, match=r"in \[0, 1\)"):
            magnitude_masks(module, wrong, ["0.weight"])


def test_layers_that_are_kept_keep_all() -> None:
    module = deep()
    Thinning(module, Sparsity(0.5, end=0.0, keep=("3",)), 10)
    assert sparsity_of(module, ["0.weight"]) == 0.5
    assert sparsity_of(module, ["3.weight", "6.weight"]) == 0.0


def test_settings_without_it_are_as_before(make_job: Make, same: Any) -> None:
    one = fit(make_job(deep(), folder="a", epochs=2))
    other = make_job(deep(), folder="b", epochs=2)
    assert other.settings.sparsity is None
    assert same(one.last, fit(replace(other)).last)
    lines = [json.loads(line) for line in (other.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
