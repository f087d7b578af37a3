"""Files with smaller numbers: what numpy computes from the same numbers, smaller on disk, sealed, refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from limbeck.compress.export.onnx import export_onnx
from limbeck.compress.quantize.graph import NUMBERS
from limbeck.compress.quantize.half import half_weights
from limbeck.compress.quantize.int8 import dynamic_int8, quantizable, static_int8
from limbeck.compress.shipped.opening import open_onnx
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.errors import DataError, ExportError, FileError

SHAPE = (1, 8, 8)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3))


def exported(folder: Path, module: nn.Module) -> Path:
    return export_onnx(
        module, folder / "float.onnx", preparation=Preparation(Normalization((0.5,), (0.25,))), shape=SHAPE,
        classes=["a", "b", "c"], name="net",
    )  # fmt: skip


def inputs(count: int = 64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, *SHAPE), dtype=np.float32)


def said(file: Path, batch: Any) -> Any:
    session, signature = open_onnx(file)
    assert signature.classes == ("a", "b", "c")
    return session.run(["logits"], {"image": batch})[0]


def told(file: Path) -> dict[str, str]:
    return {one.key: one.value for one in onnx.load(file).metadata_props}


def test_half_weights_are_the_rounded_ones(tmp_path: Path) -> None:
    module = linear()
    source = exported(tmp_path, module)
    small = half_weights(source, tmp_path / "half.onnx")
    assert small.stat().st_size < 0.6 * source.stat().st_size
    with torch.no_grad():
        for one in module.parameters():
            if one.numel() >= 64:
                one.copy_(one.half().float())
        expected = module((torch.from_numpy(inputs()) - 0.5) / 0.25).numpy()
    assert np.abs(said(small, inputs()) - expected).max() < 1e-5
    assert told(small)[NUMBERS] == "float16"
    assert {key: value for key, value in told(small).items() if key not in (NUMBERS, "limbeck.sha256")} == {
        key: value for key, value in told(source).items() if key != "limbeck.sha256"
    }


def test_a_weight_too_large_for_float16_is_named(tmp_path: Path) -> None:
    module = linear()
    with torch.no_grad():
        module[1].weight[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"1\.weight.*has a weight of 1e\+06"):
        half_weights(exported(tmp_path, module), tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


def test_static_int8_is_computed_with_int8(tmp_path: Path) -> None:
    source = exported(tmp_path, convolutional())
    small = static_int8(source, tmp_path / "int8.onnx", [inputs(32, 1), inputs(32, 2)])
    whole, found = said(source, inputs()), said(small, inputs())
    assert np.abs(found - whole).max() < 0.05 * np.abs(whole).max() + 0.02
    assert told(small)[NUMBERS] == "int8"
    graph = onnx.load(small).graph
    weights = [numpy_helper.to_array(one) for one in graph.initializer]
    convolutions = [one for one in weights if one.dtype == np.int8 and one.ndim == 4]
    assert sorted(one.shape for one in convolutions) == [(16, 1, 3, 3), (16, 16, 3, 3)]
    assert all(np.abs(one.astype(int)).max(axis=(1, 2, 3)).min() == 127 for one in convolutions), "a scale a channel"
    assert {one.domain for one in onnx.load(small).opset_import} <= {"", "ai.onnx.ml", "com.microsoft"}


def test_weights_are_rounded_to_the_nearest_of_their_channel(tmp_path: Path) -> None:
    """Numpy's own: scale = max|w| / 127 for each output channel, q = round(w / scale)."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    source = exported(tmp_path, module)
    small = static_int8(source, tmp_path / "int8.onnx", [inputs()])
    weight = module[0].weight.detach().numpy()
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    (found,) = [
        one for one in map(numpy_helper.to_array, onnx.load(small).graph.initializer)
        if one.dtype == np.int8 and one.shape == weight.shape
    ]  # fmt: skip
    assert np.abs(found - np.round(weight / scale)).max() <= 1
    assert (found != np.round(weight / scale)).mean() < 0.05  # at .5 either is right


def test_nodes_that_are_left_out_stay_float(tmp_path: Path) -> None:
    source = exported(tmp_path, convolutional())
    names = quantizable(source)
    first = next(name for name in names if "conv" in name.lower())
    small = static_int8(source, tmp_path / "int8.onnx", [inputs()], exclude=[first])
    shapes = [tuple(one.dims) for one in onnx.load(small).graph.initializer if one.data_type == onnx.TensorProto.INT8]
    assert (16, 1, 3, 3) not in shapes
    assert (16, 16, 3, 3) in shapes
    one = static_int8(source, tmp_path / "one.onnx", [inputs()], only=[first])
    shapes = [tuple(each.dims) for each in onnx.load(one).graph.initializer if each.data_type == onnx.TensorProto.INT8]
    assert [shape for shape in shapes if len(shape) == 4] == [(16, 1, 3, 3)]
    with pytest.raises(ExportError, match="no operator left that could be int8"):
        static_int8(source, tmp_path / "none.onnx", [inputs()], exclude=names)


def test_dynamic_int8_is_for_linear_layers(tmp_path: Path) -> None:
    source = exported(tmp_path, linear())
    small = dynamic_int8(source, tmp_path / "int8.onnx")
    assert small.stat().st_size < 0.4 * source.stat().st_size
    whole, found = said(source, inputs()), said(small, inputs())
    assert np.abs(found - whole).max() < 0.05 * np.abs(whole).max()
    with pytest.raises(ExportError, match="no linear layer"):
        dynamic_int8(exported(tmp_path, nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())), tmp_path / "none.onnx")


@pytest.mark.parametrize("make", ["half", "static", "dynamic"])
def test_a_changed_file_is_not_made_smaller(tmp_path: Path, make: str) -> None:
    source = exported(tmp_path, linear())
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(FileError, match=r"float\.onnx"):
        {"half": half_weights, "dynamic": dynamic_int8, "static": lambda a, b: static_int8(a, b, [inputs()])}[make](
            source, tmp_path / "small.onnx"
        )


def test_what_calibrates_is_looked_at(tmp_path: Path) -> None:
    source = exported(tmp_path, convolutional())
    with pytest.raises(DataError, match="no samples"):
        static_int8(source, tmp_path / "int8.onnx", [])
    with pytest.raises(DataError, match="not finite"):
        static_int8(source, tmp_path / "int8.onnx", [inputs() * np.float32("nan")])


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_ways_to_find_a_range(tmp_path: Path, method: Any) -> None:
    source = exported(tmp_path, convolutional())
    small = static_int8(source, tmp_path / "int8.onnx", [inputs(), inputs(seed=1)], method=method)
    whole, found = said(source, inputs()), said(small, inputs())
    assert np.abs(found - whole).max() < 0.3 * np.abs(whole).max()


def test_a_sealed_copy_opens_in_plain_onnx_runtime(tmp_path: Path) -> None:
    small = static_int8(exported(tmp_path, convolutional()), tmp_path / "int8.onnx", [inputs()])
    session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": inputs(5)})[0].shape == (5, 3)
