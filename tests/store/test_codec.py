"""Records against struct and a second implementation in float64; what half precision can not hold is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import ModelError, NumericsError
from limbeck.outputs import Outputs
from limbeck.store.codec import decode, encode
from limbeck.store.layout import Layout

PIXELS = torch.tensor([0, 1, 2**32 - 1, 7])
WEIGHTS = (0.5, 0.2, 0.3)


def half(value: float) -> float:
    """Rounded to half precision by Python's struct."""
    return struct.unpack("<e", struct.pack("<e", value))[0]


def logsumexp(values: list[float]) -> float:
    """In float64, of any size."""
    most = max(values)
    return most if most == -np.inf else most + float(np.log(sum(np.exp(value - most) for value in values)))


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    z = logits.astype(np.float64) / temperature
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def of(logits: Tensor) -> Outputs:
    """Of one model, or of an ensemble of three."""
    return Outputs(logits) if logits.ndim == 2 else Outputs.ensemble(logits, torch.tensor(WEIGHTS))


def there_and_back(layout: Layout, outputs: Outputs) -> Outputs:
    return decode(layout, encode(layout, outputs, PIXELS[: len(outputs.logits)]))


@given(st.lists(st.floats(-65504, 65504, width=32), min_size=3, max_size=3))
def test_dense_logits_are_rounded_to_the_nearest(values: list[float]) -> None:
    found = there_and_back(Layout(3), Outputs(torch.tensor([values])))
    assert found.logits.dtype == torch.float32
    assert found.logits[0].tolist() == [half(value) for value in values]


@pytest.mark.parametrize("value", [1e4, -1e4, 6e-8, 2.0**-24, 1 + 2.0**-11, 65519.0, -0.0])
def test_extremes(value: float) -> None:
    kept = there_and_back(Layout(2), Outputs(torch.tensor([[value, 0.0]]))).logits[0, 0].item()
    assert kept == half(min(value, 65504.0))
    assert str(kept) == str(half(min(value, 65504.0)))  # the sign of zero too


@pytest.mark.parametrize(
    ("what", "value"),
    [
        (what, value)
        for what in ("logits", "members", "largest", "features")
        for value in (65520.0, -65520.0, 1e30, float("inf"), float("-inf"), float("nan"))
        if what != "largest" or not value < 0  # which is not among the largest
    ],
)
def test_what_half_precision_can_not_hold(what: str, value: float) -> None:
    bad = torch.zeros(4, 5)
    bad[2, 3] = value
    good = torch.zeros(4, 5)
    layout, outputs, named = {
        "logits": (Layout(5), Outputs(bad), "logits"),
        "members": (Layout(5, 3, WEIGHTS), of(torch.stack([good, bad, good])), "logits"),
        "largest": (Layout(5, top=4, temperatures=(1.0,)), Outputs(bad + good.index_fill(1, torch.tensor([0]), -1)),
                    "logits"),
        "features": (Layout(5, features={"layer4": 5}), Outputs(good, {"layer4": bad}), "features of layer 'layer4'"),
    }[what]  # fmt: skip
    with pytest.raises(NumericsError) as error:
        encode(layout, outputs, PIXELS)
    assert error.value.what == (
        f"the teacher's {named} can not be kept in half precision, whose largest is 65,504: found {value:g}"
    )


@pytest.mark.parametrize(("classes", "top"), [(3, 1), (3, 2), (12, 1), (12, 11), (1000, 1), (1000, 11), (1000, 999)])
@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_the_largest_against_float64(classes: int, top: int, size: float) -> None:
    temperatures = (4.0, 1.0, 20.0)
    logits = size * torch.randn(4, classes)
    found = there_and_back(Layout(classes, top=top, temperatures=temperatures), Outputs(logits)).top
    assert found is not None
    assert list(found.rest) == list(temperatures)
    for row, z in enumerate(logits.tolist()):
        order = sorted(range(classes), key=lambda one: (-z[one], one))
        assert found.ids[row].tolist() == order[:top]
        assert found.logits[row].tolist() == [half(z[one]) for one in order[:top]]
        first = half(z[order[0]])
        for t in temperatures:
            relative = max(logsumexp([z[one] / t for one in order[top:]]) - first / t, -65504)
            slack = abs(relative) * 2**-10 + abs(first / t) * 2**-22 + 1e-6
            assert found.rest[t][row].item() == pytest.approx(relative + first / t, abs=slack)


