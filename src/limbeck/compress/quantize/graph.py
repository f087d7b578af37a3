"""An exported file as a graph that is changed: what it says of itself is kept, and it is sealed again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.compress.libraries import library, silent
from limbeck.compress.shipped.opening import SEAL, UNSEALED, open_onnx, seal
from limbeck.errors import ExportError
from limbeck.files import write_bytes

NUMBERS = "numbers"  # in the metadata: what the weights are kept as


def rewritten(source: str | Path, target: str | Path, change: Callable[[Any], Any], *, numbers: str) -> Path:
    """Write a changed copy of an exported file.

    Args:
        source: a file that limbeck exported.
        target: the new file.
        change: gives the new graph for the graph of ``source`` (an ``onnx.ModelProto`` that it may change).
        numbers: what its weights are kept as, for its metadata.

    Raises:
        FileError: if the source is damaged or was changed.
        ExportError: if it was not exported by limbeck, a package is missing, or the graph can not be changed.
    """
    open_onnx(source)
    onnx = library("onnx")
    proto = onnx.load_from_string(Path(source).read_bytes())
    told = {one.key: one.value for one in proto.metadata_props}
    with silent():
        try:
            proto = change(proto)
        except ExportError:
            raise
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ExportError(
                f"{source} can not be written with {numbers} weights: {line[:200]}", cure="ship the float32 file"
            ) from None
    del proto.metadata_props[:]
    for key, value in {**told, NUMBERS: numbers, SEAL: UNSEALED}.items():
        proto.metadata_props.add(key=key, value=value)
    _only_used_domains(proto)
    return write_bytes(target, seal(proto.SerializeToString(deterministic=True)))


def optimized(proto: Any) -> Any:
    """The graph as ONNX Runtime simplifies it for any machine: constants computed, BatchNorm within convolutions."""
    runtime, onnx = library("onnxruntime"), library("onnx")
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simple.onnx")
        options.log_severity_level = 4
        runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simple = onnx.load_from_string(Path(options.optimized_model_filepath).read_bytes())
    del simple.graph.value_info[:]  # shapes of what is between, which change with the numbers
    return simple


def _only_used_domains(proto: Any) -> None:
    """Leave out the operator sets that no node is of: other runtimes refuse what they do not know."""
    used = {node.domain for node in proto.graph.node} | {""}
    kept = [(one.domain, one.version) for one in proto.opset_import if one.domain in used]
    del proto.opset_import[:]
    for domain, version in kept:
        proto.opset_import.add(domain=domain, version=version)


__all__ = ["NUMBERS", "optimized", "rewritten"]
