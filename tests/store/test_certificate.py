"""The certificate against numpy in float64; codecs made worse on purpose are refused before there is a manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import FileError, ResumeError
from limbeck.outputs import Outputs
from limbeck.store import Store
from limbeck.store.build import Plan, build
from limbeck.store.certificate import BOUNDS, certify, hold, line, outside, probe, rows, spread
from limbeck.store.layout import Layout
from limbeck.teachers import Ensemble, FunctionTeacher, as_teacher
from limbeck.training.precision import choose
from limbeck.training.progress import Silent

HERE = choose("cpu", "fp32", fast=False)
N, SHAPE = 48, (1, 6, 6)
INPUTS = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(0))
SPLIT = Split(INPUTS, torch.zeros(N, dtype=torch.int64), [f"c{one}" for one in range(100)], "train")


def net(classes: int, seed: int = 0, scale: float = 8.0) -> nn.Module:
    """A sharp linear teacher: its logits spread over many probabilities."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    with torch.no_grad():
        made[1].weight.mul_(scale)
    return made.eval()


def planned(teacher: Any, layout: Layout, views: int = 3) -> Plan:
    see = Seer(SPLIT, Sampler(SPLIT.targets), Views(shift=1, mixup=0.3), 5)
    return Plan(as_teacher(teacher), see, Replay(5, views), layout, HERE, {})


def built(tmp_path: Path, teacher: Any, layout: Layout, views: int = 3) -> tuple[Plan, Store]:
    plan = planned(teacher, layout, views)
    return plan, build(plan, tmp_path / "store", batch_size=40, told=Silent())


def softened(z: Any, temperature: float) -> Any:
    """numpy's softmax in float64."""
    e = np.exp((z - z.max(1, keepdims=True)) / temperature)
    return e / e.sum(1, keepdims=True)


def divergence(p: Any, q: Any) -> Any:
    return (p * (np.log(p) - np.log(q))).sum(1)


def every(plan: Plan) -> Tensor:
    """All views in the order of their addresses."""
    samples = torch.arange(N)
    return torch.cat([plan.see(samples, view)[0] for view in range(plan.replay.views)])


