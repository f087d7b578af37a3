"""Weights kept as float16 and computed with as float32: half the file, the same speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.compress.libraries import library
from limbeck.compress.quantize.graph import rewritten
from limbeck.errors import ExportError

SMALLEST = 64  # numbers of a tensor that is worth a node of its own


def half_weights(source: str | Path, target: str | Path) -> Path:
    """Write an exported file with its weights as float16; a node for each makes float32 of them when it is loaded.

    A weight moves by at most 2⁻¹¹ of itself (2⁻²⁵ where it is smaller than 6e-5).

    Args:
        source: a float32 file that limbeck exported.
        target: the new file, which takes and gives float32 as before.

    Raises:
        FileError: if the source is damaged.
        ExportError: naming the tensor, if a weight is too large for float16 (65,504); or if nothing could be halved.
    """
    return rewritten(source, target, _halved, numbers="float16")


def _halved(proto: Any) -> Any:
    onnx = library("onnx")
    casts, kept = [], []
    for tensor in proto.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor) if tensor.data_type == onnx.TensorProto.FLOAT else None
        if value is None or value.size < SMALLEST:
            kept.append(tensor)
            continue
        most = float(np.abs(value).max())
        if not most <= float(np.finfo(np.float16).max):
            raise ExportError(
                f"'{tensor.name}' has a weight of {most:.3g}, and float16 ends at 65504", cure="keep float32"
            )
        name = f"{tensor.name}.float16"
        kept.append(onnx.numpy_helper.from_array(value.astype(np.float16), name))
        casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
    if not casts:
        raise ExportError(f"no weights of {SMALLEST} numbers or more: there is nothing to keep as float16")
    nodes = [*casts, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(nodes)
    return proto


__all__ = ["half_weights"]
