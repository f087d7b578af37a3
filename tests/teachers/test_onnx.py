"""ONNX teachers against the same weights in numpy; every file that can not teach is refused by name."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from tests.teachers.onnx_files import linear, outside, zipmap

from limbeck.compress.export.onnx import export_onnx
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import FileError, LimbeckError, ModelError
from limbeck.models import MLP
from limbeck.teachers import Ensemble, OnnxTeacher, Teacher, as_teacher

IMAGES = torch.rand(7, 3, 4, 5, generator=torch.Generator().manual_seed(0))
ROWS = torch.rand(9, 6, generator=torch.Generator().manual_seed(1))


def close(found: torch.Tensor, expected: Any) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def said(path: Path, inputs: torch.Tensor = ROWS, **options: Any) -> torch.Tensor:
    return OnnxTeacher(path, threads=1, **options)(inputs).logits


def test_channels_first(tmp_path: Path) -> None:
    matrix = linear(tmp_path / "t.onnx", (3, 4, 5), 4)
    close(said(tmp_path / "t.onnx", IMAGES), IMAGES.flatten(1).numpy() @ matrix)


@pytest.mark.parametrize("shape", [(4, 5, 3), ("height", "width", 3)])
def test_channels_last_is_transposed(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    matrix = linear(tmp_path / "t.onnx", shape, 4, features=60)
    close(said(tmp_path / "t.onnx", IMAGES), IMAGES.permute(0, 2, 3, 1).flatten(1).numpy() @ matrix)


@pytest.mark.parametrize("shape", [(4, 5), (20,), (4, 5, 1), (1, 4, 5)])
def test_gray_images_in_any_form(tmp_path: Path, shape: tuple[int, ...]) -> None:
    matrix = linear(tmp_path / "t.onnx", shape, 4)
    gray = IMAGES[:, :1]
    close(said(tmp_path / "t.onnx", gray), gray.flatten(1).numpy() @ matrix)


@pytest.mark.parametrize("batch", [1, 4, 9, 16])
def test_a_fixed_batch_is_run_in_pieces(tmp_path: Path, batch: int) -> None:
    matrix = linear(tmp_path / "t.onnx", (6,), 3, batch=batch)
    close(said(tmp_path / "t.onnx"), ROWS.numpy() @ matrix)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.UINT8])
def test_input_types(tmp_path: Path, kind: int) -> None:
    matrix = linear(tmp_path / "t.onnx", (6,), 3, kind=kind)
    pixels = (ROWS * 255).round()
    expected = pixels.numpy() @ matrix if kind == TensorProto.UINT8 else (pixels / 255).numpy() @ matrix
    close(said(tmp_path / "t.onnx", pixels / 255), expected)


def test_bytes_need_inputs_from_0_to_1(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3, kind=TensorProto.UINT8)
    with pytest.raises(ModelError, match=r"takes bytes \(uint8\); the inputs reach from -?\d.* to .*, not 0 to 1"):
        said(tmp_path / "t.onnx", ROWS * 9)
    with pytest.raises(ModelError, match="can not be normalized before"):
        OnnxTeacher(tmp_path / "t.onnx", normalization=Normalization((0.5,), (0.5,)))


def test_a_normalization_comes_before(tmp_path: Path) -> None:
    matrix = linear(tmp_path / "t.onnx", (3, 8, 10), 4)
    preparation = Preparation(Normalization((0.5, 0.4, 0.3), (0.5, 0.2, 0.1)), (8, 10))
    teacher = OnnxTeacher(tmp_path / "t.onnx", normalization=preparation, threads=1)
    close(teacher(IMAGES).logits, preparation(IMAGES).flatten(1).numpy() @ matrix)
    teacher.fitted((3, 4, 5), list("abcd"))
    with pytest.raises(ModelError, match="8"):
        OnnxTeacher(tmp_path / "t.onnx").fitted((3, 4, 5), list("abcd"))


def test_probabilities_must_be_declared(tmp_path: Path) -> None:
    matrix = linear(tmp_path / "t.onnx", (6,), 3, end="Softmax")
    with pytest.raises(ModelError, match="ends in a softmax") as refused:
        OnnxTeacher(tmp_path / "t.onnx")
    assert "teacher.probabilities: true" in str(refused.value)
    for temperature in (1.0, 4.0):
        expected = torch.softmax(torch.tensor(ROWS.numpy() @ matrix) / temperature, dim=1)
        logits = said(tmp_path / "t.onnx", probabilities=True)
        close(torch.softmax(logits / temperature, dim=1), expected)


def test_probabilities_that_are_none_are_refused(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3)
    with pytest.raises(ModelError, match="declared to give probabilities; its outputs sum to"):
        said(tmp_path / "t.onnx", probabilities=True)


def test_a_probability_of_zero_is_finite(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3, end="Softmax")
    assert bool(torch.isfinite(said(tmp_path / "t.onnx", 1000 * ROWS, probabilities=True)).all())


def test_log_probabilities_are_logits(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3, end="LogSoftmax")
    close(said(tmp_path / "t.onnx").exp().sum(1), np.ones(9))


def test_an_output_is_chosen_by_name(tmp_path: Path) -> None:
    matrix = linear(tmp_path / "t.onnx", (6,), 3, outputs=2)
    with pytest.raises(ModelError, match=r"2 outputs: 'label' tensor.int64.*'scores' tensor.float."):
        OnnxTeacher(tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="no output 'score'; did you mean 'scores'"):
        OnnxTeacher(tmp_path / "t.onnx", output="score")
    with pytest.raises(ModelError, match="labels and not scores"):
        OnnxTeacher(tmp_path / "t.onnx", output="label")
    close(said(tmp_path / "t.onnx", output="scores"), ROWS.numpy() @ matrix)


def test_a_zipmap_is_named(tmp_path: Path) -> None:
    zipmap(tmp_path / "t.onnx", 6)
    with pytest.raises(ModelError, match="2 outputs"):
        OnnxTeacher(tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="ZipMap") as refused:
        OnnxTeacher(tmp_path / "t.onnx", output="probabilities")
    assert "'zipmap': False" in str(refused.value)


def damaged(path: Path) -> None:
    linear(path, (6,), 3)
    path.write_bytes(path.read_bytes()[:-40])


FAULTS: list[tuple[Any, type[LimbeckError], str]] = [
    (lambda p: None, FileError, "t.onnx is missing"),
    (lambda p: p.mkdir(), FileError, "t.onnx is missing"),
    (lambda p: p.write_bytes(b"a page of text"), FileError, "is not a whole ONNX file"),
    (lambda p: p.write_bytes(b""), FileError, "is not a whole ONNX file"),
    (damaged, FileError, "is not a whole ONNX file"),
    (outside, ModelError, "keeps weights in other files: weights.bin"),
    (lambda p: linear(p, (6,), 3, inputs=2), ModelError, "2 inputs ('x', 'x1'), expected one"),
    (lambda p: linear(p, (6,), 3, kind=TensorProto.INT64), ModelError, "input 'x' is tensor(int64)"),
    (lambda p: linear(p, (6,), 3, domain="com.acme", op="Brew"), ModelError, "operator 'Brew' of domain 'com.acme'"),
    (lambda p: linear(p, (6,), 3, op="Brew"), ModelError, "operator 'Brew' of domain 'ai.onnx'"),
    (lambda p: linear(p, (6,), 3, metadata={"limbeck": "1", "classes": "[1"}), FileError, "no list of class names"),
    (lambda p: linear(p, (6,), 3, metadata={"limbeck": "1", "classes": '["a"]'}), ModelError, "3 outputs, and 1 class"),
]


@pytest.mark.parametrize(("make", "kind", "told"), FAULTS)
def test_a_file_that_can_not_teach(tmp_path: Path, make: Any, kind: type[LimbeckError], told: str) -> None:
    make(tmp_path / "t.onnx")
    with pytest.raises(kind) as refused:
        OnnxTeacher(tmp_path / "t.onnx")
    assert told in refused.value.what
    assert "\n" not in refused.value.what
    assert refused.value.cure


@pytest.mark.parametrize(
    ("shape", "told", "cure"),
    [
        ((3, 8, 8), "takes inputs [batch, 3, 8, 8], the data give [batch, 3, 4, 5]", "input_size: [8, 8]"),
        ((8, 9, 3), "takes inputs [batch, 8, 9, 3] (channels last), the data", "input_size: [8, 9]"),
        ((1, 4, 5), "takes inputs [batch, 1, 4, 5]", "data.channels"),
        ((60,), "takes inputs [batch, 60]", "the order of pixels and colors"),
    ],
)
def test_inputs_of_another_shape(tmp_path: Path, shape: tuple[int, ...], told: str, cure: str) -> None:
    linear(tmp_path / "t.onnx", shape, 4)
    with pytest.raises(ModelError) as refused:
        OnnxTeacher(tmp_path / "t.onnx").fitted((3, 4, 5), list("abcd"))
    assert told in refused.value.what
    assert cure in str(refused.value.cure)


def test_another_class_count(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3)
    with pytest.raises(ModelError, match="gives 3 outputs, the data have 4 classes"):
        OnnxTeacher(tmp_path / "t.onnx").fitted((6,), list("abcd"))


def test_labels_are_matched_by_name(tmp_path: Path) -> None:
    matrix = linear(tmp_path / "t.onnx", (6,), 3)
    teacher = OnnxTeacher(tmp_path / "t.onnx", classes=["c", "a", "b"], threads=1)
    close(teacher.fitted((6,), ["a", "b", "c"])(ROWS).logits, (ROWS.numpy() @ matrix)[:, [1, 2, 0]])
    close(teacher.fitted((6,), ["b", "c"])(ROWS).logits, (ROWS.numpy() @ matrix)[:, [2, 0]])
    assert teacher.fitted((6,), ["b", "c"]).digest != teacher.fitted((6,), ["c", "b"]).digest
    with pytest.raises(ModelError, match="does not name class 'd'"):
        teacher.fitted((6,), ["a", "b", "d"])


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    linear(tmp_path / "a.onnx", (6,), 3)
    linear(tmp_path / "b.onnx", (6,), 3, end="LogSoftmax")
    shutil.copy(tmp_path / "a.onnx", tmp_path / "c.onnx")
    a, b, c = (OnnxTeacher(tmp_path / f"{name}.onnx") for name in "abc")
    assert a.digest == c.digest != b.digest
    assert a.graph.parameters == 18


def test_it_is_deterministic_and_can_be_copied(tmp_path: Path) -> None:
    linear(tmp_path / "t.onnx", (6,), 3)
    teacher = OnnxTeacher(tmp_path / "t.onnx")
    first = teacher(ROWS).logits
    (tmp_path / "t.onnx").unlink()  # frozen when it was made
    carried = pickle.loads(pickle.dumps(teacher))  # noqa: S301  (to a worker process)
    for one in (teacher, copy.deepcopy(teacher), carried, teacher.placed(lambda m: m)):
        assert torch.equal(one(ROWS).logits, first)
    assert isinstance(teacher, Teacher)
    assert not first.requires_grad
    linear(tmp_path / "t.onnx", (6,), 3)
    assert torch.equal(as_teacher(tmp_path / "t.onnx")(ROWS).logits, first)
    half = Ensemble([teacher, lambda x: torch.zeros(len(x), 3)])(ROWS).logits
    close(torch.softmax(half, 1), (torch.softmax(first, 1).numpy() + 1 / 3) / 2)


def test_a_file_of_limbecks_own_is_used_as_it_is(tmp_path: Path) -> None:
    module, names = MLP((1, 4, 5), 3, hidden=[7]).eval(), ["x", "y", "z"]
    preparation = Preparation(Normalization((0.3,), (0.2,)))
    export_onnx(
        module, tmp_path / "s.onnx", preparation=preparation, shape=(1, 4, 5), classes=names, name="limbeck/mlp"
    )
    teacher = OnnxTeacher(tmp_path / "s.onnx")
    assert teacher.classes == ("x", "y", "z")
    assert json.loads(teacher.graph.metadata["shape"]) == [1, 4, 5]
    gray = IMAGES[:, :1]
    with torch.no_grad():
        expected = module(preparation(gray))
    close(teacher.fitted((1, 4, 5), ["z", "x", "y"])(gray).logits, expected[:, [2, 0, 1]])
    with pytest.raises(ModelError, match="normalizes its inputs itself"):
        OnnxTeacher(tmp_path / "s.onnx", normalization=Normalization((0.3,), (0.2,)))
