"""What a store depends on: each thing that may differ is told by its own field, and nothing else is told."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.teachers.onnx_files import linear
from torch import Tensor, nn

from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.replay import Replay, Seer
from limbeck.data.sampling import Sampler
from limbeck.data.split import JoinedSplit, Split
from limbeck.data.views import Color, RandAugment, Views
from limbeck.errors import ModelError, ResumeError
from limbeck.store.identity import differences, identity, of_teacher, other_versions, refuse, surroundings
from limbeck.teachers import Ensemble, FunctionTeacher, ModuleTeacher, OnnxTeacher, Recorded, as_teacher, reordered

CLASSES = ("cat", "dog", "cow")
INPUTS = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(12) % 3
VIEWS = Views(shift=1, color=Color(hue=0.1), randaugment=RandAugment(1, 5), mixup=0.2)


class Net(nn.Module):
    """A small teacher with every kind of tensor: weights, buffers, and one that is no part of its state."""

    scale: Tensor

    def __init__(self, act: type[nn.Module] = nn.ReLU, padding_mode: str = "zeros") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=padding_mode)
        self.norm, self.act = nn.BatchNorm2d(4), act()
        self.head = nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.act(self.norm(self.conv(x))).mean((2, 3))) * self.scale
        return found


class Other(Net):
    """The same tensors in the same parts."""


def changed(name: str) -> Net:
    """The teacher with the last bit of one number of a tensor changed."""
    net = Net()
    value = dict([*net.named_parameters(), *net.named_buffers()])[name].detach()
    value.view(-1)[-1] = torch.nextafter(value.view(-1)[-1], torch.tensor(9e9))
    return net


def world(
    module: Any = None,
    *,
    mean: float = 0.5,
    std: float = 0.25,
    size: tuple[int, int] | None = None,
    inputs: Tensor = INPUTS,
    targets: Tensor = TARGETS,
    classes: tuple[str, ...] = CLASSES,
    views: Views = VIEWS,
    sampling: str = "none",
    seed: int = 7,
    count: int = 4,
    precision: str = "fp32",
) -> dict[str, Any]:
    """The identity of one store; an argument is what differs in another."""
    teacher = as_teacher(Net() if module is None else module, Preparation(Normalization((mean,) * 3, (std,) * 3), size))
    split = Split(inputs, targets, classes, "train")
    return identity(teacher, Seer(split, Sampler(targets, sampling), views, seed), Replay(seed, count), precision)


def told(kept: Any, now: Any) -> set[str]:
    """The fields that differ."""
    return {one.partition(":")[0] for one in differences(kept, now)}


def edited(at: int) -> Tensor:
    inputs = INPUTS.clone()
    inputs[at, 0, 0, 0] += 1e-6
    return inputs


def labels(at: int) -> Tensor:
    targets = TARGETS.clone()
    targets[at] = (targets[at] + 1) % 3
    return targets


MAPPED = reordered(Net(), ("cat", "cow", "dog"), CLASSES)
CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "weight": ({"module": changed("conv.weight")}, {"teacher.weights"}),
    "average of batch norm": ({"module": changed("norm.running_mean")}, {"teacher.weights"}),
    "buffer outside the state": ({"module": changed("scale")}, {"teacher.weights"}),
    "activation": ({"module": Net(nn.GELU)}, {"teacher.structure"}),
    "padding": ({"module": Net(padding_mode="reflect")}, {"teacher.structure"}),
    "class": ({"module": Other()}, {"teacher.class", "teacher.structure"}),
    "class order": ({"module": MAPPED}, {"teacher.order"}),
    "another kind": ({"module": FunctionTeacher(Net(), digest="net")}, {"teacher.kind"}),
    "mean": ({"mean": 0.49}, {"teacher.inputs.normalization.mean"}),
    "std": ({"std": 0.26}, {"teacher.inputs.normalization.std"}),
    "input size": ({"size": (16, 16)}, {"teacher.inputs.input_size"}),
    "a pixel": ({"inputs": edited(3)}, {"data.contents"}),
    "a label": ({"targets": labels(3)}, set()),
    "a class's name": ({"classes": ("cat", "dog", "ox")}, {"data.classes"}),
    "fewer samples": ({"inputs": INPUTS[:11], "targets": TARGETS[:11]}, {"data.samples", "data.contents"}),
    "shape": ({"inputs": INPUTS[..., :7]}, {"data.shape", "data.contents"}),
    "range": ({"inputs": INPUTS * 2}, {"data.input_range", "data.contents"}),
    "seed": ({"seed": 8}, {"views.seed"}),
    "views": ({"count": 5}, {"views.count"}),
    "sampling": ({"sampling": "balanced"}, {"views.sampling", "views.labels"}),
    "precision": ({"precision": "bf16"}, {"precision"}),
    "hue": ({"views": replace(VIEWS, color=Color(hue=0.2))}, {"views.color.hue"}),
    "no color": ({"views": replace(VIEWS, color=None)}, {"views.color.hue"}),
    "magnitude": ({"views": replace(VIEWS, randaugment=RandAugment(1, 6))}, {"views.randaugment.magnitude"}),
    "no randaugment": (
        {"views": replace(VIEWS, randaugment=None)},
        {"views.randaugment.ops", "views.randaugment.magnitude"},
    ),
    "two things": ({"mean": 0.4, "count": 2}, {"teacher.inputs.normalization.mean", "views.count"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_told_and_nothing_else(case: str) -> None:
    arguments, expected = CASES[case]
    assert told(world(), world(**arguments)) == expected


# One other value of every argument of Views: a new argument must come here.
OTHER: dict[str, Any] = {
    "shift": 2, "flip": True, "rotate": 5.0, "scale": 0.1, "erase": 0.5, "vertical_flip": True, "shear": 3.0,
    "resized_crop": (0.5, 1.0), "color": Color(brightness=0.3), "randaugment": RandAugment(3, 9), "mixup": 0.4,
    "cutmix": 1.0, "quarter_turns": True,
}  # fmt: skip


@pytest.mark.parametrize("name", [one.name for one in fields(Views)])
def test_every_setting_of_the_views_is_a_field(name: str) -> None:
    plain = Views(mixup=0.2)
    found = told(world(views=plain), world(views=replace(plain, **{name: OTHER[name]})))
    assert found
    assert all(one == f"views.{name}" or one.startswith(f"views.{name}.") for one in found)


def test_a_label_counts_where_samples_are_mixed_in_by_class() -> None:
    one = world(sampling="balanced")
    assert told(one, world(sampling="balanced", targets=labels(3))) == {"views.labels"}
    calm = replace(VIEWS, mixup=0.0)  # nothing is mixed in: labels change nothing that a teacher sees
    assert world(sampling="balanced", views=calm) == world(views=calm, targets=labels(3))


def test_it_is_plain_data_and_a_function_of_values_alone() -> None:
    one = world()
    assert json.loads(json.dumps(one)) == one
    laid = copy.deepcopy(Net()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert world(laid) == one
    assert world(torch.compile(Net())) == one
    frozen = Net().eval().requires_grad_(False)
    assert world(frozen) == one


def test_labels_of_joined_splits_are_no_part_of_it() -> None:
    def joined(targets: Tensor) -> dict[str, Any]:
        rest = Split(INPUTS[6:], None, CLASSES, "unlabeled")
        both = Split(INPUTS[:6], targets[:6], CLASSES, "train")
        whole = both.joined(_lazy(rest))
        assert isinstance(whole, JoinedSplit)
        see = Seer(whole, Sampler(whole.targets), VIEWS, 0)
        return identity(as_teacher(Net()), see, Replay(0, 2), "fp32")

    assert joined(TARGETS) == joined(labels(3))


def _lazy(split: Split) -> Split:
    """A split of another kind, so that joining does not copy."""
    return type("Lazy", (Split,), {})(split.inputs, split.targets, split.classes, split.name)


def test_members_of_an_ensemble_are_told_by_number() -> None:
    def both(second: nn.Module, weights: tuple[float, ...] = (1, 1)) -> dict[str, Any]:
        return {"teacher": of_teacher(Ensemble([Net(), second], weights))}

    one = both(Net())
    assert told(one, both(changed("head.bias"))) == {"teacher.members.2.weights"}
    assert told(one, both(Net(), (1, 3))) == {"teacher.shares.1", "teacher.shares.2"}
    third = {"teacher": of_teacher(Ensemble([Net(), Net(), Net()]))}
    assert "teacher.members.3.kind" in told(one, third)
    assert told(one, {"teacher": of_teacher(as_teacher(Net()))}) == {"teacher.kind"}


def test_onnx_files_by_contents_and_options(tmp_path: Path) -> None:
    linear(tmp_path / "a.onnx", (3, 8, 8), 3)
    (tmp_path / "moved.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())

    def one(name: str, **options: Any) -> dict[str, Any]:
        return {"teacher": of_teacher(OnnxTeacher(tmp_path / name, threads=1, **options))}

    kept = one("a.onnx")
    assert kept == one("moved.onnx")  # where it lies does not matter
    assert told(kept, one("a.onnx", normalization=Normalization((0.5,) * 3, (1.0,) * 3))) == {
        "teacher.inputs.normalization.mean", "teacher.inputs.normalization.std",
    }  # fmt: skip
    assert told(kept, one("a.onnx", probabilities=True)) == {"teacher.probabilities"}
    named = OnnxTeacher(tmp_path / "a.onnx", threads=1, classes=["cow", "dog", "cat"]).fitted((3, 8, 8), CLASSES)
    assert told(kept, {"teacher": of_teacher(named)}) == {"teacher.order"}
    (tmp_path / "moved.onnx").write_bytes(_retold(tmp_path / "a.onnx"))
    assert told(kept, one("moved.onnx")) == {"teacher.file"}


def _retold(path: Path) -> bytes:
    """The same graph in a file with another note in it."""
    import onnx

    model = onnx.load(path)
    model.doc_string = "another"
    return model.SerializeToString()


def test_recorded_outputs_and_estimators_by_what_they_say() -> None:
    one, two = (Recorded(torch.eye(3) * scale) for scale in (1.0, 2.0))
    assert of_teacher(one) == of_teacher(Recorded(torch.eye(3))) != of_teacher(two)
    from sklearn.linear_model import LogisticRegression

    rows = INPUTS.flatten(1).numpy()
    first, second = (as_teacher(LogisticRegression(C=c).fit(rows, TARGETS.numpy())) for c in (1.0, 0.01))
    assert of_teacher(first) != of_teacher(second)


@pytest.mark.parametrize("teacher", [FunctionTeacher(lambda x: x), as_teacher(lambda x: x)])
def test_a_function_without_a_name_for_what_it_computes_is_refused(teacher: Any) -> None:
    with pytest.raises(ModelError, match=r"FunctionTeacher .* no digest\n  cure: .*teacher\.digest = "):
        of_teacher(teacher)


def test_a_function_is_told_by_the_name_it_was_given() -> None:
    def halves(x: Tensor) -> Tensor:
        return x / 2

    halves.digest = "halves 1"  # type: ignore[attr-defined]
    one = as_teacher(halves)
    assert of_teacher(one)["digest"] == "halves 1"
    assert told(of_teacher(one), of_teacher(FunctionTeacher(halves, digest="halves 2"))) == {"digest"}


def halved(x: Tensor) -> Tensor:
    return x / 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Normalization((0.5,), (1.0,)), Normalization((0.4,), (1.0,))),
        (nn.Linear(2, 2), nn.Linear(2, 2)),
        (halved, copy.copy),
        (None, Normalization((0.5,), (1.0,))),
    ],
)
def test_normalizations_of_any_kind(first: Any, second: Any) -> None:
    kept, again, now = (
        json.dumps(of_teacher(ModuleTeacher(nn.Identity(), one)), sort_keys=True) for one in (first, first, second)
    )
    assert kept == again != now
    assert "0x" not in kept  # no address of memory


def test_lines_for_people() -> None:
    kept, now = world(), world(changed("conv.weight"), mean=0.49, classes=tuple("abc"), views=Views(mixup=0.2))
    lines = differences(kept, now)
    assert "teacher.inputs.normalization.mean: kept [0.5, 0.5, 0.5], now [0.49, 0.49, 0.49]" in lines
    assert "data.classes: kept ['cat', 'dog', 'cow'], now ['a', 'b', 'c']" in lines
    assert "views.randaugment.ops: kept 1, now none" in lines
    weights = next(one for one in lines if one.startswith("teacher.weights"))
    assert weights.split() == ["teacher.weights:", "kept", f"{kept['teacher']['weights'][:12]},", "now",
                               now["teacher"]["weights"][:12]]  # fmt: skip
    long = differences({"data": {"classes": ["x" * 30] * 9}}, {"data": {"classes": []}})
    assert len(long[0]) < 120


def test_refusing_names_the_folder_the_fields_and_how_many_more() -> None:
    refuse(Path("kept"), [])
    with pytest.raises(ResumeError, match=r"kept is a store of something else: a1; .*a6; and 2 more\n  cure: ") as one:
        refuse(Path("kept"), [f"a{number}" for number in range(1, 9)])
    assert "a7" not in str(one.value)


def test_versions_are_told_where_they_differ() -> None:
    here = surroundings()
    assert other_versions(here) == "" == other_versions({})
    assert other_versions({**here, "torch": "2.1"}) == f"built with torch 2.1, this is {torch.__version__}"


def test_views_that_came_later_leave_older_stores_as_they_are() -> None:
    assert "quarter_turns" not in world(views=Views(shift=2))["views"]
    assert world(views=Views(shift=2, quarter_turns=True))["views"]["quarter_turns"] is True
