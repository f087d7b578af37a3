"""Large maps of logits: parts give what the whole gives, value and gradient, and hold less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from limbeck.errors import ModelError
from limbeck.losses import TABLE, compares, declared, kl
from limbeck.objective import Objective, large, supervised, term
from limbeck.objective.balance import gradient_norms
from limbeck.objective.large import by_parts
from limbeck.outputs import Outputs

B, C, H, W = 5, 6, 12, 8
RECIPE: dict[str, Any] = {
    "supervised": {"weight": 0.5, "class_weights": [0.5, 1.0, 1.5, 1.0, 1.0, 1.0]},
    "dice": 0.3, "focal": 0.2, "pixel_kl": {"weight": 1.0, "temperature": 2.0}, "kl": 0.5, "cwd": 1.0,
}  # fmt: skip
SIZES = {"samples": 2 * C * H * W, "one sample": C * H * W, "rows": 3 * C * W, "a row": 7}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed: int = 3) -> Tensor:
    y = torch.randint(-1, C, (B, H, W), generator=torch.Generator().manual_seed(seed))
    y[1] = -1
    return y


@pytest.fixture(params=list(SIZES.values()), ids=list(SIZES))
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts each loss of logits was taken in."""
    found: list[int] = []
    real = large.computed_by_parts

    def counting(whole: Any, parts: Any, *more: Any) -> Tensor:
        found.append(len(parts))
        return real(whole, parts, *more)

    monkeypatch.setattr("limbeck.objective.links.computed_by_parts", counting)
    return found


def computed(objective: Objective, z: Tensor, teacher: Outputs, y: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    """Each term's value, and the gradient of the sum."""
    z = z.detach().clone().requires_grad_()
    total, values = objective(Outputs(z), teacher, target=y, mask=y >= 0, **more)
    (gradient,) = torch.autograd.grad(total, z)
    return torch.stack([total.detach(), *values.values()]), gradient


def both(
    monkeypatch: pytest.MonkeyPatch, size: int, objective: Objective, z: Tensor, teacher: Outputs, y: Tensor
) -> None:
    """Values and gradients agree to some units of the last place."""
    whole = computed(objective, z, teacher, y)
    monkeypatch.setattr(large, "LARGE", size)
    found = computed(objective, z, teacher, y)
    assert whole[1].abs().max() > 1e-6
    torch.testing.assert_close(found[0], whole[0], rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(found[1], whole[1], rtol=1e-5, atol=2e-8)
    again = computed(objective, z, teacher, y)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True)), "the same bits each time"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_parts_are_the_whole(
    monkeypatch: pytest.MonkeyPatch, size: int, layout: torch.memory_format, parts: list[int]
) -> None:
    z = drawn(B, C, H, W).to(memory_format=layout)
    both(monkeypatch, size, Objective.from_recipe(RECIPE), z, Outputs(drawn(B, C, H, W, seed=1)), labels())
    assert len(parts) == 2 * len(RECIPE), "of each term, twice, and none below the size"
    assert min(parts) == (3 if size == SIZES["samples"] else B)
    assert (
        max(parts)
        == {"samples": 3, "one sample": B, "rows": 4 * B, "a row": H * B}[
            next(name for name, one in SIZES.items() if one == size)
        ]
    )


@pytest.mark.parametrize("name", [name for name, loss in TABLE.items() if declared(loss).site == "logits"])
def test_every_loss_of_logits_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    z, teacher = drawn(B, C, H, W), Outputs(drawn(B, C, H, W, seed=1))
    both(monkeypatch, size, Objective([term(name, 1.0)]), z, teacher, labels())