@pytest.mark.parametrize("top", [1, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_largest_are_the_distribution_with_the_others_as_one(top: int, temperature: float) -> None:
    logits = 3 * torch.randn(4, 30)
    found = there_and_back(Layout(30, top=top, temperatures=(temperature,)), Outputs(logits)).top
    assert found is not None
    got = torch.softmax(found.grouped(temperature) / temperature, dim=1).double().numpy()
    p = softened(logits.numpy(), temperature)
    kept = np.take_along_axis(p, found.ids.numpy(), 1)
    assert got == pytest.approx(np.concatenate([kept, 1 - kept.sum(1, keepdims=True)], 1), abs=4e-3)


def test_equal_logits_come_by_rising_id() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0], [3.0, 0.0, 3.0, 1.0, 3.0], [3.0, 1.0, 2.0, 1.0, 3.0]])
    found = there_and_back(Layout(5, top=3, temperatures=(1.0,)), Outputs(logits))
    assert found.top is not None
    assert found.top.ids.tolist() == [[1, 2, 4], [0, 2, 4], [0, 4, 2]]
    assert found.logits.argmax(1).tolist() == [1, 0, 0]


def test_logits_that_half_precision_makes_equal_stay_in_order() -> None:
    logits = torch.tensor([[0.0, 2000.1, 2000.3, 2000.2]])  # half precision has 2000 and 2001
    found = there_and_back(Layout(4, top=2, temperatures=(1.0,)), Outputs(logits))
    assert found.top is not None
    assert found.top.ids.tolist() == [[2, 3]]
    assert found.top.logits.tolist() == [[2000.0, 2000.0]]
    assert found.logits.argmax(1).item() == 2


@pytest.mark.parametrize("others", [-1e4, -3e38, float("-inf")])
def test_others_that_weigh_nothing(others: float) -> None:
    logits = torch.full((4, 6), others)
    logits[:, 2] = 1e4
    layout = Layout(6, top=1, temperatures=(1.0, 0.01))
    records = encode(layout, Outputs(logits), PIXELS)
    assert (records["rest"][:, 1] == -65504).all()
    found = decode(layout, records).top
    assert found is not None
    for t in (1.0, 0.01):
        assert torch.softmax(found.grouped(t) / t, dim=1).tolist() == [[1.0, 0.0]] * 4


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_of_which_all_logits_are_kept(temperature: float) -> None:
    members = 4 * torch.randn(3, 4, 10)
    before = of(members)
    after = there_and_back(Layout(10, 3, WEIGHTS), before)
    assert after.members is not None
    assert after.members.tolist() == np.vectorize(half)(members.numpy()).tolist()
    assert after.weights.tolist() == before.weights.tolist()
    mean = sum(w * softened(z, temperature) for w, z in zip(WEIGHTS, members.numpy(), strict=True))
    got = torch.softmax(after.logits_at(temperature) / temperature, dim=1).numpy()
    assert got == pytest.approx(mean, abs=2e-3)
    assert torch.allclose(after.logits, before.logits, atol=1e-2)


def test_the_largest_of_an_ensemble_at_its_temperature() -> None:
    members, t = 4 * torch.randn(3, 4, 40), 4.0
    found = there_and_back(Layout(40, 3, WEIGHTS, top=6, temperatures=(t,)), of(members))
    assert found.members is None
    assert found.top is not None
    mean = sum(w * softened(z, t) for w, z in zip(WEIGHTS, members.numpy(), strict=True))
    assert found.top.ids.tolist() == np.argsort(-mean, axis=1)[:, :6].tolist()
    kept = np.take_along_axis(mean, found.top.ids.numpy(), 1)
    got = torch.softmax(found.top.grouped(t) / t, dim=1).numpy()
    assert got == pytest.approx(np.concatenate([kept, 1 - kept.sum(1, keepdims=True)], 1), abs=2e-3)