@pytest.mark.parametrize("classes", [2, 10, 64])
def test_all_logits_against_numpy(tmp_path: Path, classes: int) -> None:
    model = net(classes)
    plan, store = built(tmp_path, model, Layout(classes))
    live = model(every(plan)).detach().numpy()
    kept = live.astype(np.float16).astype(np.float64)
    found = store.certificate
    assert found["views"] == found["records"] == 3 * N
    for temperature in (1.0, 4.0):
        kl = divergence(softened(live.astype(np.float64), temperature), softened(kept, temperature))
        about = found["temperatures"][f"{temperature:g}"]
        np.testing.assert_allclose(about["kl_mean"], kl.mean(), rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(about["kl_p99"], np.percentile(kl, 99), rtol=1e-4, atol=1e-12)
    assert found["kl_mean"] == found["temperatures"]["1"]["kl_mean"] > found["temperatures"]["4"]["kl_mean"]
    np.testing.assert_allclose(found["largest_difference"], np.abs(live - kept).max(), rtol=1e-6)
    np.testing.assert_allclose(found["largest_logit"], np.abs(live).max(), rtol=1e-6)
    same = live.argmax(1) == kept.argmax(1)
    assert found["ties"] == (~same).sum()
    assert found["agreement"] == 1.0 == found["pixels"]
    assert found["bytes"] == 4 + 2 * classes


def test_the_largest_logits_and_the_rest_against_numpy(tmp_path: Path) -> None:
    """KL over K + 1 outcomes, and the probability beyond the K classes at each temperature."""
    model = net(100)
    plan, store = built(tmp_path, model, Layout(100, top=5, temperatures=(2.0, 1.0)))
    live = model(every(plan)).detach().numpy().astype(np.float64)
    ids = np.argsort(-live, axis=1, kind="stable")[:, :5]
    found = store.certificate
    for temperature in (2.0, 1.0):
        p = softened(live, temperature)
        named = np.take_along_axis(p, ids, 1)
        rest = 1 - named.sum(1)
        about = found["temperatures"][f"{temperature:g}"]
        np.testing.assert_allclose(about["beyond_mean"], rest.mean(), rtol=1e-4)
        np.testing.assert_allclose(about["beyond_p99"], np.percentile(rest, 99), rtol=1e-4)
        half = np.take_along_axis(live, ids, 1).astype(np.float16).astype(np.float64)
        others = np.sort(live, axis=1)[:, :-5]
        beyond = np.log(np.exp(others / temperature).sum(1)) - half[:, 0] / temperature
        beyond = beyond.astype(np.float16).astype(np.float64) + half[:, 0] / temperature
        logits = np.concatenate([half / temperature, beyond[:, None]], axis=1)
        kl = divergence(np.concatenate([named, rest[:, None]], axis=1), softened(logits, 1.0))
        np.testing.assert_allclose(about["kl_mean"], kl.mean(), rtol=1e-2)
    assert found["beyond_mean"] == max(one["beyond_mean"] for one in found["temperatures"].values())
    assert "beyond the classes" in line(found)


def test_the_rest_by_hand() -> None:
    """Logits ln 6, ln 3, ln 1 and 0 for two more: K = 2 keeps 9/12 at T = 1; at T = 2 it is by the square roots."""
    z = torch.tensor([6.0, 3.0, 1.0, 1.0, 1.0]).log()
    teacher = FunctionTeacher(lambda x: z.expand(len(x), -1), digest="by hand")
    layout = Layout(5, top=2, temperatures=(1.0, 2.0))
    plan = planned(teacher, layout, views=1)
    found = certify(_told(plan), teacher, plan.see, layout, HERE, views=1)
    assert found["temperatures"]["1"]["beyond_mean"] == pytest.approx(3 / 12)
    roots = 6**0.5, 3**0.5
    assert found["temperatures"]["2"]["beyond_mean"] == pytest.approx(3 / (sum(roots) + 3))


def test_an_ensemble_is_compared_as_its_mean_probability(tmp_path: Path) -> None:
    models = net(7), net(7, seed=1)
    plan, store = built(tmp_path, Ensemble(models, (1, 3)), Layout(7, 2, (0.25, 0.75)))
    inputs = every(plan)
    live = [one(inputs).detach().numpy().astype(np.float64) for one in models]
    kept = [one.astype(np.float32).astype(np.float16).astype(np.float64) for one in live]
    for temperature in (1.0, 4.0):
        p, q = (0.25 * softened(a, temperature) + 0.75 * softened(b, temperature) for a, b in (live, kept))
        about = store.certificate["temperatures"][f"{temperature:g}"]
        np.testing.assert_allclose(about["kl_mean"], divergence(p, q).mean(), rtol=2e-2)


def _told(plan: Plan, worse: Callable[[Tensor], Tensor] = lambda x: x, moved: int = 0) -> Any:
    """What would be kept if it was: the teacher's answers, made worse, or those of other addresses."""
    from limbeck.data.replay import pixel_checksum
    from limbeck.store.codec import encode

    def kept(addresses: Any) -> Any:
        at = torch.from_numpy(addresses)
        inputs = plan.see(at % N, at // N)[0]
        pixels = pixel_checksum(inputs)
        at = (at + moved) % (N * plan.replay.views)
        said = plan.teacher(plan.see(at % N, at // N)[0])
        return encode(plan.layout, Outputs(worse(said.logits)), pixels)

    return kept


WORSE: dict[str, Callable[[Tensor], Tensor]] = {
    "rounded to halves": lambda z: (z * 2).round() / 2,
    "another temperature": lambda z: z * 0.8,
    "one class lost": lambda z: torch.cat([z[:, :1] * 0, z[:, 1:]], dim=1),
    "probabilities": lambda z: torch.softmax(z, dim=1),
    "two classes swapped": lambda z: z[:, [1, 0, *range(2, z.shape[1])]],
}


@pytest.mark.parametrize("fault", WORSE)
@pytest.mark.parametrize("layout", [Layout(20), Layout(20, top=8, temperatures=(1.0,))], ids=["dense", "top"])
def test_a_worse_codec_is_out_of_its_bounds(layout: Layout, fault: str) -> None:
    plan = planned(net(20), layout)

    def measured(kept: Any) -> dict[str, Any]:
        return certify(kept, plan.teacher, plan.see, layout, HERE, views=3)

    assert not outside(measured(_told(plan)))
    found = measured(_told(plan, WORSE[fault]))
    assert any("KL(live ‖ kept)" in one for one in outside(found))
    with pytest.raises(FileError, match=r"^s does not keep what the teacher says: KL.*\n  cure: "):
        hold(found, Path("s"))


@pytest.mark.parametrize(("moved", "what"), [(1, "the next sample"), (N, "the next view")])
def test_rows_of_other_addresses_are_out_of_their_bounds(moved: int, what: str) -> None:
    plan = planned(net(20), Layout(20))
    found = certify(_told(plan, moved=moved), plan.teacher, plan.see, plan.layout, HERE, views=3)
    assert outside(found), what


def test_other_pixels_are_out_of_their_bounds() -> None:
    plan = planned(net(20), Layout(20))
    other = dataclasses.replace(plan.see, seed=6)
    found = certify(_told(plan), plan.teacher, other, plan.layout, HERE, views=3)
    assert found["pixels"] == 0.0
    assert "made of the same pixels" in outside(found)[0]


class Restless(nn.Module):
    """A teacher that never says the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = net(10)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.inside(x)
        return said + torch.randn_like(said)


def test_what_a_restless_teacher_said_is_no_store_and_stays_for_inspection(tmp_path: Path) -> None:
    torch.manual_seed(3)
    with pytest.raises(FileError, match=r"KL\(live ‖ kept\) is .* the bound is 0\.001.*did not give the same answers"):
        built(tmp_path, Restless(), Layout(10))
    there = sorted(one.name for one in (tmp_path / "store").iterdir())
    assert "manifest.json" not in there
    assert any(one.startswith("shard-00000") for one in there)
    with pytest.raises(FileError, match="not finished"):
        Store.open(tmp_path / "store")


def test_logits_too_large_for_half_precision_are_named_as_the_cause(tmp_path: Path) -> None:
    model = net(10)
    with torch.no_grad():
        model[1].bias.add_(6000.0)  # type: ignore[index]  # the softmax is the same; half precision has steps of 4 here
    with pytest.raises(FileError, match=r"logits reach 60\d\d, which half precision rounds by 2"):
        built(tmp_path, model, Layout(10))


def test_ties_within_the_rounding_count_as_agreement_and_are_counted() -> None:
    """10.001 and 10.002 are one number in half precision, whose step there is 1/128; 10 and 10.02 are two."""

    def certified(first: float, second: float) -> dict[str, Any]:
        z = torch.tensor([first, second, 0.0])
        teacher = FunctionTeacher(lambda x: z.expand(len(x), -1), digest="tie")
        plan = planned(teacher, Layout(3), views=1)
        return certify(_told(plan), teacher, plan.see, plan.layout, HERE, views=1)

    tie = certified(10.001, 10.002)
    assert (tie["agreement"], tie["ties"]) == (1.0, N)
    agreed = certified(10.002, 10.001)  # of one number in half precision the first is taken, which it is
    assert (agreed["agreement"], agreed["ties"]) == (1.0, 0)
    apart = certified(10.0, 10.02)
    assert (apart["agreement"], apart["ties"]) == (1.0, 0)


def test_a_swap_that_rounding_does_not_explain_is_no_tie() -> None:
    z = torch.tensor([10.0, 10.02, 0.0])
    teacher = FunctionTeacher(lambda x: z.expand(len(x), -1), digest="swap")
    plan = planned(teacher, Layout(3), views=1)
    found = certify(_told(plan, lambda z: z[:, [1, 0, 2]]), teacher, plan.see, plan.layout, HERE, views=1)
    assert (found["agreement"], found["ties"]) == (0.0, 0)
    assert any("same first class" in one for one in outside(found))


@pytest.mark.parametrize(
    ("key", "value"),
    [("kl_mean", 1.01e-3), ("kl_p99", 1.01e-2), ("agreement", 0.989), ("pixels", 0.99), ("kl_mean", float("nan"))],
)
def test_each_bound(key: str, value: float) -> None:
    edge = {"kl_mean": 1e-3, "kl_p99": 1e-2, "agreement": 0.99, "pixels": 1.0, "features": {"a": 1e-2}, "views": 9}
    assert outside(edge) == []
    assert len(outside({**edge, key: value})) == 1
    assert len(outside({**edge, "features": {"a": 0.011}})) == 1


@pytest.mark.parametrize(("records", "count"), [(10, 512), (512, 512), (513, 512), (100_000, 512), (10**10, 64)])
def test_addresses_are_spread_over_the_whole_store(records: int, count: int) -> None:
    found = spread(records, count)
    assert len(found) == min(records, count)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, spread(records, count))
    parts = found * len(found) // records  # one of each equal part, up to the rounding of the edges
    assert np.abs(parts - np.arange(len(found))).max() <= 1
    assert found[0] >= 0
    assert found[-1] < records


def test_it_is_in_the_manifest_and_told_in_a_line(tmp_path: Path) -> None:
    said: list[str] = []

    class Listens(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    plan = planned(net(10), Layout(10))
    store = build(plan, tmp_path / "s", told=Listens())
    kept = json.loads((tmp_path / "s" / "manifest.json").read_text())["certificate"]
    assert kept == dict(store.certificate) == dict(Store.open(tmp_path / "s").certificate)
    assert kept["bounds"] == BOUNDS
    assert sum("kept as the teacher says it: KL" in one and "24 bytes a view" in one for one in said) == 1
    listed = dict(rows(kept))
    assert listed["bytes a view"] == "24"
    assert listed["asked about again"] == f"{3 * N} of {3 * N} views"


# Before a training: the views and the teacher of today.


def test_a_probe_of_the_same_is_quiet(tmp_path: Path) -> None:
    plan, store = built(tmp_path, net(10), Layout(10))
    assert probe(store, plan.see) == {}
    found = probe(store, plan.see, plan.teacher, HERE)
    assert 64 <= found["views"] < store.manifest.records


class Sneaky(nn.Sequential):
    """The same parts and weights as the teacher; what it does with them can be changed."""

    shift = 0.0

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = super().forward(x)
        return said * (1 + self.shift)


def test_a_teacher_whose_code_changed_while_its_weights_did_not_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = built(tmp_path, Sneaky(*net(10)), Layout(10))
    monkeypatch.setattr(Sneaky, "shift", 0.2)
    store.check(plan.identity)  # nothing that can be read of it differs
    with pytest.raises(ResumeError, match=r"the teacher says something else now than was kept of it: KL"):
        probe(store, plan.see, plan.teacher, HERE)
    with pytest.raises(ResumeError, match="the teacher says something else now"):
        build(plan, tmp_path / "store", told=Silent())


def test_every_view_and_shard_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.store.filling._LEAST", 16)
    monkeypatch.setattr("limbeck.store.filling._SHARDS", 9)
    plan, store = built(tmp_path, net(10), Layout(10))
    assert len(store.manifest.shards) > 3
    seen: list[Tensor] = []

    class Watched(Seer):
        def __call__(self, index: Tensor, view: Any) -> Any:
            seen.append(view * N + index)
            return super().__call__(index, view)

    probe(store, Watched(plan.see.split, plan.see.sampler, plan.see.views, plan.see.seed), count=1)
    addresses = torch.cat(seen)
    assert set((addresses // N).tolist()) == {0, 1, 2}
    assert len(set((addresses // store.manifest.per_shard).tolist())) == len(store.manifest.shards)
