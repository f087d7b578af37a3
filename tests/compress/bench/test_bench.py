"""Files beside each other: counts against torch's, bytes against gzip's, one clear word where it can not be done."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.compress.bench.macs import onnx_macs
from limbeck.compress.bench.measure import side_by_side
from limbeck.compress.bench.opened import open_file
from limbeck.compress.export.onnx import export_onnx
from limbeck.compress.quantize.half import half_weights
from limbeck.compress.quantize.int8 import static_int8
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import ExportError, FileError
from limbeck.evaluation.sizes import macs
from limbeck.files import sha256, write_json, write_tensors
from limbeck.models import build

SHAPE = (3, 32, 32)
PLAIN = Preparation(Normalization.none(3))


def exported(folder: Path, name: str, **options: Any) -> Path:
    module = build(name, input_shape=SHAPE, classes=4, options=options)
    return export_onnx(module, folder / "float.onnx", preparation=PLAIN, shape=SHAPE, classes=list("abcd"), name=name)


def shipped(folder: Path, name: str, **options: Any) -> Path:
    """The two files of a student."""
    module = build(name, input_shape=SHAPE, classes=4, options=options, seed=0)
    file = write_tensors(folder / "student.safetensors", module.state_dict())
    told = {"model": name, "options": options, "classes": list("abcd"), "shape": list(SHAPE)}
    told |= {"normalization": {"mean": [0.0] * 3, "std": [1.0] * 3}, "file": file.name, "sha256": sha256(file)}
    return write_json(folder / "student.json", told)


@pytest.mark.parametrize("name", ["limbeck/cnn5", "limbeck/resnet8", "limbeck/mobilenet_v2", "limbeck/mlp_784"])
def test_the_graph_has_the_multiplications_of_the_module(tmp_path: Path, name: str) -> None:
    """Against torch's count of floating-point operations."""
    options: dict[str, Any] = {"width": 4} if name == "limbeck/cnn5" else {}
    module = build(name, input_shape=SHAPE, classes=4, options=options)
    assert onnx_macs(exported(tmp_path, name, **options), SHAPE) == macs(module, SHAPE)


def test_a_file_for_pictures_of_any_size_is_counted_at_one(tmp_path: Path) -> None:
    module = build("limbeck/unet", input_shape=SHAPE, classes=4, options={"width": 4})
    windows, use = Windows(0.25), Use(fit="windows")
    given: dict[str, Any] = {"preparation": PLAIN, "shape": SHAPE, "classes": list("abcd"), "name": "unet"}
    file = export_onnx(module, tmp_path / "unet.onnx", windows=windows, use=use, **given)
    for shape in (SHAPE, (3, 64, 48)):
        assert onnx_macs(file, shape) == macs(module, shape)


def test_int8_and_half_files_have_the_same_count(tmp_path: Path) -> None:
    source = exported(tmp_path, "limbeck/resnet8")
    inputs = np.random.default_rng(0).random((8, *SHAPE), dtype=np.float32)
    for small in (half_weights(source, tmp_path / "h.onnx"), static_int8(source, tmp_path / "q.onnx", [inputs])):
        assert onnx_macs(small, SHAPE) == onnx_macs(source, SHAPE)


def test_files_are_measured_in_one_run(tmp_path: Path) -> None:
    source = exported(tmp_path, "limbeck/cnn5", width=8)
    half = half_weights(source, tmp_path / "half.onnx")
    described = shipped(tmp_path, "limbeck/cnn5", width=8)
    said: list[str] = []
    found = side_by_side([source, half, described], batches=(1, 3), repeats=3, warmup=1, say=said.append)
    assert [one["runtime"] for one in found] == ["ONNX Runtime", "ONNX Runtime", "PyTorch eager"]
    assert [Path(one["file"]).name for one in found] == ["float.onnx", "half.onnx", "student.safetensors"]
    for one in found:
        data = Path(one["file"]).read_bytes()
        assert (one["bytes"], one["gzip_bytes"]) == (len(data), len(gzip.compress(data, 6, mtime=0)))
        assert one["zstd_bytes"] is None or one["zstd_bytes"] < one["bytes"]
        assert set(one["latency"]) == set(one["peak_bytes"]) == {"1", "3"}
        for timed in one["latency"].values():
            assert 0 < timed["low_ms"] <= timed["median_ms"] <= timed["high_ms"]
            assert (timed["threads"], timed["runs"]) == (1, 3)
        assert all(0 < peak < 2**31 for peak in one["peak_bytes"].values())
    assert len({one["macs"] for one in found}) == 1
    assert said[0] == "batch 1: 4 turns"