@pytest.mark.parametrize("layout", [Layout(5), Layout(5, 3, WEIGHTS), Layout(5, top=2, temperatures=(2.0,))])
def test_features(layout: Layout) -> None:
    layout = Layout(**{**layout.__dict__, "features": {"z": 3, "a": 1}})
    logits = torch.randn(3, 4, 5) if layout.members > 1 else torch.randn(4, 5)
    features = {"a": torch.randn(4, 1), "unasked": torch.randn(4, 9), "z": torch.randn(4, 3, dtype=torch.bfloat16)}
    outputs = Outputs(of(logits).logits, features, of(logits).members, of(logits).weights)
    found = there_and_back(layout, outputs).features
    assert list(found) == ["z", "a"]
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.tolist() == np.vectorize(half)(features[name].float().numpy()).tolist()


@pytest.mark.parametrize(
    ("layout", "outputs", "text"),
    [
        (Layout(5), Outputs(torch.zeros(4, 1)), "logits have shape (1, 4, 1), expected (1, 4, 5)"),
        (Layout(5), Outputs(torch.zeros(3, 5)), "logits have shape (1, 3, 5), expected (1, 4, 5)"),
        (Layout(5), Outputs(torch.zeros(4, 5, 2, 2)), "logits have shape (1, 4, 5, 2, 2)"),
        (Layout(5, 3, WEIGHTS), Outputs(torch.zeros(4, 5)), "logits have shape (1, 4, 5), expected (3, 4, 5)"),
        (Layout(5), of(torch.zeros(3, 4, 5)), "logits have shape (3, 4, 5), expected (1, 4, 5)"),
        (Layout(5, top=2, temperatures=(1.0,)), Outputs(torch.zeros(4, 6)), "have shape (4, 6), expected (4, 5)"),
        (Layout(5, features={"a": 2}), Outputs(torch.zeros(4, 5)), "keeps features of layer 'a', and the teacher gave"),
        (Layout(5, features={"a": 2}), Outputs(torch.zeros(4, 5), {"a": torch.zeros(4, 1)}), "(4, 1), expected (4, 2)"),
        (Layout(5, features={"a": 2}), Outputs(torch.zeros(4, 5), {"a": torch.zeros(4, 2, 3)}), "'a' have shape"),
        (Layout(5, top=2, temperatures=(1.0,)),
         Outputs.kept(torch.tensor([[0]] * 4), torch.zeros(4, 1), {1.0: torch.zeros(4)}, 5), "were kept before"),
    ],
)  # fmt: skip
def test_outputs_of_another_layout_are_not_spread_over_a_record(layout: Layout, outputs: Outputs, text: str) -> None:
    with pytest.raises(ModelError) as error:
        encode(layout, outputs, PIXELS)
    assert text in error.value.what


@pytest.mark.parametrize(
    "layout", [Layout(5, features={"a": 2}), Layout(5, 3, WEIGHTS), Layout(70_000, top=3, temperatures=(4.0, 1.0))]
)
def test_records_mean_the_same_where_bytes_come_in_the_other_order(layout: Layout) -> None:
    """What a machine sees that computes with the largest byte first."""
    logits = torch.randn(3, 4, 5) if layout.members > 1 else torch.randn(4, layout.classes)
    outputs = Outputs(of(logits).logits, {"a": torch.randn(4, 2)}, of(logits).members, of(logits).weights)
    records = encode(layout, outputs, PIXELS)
    swapped = records.astype(layout.dtype.newbyteorder(">"))
    assert swapped.tobytes() != records.tobytes()
    one, two = decode(layout, records), decode(layout, swapped)
    assert torch.equal(one.logits, two.logits)
    assert all(torch.equal(one.features[name], two.features[name]) for name in layout.features)
    if one.top is not None and two.top is not None:
        assert torch.equal(one.top.ids, two.top.ids)


def test_pixels_and_gradients() -> None:
    """Checksums keep all their 32 bits; what has a graph is kept without it."""
    layout = Layout(5, features={"a": 1})
    outputs = Outputs(torch.zeros(4, 5, requires_grad=True) + 1, {"a": torch.ones(4, 1, requires_grad=True)})
    records = encode(layout, outputs, PIXELS)
    assert records["pixels"].tolist() == [0, 1, 2**32 - 1, 7]
    assert not decode(layout, records).logits.requires_grad


def test_no_records() -> None:
    for layout in (Layout(5), Layout(5, top=2, temperatures=(1.0,))):
        records = encode(layout, Outputs(torch.zeros(0, 5)), PIXELS[:0])
        assert len(records) == 0
