"""Int8 by ONNX Runtime: weights and activations (static), or weights alone where activations vary (dynamic)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.compress.libraries import library
from limbeck.compress.quantize.graph import optimized, rewritten
from limbeck.errors import DataError, ExportError

Floats = NDArray[np.float32]
Calibration = Literal["minmax", "entropy", "percentile"]
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
LINEAR = ("MatMul", "Gemm")


def static_int8(
    source: str | Path,
    target: str | Path,
    calibration: Iterable[Floats],
    *,
    method: Calibration = "minmax",
    exclude: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Path:
    """Write an exported file with int8 weights and activations.

    Weights are signed, symmetric, with a scale for each output channel; activations are unsigned with a zero point,
    their ranges seen on the calibration inputs. On x86 with VNNI this pair is the fast one; both signed is slower than
    float32. What has no int8 form stays float32.

    Args:
        source: a float32 file that limbeck exported.
        target: the new file; it takes and gives float32 as before.
        calibration: batches as the file takes them, float32 ``[B, …]``: of the training split, without augmentation;
            some hundred samples.
        method: how a range is found: ``minmax`` (all that was seen), ``entropy`` (Kullback-Leibler), ``percentile``.
        exclude: names of nodes that stay float32, see :func:`quantizable`.
        only: names of the nodes that become int8; None: all that can.

    Raises:
        FileError: if the source is damaged.
        DataError: without calibration inputs, or if they are not finite.
        ExportError: if ONNX Runtime can not quantize it, or no node would be int8.

    Source: Jacob et al., CVPR 2018, arXiv:1712.05877; Krishnamoorthi, 2018, arXiv:1806.08342.
    """
    given = [np.ascontiguousarray(one, np.float32) for one in calibration]
    if not given:
        raise DataError("no samples to calibrate by", cure="give some hundred of the training split")
    if not all(np.isfinite(one).all() for one in given):
        raise DataError("a calibration sample is not finite, so ranges of activations would not be either")

    def change(proto: Any) -> Any:
        tools = library("onnxruntime.quantization")
        simple = optimized(proto)
        chosen = [name for name in (_names(simple) if only is None else only) if name not in set(exclude)]
        if not chosen:
            raise ExportError(f"{source} has no operator left that could be int8", cure="ship the float32 file")

        class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined]
            def __init__(self) -> None:
                self._rest = iter(given)

            def get_next(self) -> dict[str, Floats] | None:
                return next(({"image": one} for one in self._rest), None)

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            tools.quantize_static(
                simple,
                str(file),
                Reader(),
                quant_format=tools.QuantFormat.QDQ,
                per_channel=True,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
                nodes_to_quantize=chosen,
                calibrate_method=getattr(tools.CalibrationMethod, _METHODS[method]),
            )
            return library("onnx").load_from_string(file.read_bytes())

    return rewritten(source, target, change, numbers="int8")


def dynamic_int8(source: str | Path, target: str | Path) -> Path:
    """Write an exported file whose linear layers have int8 weights; activations get their scale while it runs.

    Convolutions stay float32: for them it would be slower.

    Args:
        source: a float32 file that limbeck exported.
        target: the new file; it takes and gives float32 as before.

    Raises:
        FileError: if the source is damaged.
        ExportError: if it has no linear layer.
    """

    def change(proto: Any) -> Any:
        simple = optimized(proto)
        if not any(node.op_type in LINEAR for node in simple.graph.node):
            raise ExportError(f"{source} has no linear layer, and dynamic int8 is for those", cure="static int8")
        tools = library("onnxruntime.quantization")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            tools.quantize_dynamic(
                simple,
                str(file),
                op_types_to_quantize=list(LINEAR),
                per_channel=True,
                weight_type=tools.QuantType.QInt8,
            )
            return library("onnx").load_from_string(file.read_bytes())

    return rewritten(source, target, change, numbers="int8 (linear layers)")


def quantizable(source: str | Path) -> list[str]:
    """The nodes of an exported file that static int8 computes with, in the order they run.

    Raises:
        ExportError: if a package is missing.
    """
    return _names(optimized(library("onnx").load_from_string(Path(source).read_bytes())))


def _names(proto: Any) -> list[str]:
    """Nodes with weights that have an int8 form, and what lies between them."""
    kinds = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"}
    kinds |= {"Relu", "Clip", "Resize", "Reshape", "Flatten", "Pad", "Mul"}
    return [node.name for node in proto.graph.node if node.op_type in kinds]


__all__ = ["Calibration", "dynamic_int8", "quantizable", "static_int8"]
