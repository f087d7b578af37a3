"""Multiply-accumulates of an ONNX file, from its graph."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from limbeck.compress.libraries import library, silent
from limbeck.compress.quantize.graph import optimized


def onnx_macs(path: str | Path, shape: tuple[int, ...]) -> int | None:
    """Multiply-accumulates of one input.

    Convolutions, transposed ones, and products of matrices are counted, float or int8 alike; the rest is small beside
    them, and not counted by :func:`limbeck.evaluation.sizes.macs` either.

    Args:
        path: of the file.
        shape: of one input.

    Returns:
        None where the shapes of the graph are not known.
    """
    onnx = library("onnx")
    proto = onnx.load_from_string(Path(path).read_bytes())
    for axis, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (1, *shape), strict=False):
        axis.dim_value = size
    del proto.graph.value_info[:]
    with silent():
        try:
            proto = onnx.shape_inference.infer_shapes(optimized(proto), data_prop=True)  # computes what sizes decide
        except Exception:
            return None
    graph = proto.graph
    shapes = {one.name: _dims(one) for one in [*graph.value_info, *graph.output, *graph.input]}
    shapes |= {one.name: tuple(one.dims) for one in graph.initializer}
    total = 0
    for node in graph.node:
        found = _node(node, shapes)
        if found is None:
            return None
        total += found
    return total


def _node(node: Any, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Of one node; None if the shapes that it needs are not known."""
    kind = node.op_type
    if kind not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "ConvInteger"):
        return 0
    first, weight, out = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if not first or not weight or not out or 0 in (*first, *weight, *out):
        return None
    if kind in ("Conv", "ConvInteger"):  # every output place: the weights of one output channel
        return math.prod(out) * math.prod(weight[1:])
    if kind == "ConvTranspose":  # every input place: the weights of one input channel
        return math.prod(first) * math.prod(weight[1:])
    if kind == "Gemm":
        transposed = any(one.name == "transA" and one.i for one in node.attribute)
        return math.prod(out) * first[0 if transposed else -1]
    return math.prod(out) * first[-1]


def _dims(value: Any) -> tuple[int, ...]:
    return tuple(one.dim_value for one in value.type.tensor_type.shape.dim)


__all__ = ["onnx_macs"]
