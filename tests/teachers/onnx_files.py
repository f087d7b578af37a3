"""ONNX files of known weights, made operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def weights(features: int, classes: int, seed: int = 0) -> Any:
    """The weights of a linear classifier, ``[features, classes]``."""
    return np.random.default_rng(seed).normal(size=(features, classes)).astype(np.float32)


def linear(
    path: Path,
    shape: tuple[int | str, ...],
    classes: int,
    *,
    batch: int | str = "batch",
    end: str | None = None,
    kind: int = TensorProto.FLOAT,
    domain: str = "",
    op: str = "MatMul",
    outputs: int = 1,
    inputs: int = 1,
    features: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Any:
    """Write ``flatten(x) @ weights``; the weights are returned."""
    size = features or int(np.prod([one for one in shape if isinstance(one, int)]))
    matrix = weights(size, classes)
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node(op, ["flat", "weights"], ["scores"], domain=domain),
    ]
    name = "scores"
    if end:
        nodes.append(helper.make_node(end, ["scores"], ["said"], axis=1))
        name = "said"
    given = [helper.make_tensor_value_info("x", kind, [batch, *shape])]
    given += [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [batch, 1]) for i in range(1, inputs)]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, classes])]
    if outputs > 1:
        nodes.append(helper.make_node("ArgMax", [name], ["label"], axis=1, keepdims=0))
        gives.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [batch]))
    graph = helper.make_graph(nodes, "linear", given, gives, [numpy_helper.from_array(matrix, "weights")])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return matrix


def zipmap(path: Path, features: int) -> None:
    """A classifier as skl2onnx writes it: a label, and a sequence of maps."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "table"],
            domain="ai.onnx.ml",
            coefficients=[1.0] * features + [-1.0] * features,
            intercepts=[0.0, 0.0],
            classlabels_ints=[0, 1],
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["table"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    of_map = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    gives = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(of_map)),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph(nodes, "sk", given, gives), opset_imports=opsets, ir_version=9)
    path.write_bytes(model.SerializeToString())


def outside(path: Path) -> None:
    """A file whose weights lie in another file."""
    linear(path, (4,), 3)
    model = onnx.load_model(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    path.write_bytes(model.SerializeToString())