def test_a_teacher_of_another_size_and_an_ensemble(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    z, objective = drawn(B, C, H, W), Objective([term("pixel_kl", 1.0, temperature=3.0), term("cwd", 1.0)])
    both(monkeypatch, size, objective, z, Outputs(drawn(B, C, 2 * H, H, seed=1)), labels())
    monkeypatch.undo()
    members = torch.stack([drawn(B, C, H, W, seed=one) for one in (4, 5, 6)])
    ensemble = Outputs.ensemble(members, torch.tensor([0.5, 0.3, 0.2]))
    both(monkeypatch, size, Objective.from_recipe(RECIPE), z, ensemble, labels())


def test_an_ensemble_in_parts_is_the_mean_of_softened_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE", 100)
    members, share = torch.stack([drawn(B, C, H, W, seed=one) for one in (4, 5)]), torch.tensor([0.75, 0.25])
    z, y = drawn(B, C, H, W), labels()
    p = torch.einsum("m,mbchw->bchw", share.double(), torch.softmax(members.double() / 2, 2))
    expected = 4 * (p * (p.log() - torch.log_softmax(z.double() / 2, 1))).sum(1)[y >= 0].mean()
    objective = Objective([term("pixel_kl", 1.0, temperature=2.0)])
    total, _ = objective(Outputs(z), Outputs.ensemble(members, share), target=y, mask=y >= 0)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_pieces_of_a_batch_in_parts_are_the_batch(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    objective, z, z_t, y = Objective.from_recipe(RECIPE), drawn(B, C, H, W), drawn(B, C, H, W, seed=1), labels()
    whole = computed(objective, z, Outputs(z_t), y)
    monkeypatch.setattr(large, "LARGE", size)
    counts = objective.counts(y, y >= 0)
    cut = [slice(0, 2), slice(2, 3), slice(3, 5)]
    pieces = [computed(objective, z[one], Outputs(z_t[one]), y[one], counts=counts) for one in cut]
    torch.testing.assert_close(sum(one[0] for one in pieces), whole[0], rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(torch.cat([one[1] for one in pieces]), whole[1], rtol=1e-5, atol=2e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(monkeypatch: pytest.MonkeyPatch, size: int, dtype: torch.dtype) -> None:
    """The backward pass too is in float32 where somebody calls it under autocast."""
    z, z_t, y = drawn(B, C, H, W).to(dtype), drawn(B, C, H, W, seed=1).to(dtype), labels()
    objective = Objective.from_recipe(RECIPE)
    whole = computed(objective, z, Outputs(z_t), y)
    monkeypatch.setattr(large, "LARGE", size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = computed(objective, z, Outputs(z_t), y)
    assert found[1].dtype == dtype
    torch.testing.assert_close(found[0], whole[0], rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(found[1].float(), whole[1].float(), rtol=2e-2, atol=1e-5)


def test_looks_at_the_gradients_of_terms(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Each term's gradient, the graph kept, and then the sum's."""
    x, z_t, y, objective = drawn(B, 3, H, W), drawn(B, C, H, W, seed=1), labels(), Objective.from_recipe(RECIPE)

    def look(means: dict[str, Tensor]) -> dict[str, float]:
        norms.append(gradient_norms(means, [weight]))
        return objective.weights_at(0)

    norms: list[dict[str, float]] = []
    found = []
    for limit in (large.LARGE, size):
        monkeypatch.setattr(large, "LARGE", limit)
        weight = drawn(C, 3, seed=2).div(10).requires_grad_()
        said = torch.einsum("ck,bkhw->bchw", weight, x)
        total, _ = objective(Outputs(said), Outputs(z_t), target=y, mask=y >= 0, look=look)
        found.append(torch.autograd.grad(total, weight)[0])
    assert all(one > 0 for one in norms[0].values())
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_a_compiled_student(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Conv2d(3, C, 1)
    x, z_t, y, objective = drawn(B, 3, H, W), drawn(B, C, H, W, seed=1), labels(), Objective.from_recipe(RECIPE)
    found = []
    torch._dynamo.reset()
    for module, limit in ((net, large.LARGE), (torch.compile(net, backend="aot_eager"), 100)):
        monkeypatch.setattr(large, "LARGE", limit)
        net.zero_grad()
        objective(Outputs(module(x)), Outputs(z_t), target=y, mask=y >= 0)[0].backward()
        assert net.weight.grad is not None
        found.append(net.weight.grad.clone())
    torch._dynamo.reset()
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_all_ignored_is_0_with_a_graph_and_a_frozen_student_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE", 100)
    objective, z, y = Objective.from_recipe(RECIPE), drawn(B, C, H, W), torch.full((B, H, W), -1)
    values, gradient = computed(objective, z, Outputs(torch.full_like(z, 7.0)), y)
    assert float(values.abs().max()) == 0 == float(gradient.abs().max())
    assert not objective(Outputs(z), Outputs(z), target=labels(), mask=labels() >= 0)[0].requires_grad


def test_what_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    z = Outputs(torch.zeros(4, 2, 512, 512))
    assert len(by_parts(kl, z, z, {})) == 2
    assert by_parts(kl, Outputs(z.logits[:2]), z, {}) == [], "2^20 numbers are not more than 2^20"
    assert by_parts(TABLE["dist"], z, z, {}) == []
    assert by_parts(TABLE["dice_batch"], z, None, {}) == []
    assert by_parts(TABLE["pairwise"], z, z, {}) == []
    assert by_parts(kl, z, z, {"axis": 3}) == []
    assert by_parts(lambda student, teacher: student, z, z, {}) == [], "it has not said what it compares"
    assert by_parts(nn.Identity(), z, z, {}) == []
    assert by_parts(kl, Outputs(torch.zeros(2**12, 2**9)), z, {}) == []
    assert len(by_parts(kl, Outputs(torch.zeros(1, 8, 512, 512)), Outputs(torch.zeros(1, 8, 512, 512)), {})) == 2
    assert len(by_parts(TABLE["cwd"], Outputs(torch.zeros(1, 8, 512, 512)), None, {})) == 1


def test_what_does_not_fit_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE", 100)
    z = drawn(B, C, H, W)
    with pytest.raises(ModelError, match=rf"takes a target of shape \({B}, {H}, {W}\)"):
        Objective([supervised()])(Outputs(z), None, target=torch.zeros(B, H, 3, dtype=torch.int64))
    with pytest.raises(ModelError, match="the student gave"):
        Objective([term("kl")])(Outputs(z), Outputs(z[:, :3]))

    @compares("logits")
    def one_number(student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).square().mean()

    with pytest.raises(ModelError, match="does not say that it compares them"):
        Objective([term(one_number)])(Outputs(z), Outputs(z))


# ---- memory


class Held(TorchDispatchMode):
    """The most bytes that tensors made inside of it hold at a time; what an operation takes within itself is unseen."""

    def __init__(self, *before: Tensor) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: Any = WeakIdKeyDictionary()
        for one in before:
            self._known[one.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, Tensor) and (storage := one.untyped_storage()) not in self._known:
                self._known[storage] = _Leaving(self, storage.nbytes())
                self.most = max(self.most, self.now)
        return found


class _Leaving:
    def __init__(self, held: Held, size: int) -> None:
        self._held, self._size = held, size
        held.now += size

    def __del__(self) -> None:
        self._held.now -= self._size


def most(z: Tensor, z_t: Tensor, y: Tensor, objective: Objective) -> float:
    """Bytes, in logits of the batch."""
    leaf = z.clone().requires_grad_()
    with Held(leaf, z_t, y) as held:
        objective(Outputs(leaf), Outputs(z_t), target=y, mask=y >= 0)[0].backward()
    return held.most / (z.numel() * z.element_size())


@pytest.mark.parametrize("name", ["pixel_kl", "kl", "cwd", "supervised", "focal", "dice"])
def test_probabilities_of_the_whole_batch_are_never_held(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Above student's and teacher's logits: the one gradient, and of softmaxes a few parts."""
    z, z_t = drawn(8, 12, 32, 32), drawn(8, 12, 32, 32, seed=1)
    y = torch.randint(-1, 12, (8, 32, 32), generator=torch.Generator().manual_seed(3))
    objective = Objective.from_recipe({name: 1.0})
    plain = most(z, z_t, y, objective)
    monkeypatch.setattr(large, "LARGE", z[0].numel() // 2)
    chunked = most(z, z_t, y, objective)
    assert plain >= 3, "else this counts nothing"
    assert chunked < min(2.0, 0.45 * plain)