def test_the_same_weights_say_the_same_in_either_runtime(tmp_path: Path) -> None:
    one, other = open_file(exported(tmp_path, "limbeck/resnet8")), open_file(shipped(tmp_path, "limbeck/resnet8"))
    inputs = np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)
    assert np.abs(one.run(inputs) - other.run(inputs)).max() < 1e-4


def foreign(path: Path, shape: list[Any], batch: Any = "n") -> Path:
    """A file that limbeck did not write."""
    takes, gives = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [takes], [gives])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def test_anyones_file_is_run_with_its_own_shape_or_a_given_one(tmp_path: Path) -> None:
    assert open_file(foreign(tmp_path / "a.onnx", [3, 8, 8])).shape == (3, 8, 8)
    free = foreign(tmp_path / "b.onnx", ["c", "h", "w"])
    assert open_file(free, shape=(1, 4, 4)).shape == (1, 4, 4)
    with pytest.raises(ExportError, match="inputs of any shape"):
        open_file(free)


def test_what_can_not_be_measured_is_named_before_anything_is(tmp_path: Path) -> None:
    source = exported(tmp_path, "limbeck/cnn5", width=4)
    other = foreign(tmp_path / "other.onnx", [1, 8, 8])
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(source.read_bytes()[:-100])
    for files, kind, words in (
        ([source, other], FileError, r"float\.onnx takes inputs \[3, 32, 32\] and .*other\.onnx"),
        ([source, cut], FileError, r"cut\.onnx"),
        ([source, tmp_path / "none.onnx"], FileError, r"none\.onnx is missing"),
        ([tmp_path / "model.pth"], ExportError, "of no kind that can be run"),
        ([], FileError, "no files"),
    ):
        with pytest.raises(kind, match=words):
            side_by_side(files, repeats=3)


def test_external_weights_are_not_looked_for_elsewhere(tmp_path: Path) -> None:
    """A file whose weights lie outside its folder is refused, and nothing of the other file is read."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x00" * 16)
    (tmp_path / "in").mkdir()
    value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../secret")
    takes, gives = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [takes], [gives], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (tmp_path / "in" / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match=r"a\.onnx"):
        open_file(tmp_path / "in" / "a.onnx")


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    source = exported(tmp_path, "limbeck/cnn5", width=4)
    half = half_weights(source, tmp_path / "half.onnx")
    plain = ["bench", str(source), str(half), "--repeats", "3", "--batch", "2", "--no-memory"]
    done = CliRunner().invoke(app, [*plain, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [Path(one["file"]).name for one in told["files"]] == ["float.onnx", "half.onnx"]
    assert told["environment"]["cores"] >= 1
    done = CliRunner().invoke(app, plain)
    assert "half.onnx" in done.stdout
    assert "to the first" in done.stdout


def test_options_that_are_wrong_are_told(tmp_path: Path) -> None:
    source = exported(tmp_path, "limbeck/cnn5", width=4)
    for option, value in (("--batch", "0"), ("--batch", "x"), ("--shape", "3,-1,8")):
        done = CliRunner().invoke(app, ["bench", str(source), option, value])
        assert done.exit_code != 0
        assert option in str(done.exception) + done.output


def test_a_file_that_does_not_take_so_many_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"one\.onnx does not take 2 inputs"):
        side_by_side([foreign(tmp_path / "one.onnx", [3, 8, 8], batch=1)], batches=(2,), repeats=3)
