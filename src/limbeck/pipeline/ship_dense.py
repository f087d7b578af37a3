"""The exported segmenter of a run: held against the model on whole pictures, scored and measured."""

from __future__ import annotations

from typing import Any

from limbeck.compress.export.alike import Beside, compare_stitched
from limbeck.compress.export.onnx import export_onnx, session_call
from limbeck.compress.shipped.opening import open_onnx
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.data.scenes import SceneSplit
from limbeck.errors import ExportError
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.stitching import OVERLAP
from limbeck.evaluation.latency import latency
from limbeck.evaluation.metrics import scalars
from limbeck.evaluation.sizes import file_bytes
from limbeck.files import sha256
from limbeck.pipeline.colored import colors
from limbeck.pipeline.stages import Context, Trained

_PIXELS = 2**18  # of a batch that is timed: 4 patches of 256 x 256
_MOST = 32  # patches


def described(context: Context) -> dict[str, Any]:
    """What ``student.json`` says of a segmenter besides: its patches, how they overlap, and the classes' colors."""
    own = colors(context.experiment.recipe)
    patch = list(context.experiment.data.shape[1:])
    return {"patch": patch, "overlap": OVERLAP, "colors": None if own is None else [list(one) for one in own]}


def export_segmenter(context: Context, student: Trained, said: Reading, use: Use, threads: int) -> dict[str, Any]:
    """Export a segmenter to ONNX, and run the file over every picture of the test split as ``predict`` does.

    Args:
        context: of the run.
        student: the one that ships.
        said: what it says of the test split.
        use: of the file.
        threads: that its latency is measured on.

    Raises:
        ExportError: if it can not be exported, or says something else than the model.
    """
    data, candidate, module = context.experiment.data, student.candidate, student.module()
    test, own = data.test, colors(context.experiment.recipe)
    if not isinstance(test, SceneSplit):
        raise ExportError("a segmenter is exported from data without masks")
    path = export_onnx(
        module,
        context.run.path / "student.onnx",
        preparation=candidate.preparation,
        shape=data.shape,
        classes=data.classes,
        name=candidate.name,
        use=use,
        windows=Windows(OVERLAP, colors=None if own is None else tuple(own)),
    )
    session, signature = open_onnx(path)
    reading, found = compare_stitched(Beside(path, session, signature, module, candidate.preparation), test, said)
    metrics = context.experiment.task.metrics(reading, test, data.classes)
    timed = latency({"onnx": session_call(path, data.shape, batch=1, threads=threads)}, threads=threads)["onnx"]
    return {
        "path": path.name,
        "format": "onnx",
        "sha256": sha256(path),
        "bytes": file_bytes(path),
        **found,
        "sizes": signature.windows.sizes if signature.windows else None,
        "latency_ms": timed["median_ms"],
        "threads": threads,
        "metrics": {"test": scalars(metrics)},
    }


def batch_of(shape: tuple[int, ...]) -> int:
    """How many patches are timed together, so that it takes seconds.

    Example:
        >>> batch_of((3, 256, 256)), batch_of((1, 32, 32)), batch_of((3, 1024, 1024))
        (4, 32, 1)
    """
    return min(max(_PIXELS // (shape[-2] * shape[-1]), 1), _MOST)


__all__ = ["batch_of", "described", "export_segmenter"]
