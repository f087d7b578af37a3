"""What leaves the run: the student's files, exported, reloaded, scored and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.compress.export.onnx import compare, export_onnx, run_onnx, session_call
from limbeck.compress.shipped.use import Use
from limbeck.evaluation.latency import latency
from limbeck.evaluation.metrics import scalars
from limbeck.evaluation.operating import probability
from limbeck.evaluation.sizes import bare, file_bytes, gzip_bytes, macs, parameters
from limbeck.files import describe, read_tensors, sha256, write_json, write_tensors
from limbeck.pipeline.given import Given, measure_given
from limbeck.pipeline.reusing import parts
from limbeck.pipeline.ship_dense import batch_of, described, export_segmenter
from limbeck.pipeline.stages import Context, Trained

THREADS = 1
BATCH = 32


def ship(context: Context, student: Trained, point: Mapping[str, Any] | None = None) -> None:
    """Write ``student.safetensors``, whose weights load into the plain module, and ``student.json`` beside it.

    Args:
        context: of the run.
        student: the one that ships.
        point: its operating point.
    """
    path = context.run.path / "student.safetensors"
    write_tensors(path, read_tensors(student.file())[0])
    data, use = context.experiment.data, _use(context, point)
    content = {
        "model": student.candidate.name,
        "options": dict(student.candidate.options),
        **({"parts": found} if (found := parts(student.candidate, student.module())) else {}),
        **({"layers": student.candidate.cut} if student.candidate.cut else {}),
        "task": context.experiment.task.name,
        "classes": list(data.classes),
        "shape": list(data.shape),
        "input": f"float32, {use.values}, resized to input_size if there is one (bilinear, antialias), then "
        "(x - mean) / std for each channel",
        "resize": use.resize,
        "fit": use.fit,
        "range": use.range,
        **student.candidate.preparation.to_dict(),
        **(described(context) if context.experiment.task.dense else {}),
        "positive": use.positive,
        "threshold": use.threshold,
        "operating_point": point,
        "stage": student.role,
        "seed": student.seed,
        "epoch": student.result["selected_epoch"],
        "file": path.name,
        **describe(path),
    }
    write_json(path.with_suffix(".json"), content)


def export(context: Context, student: Trained, said: Any, point: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Export the student to ONNX, read it back in ONNX Runtime, and score that on the test split.

    Args:
        context: of the run.
        student: the one that ships.
        said: what it says of the test split, as its task is told.
        point: its operating point, whose threshold goes into the file.

    Raises:
        ExportError: if it can not be exported, or says something else than the model.
    """
    if context.experiment.task.dense:
        return export_segmenter(context, student, said, _use(context, point), THREADS)
    data, candidate, reference = context.experiment.data, student.candidate, said[0]
    path = export_onnx(
        student.module(),
        context.run.path / "student.onnx",
        preparation=candidate.preparation,
        shape=data.shape,
        classes=data.classes,
        name=candidate.name,
        use=_use(context, point),
    )
    logits = run_onnx(path, data.test)
    difference = compare(path, logits, reference)
    metrics = context.experiment.task.metrics((logits, data.test.targets), data.test, data.classes)
    timed = latency({"onnx": session_call(path, data.shape, batch=1, threads=THREADS)}, threads=THREADS)["onnx"]
    return {
        "path": path.name,
        "format": "onnx",
        "sha256": sha256(path),
        "bytes": file_bytes(path),
        "max_abs_difference": difference["max_abs_difference"],
        "agreement": difference["agreement"],
        "latency_ms": timed["median_ms"],
        "threads": THREADS,
        "metrics": {"test": scalars(metrics)},
        **_decisions(context, logits, reference, point),
    }


def _use(context: Context, point: Mapping[str, Any] | None) -> Use:
    data = context.experiment.data
    frame = getattr(data.test, "frame", None)  # pictures that were read from files
    return Use(
        fit="windows" if context.experiment.task.dense else "whole" if frame is None else frame.fit,
        range=data.input_range,
        positive=context.experiment.task.positive,
        threshold=None if point is None else point["threshold"],
    )


def _decisions(
    context: Context, logits: Tensor, reference: Tensor, point: Mapping[str, Any] | None
) -> dict[str, float]:
    """Share of test samples that the exported file and the model decide alike at the threshold."""
    if point is None or context.experiment.task.positive is None:
        return {}
    number = context.experiment.data.classes.index(context.experiment.task.positive)
    called = [probability(one, number) >= point["threshold"] for one in (logits, reference)]
    return {"decisions_agree": float((called[0] == called[1]).double().mean())}


def measure(context: Context, found: Mapping[str, Trained | Given]) -> dict[str, dict[str, Any]]:
    """Size and speed of each model, by role, on inputs of its own size: in turns, on the CPU in float32."""
    shape, dense = context.experiment.data.shape, context.experiment.task.dense
    size, often = (batch_of(shape), {"warmup": 2, "repeats": 10}) if dense else (BATCH, {})
    models = {role: one for role, one in found.items() if isinstance(one, Trained)}
    given = {role: one for role, one in found.items() if isinstance(one, Given)}
    shapes = {role: trained.candidate.preparation.shape(shape) for role, trained in models.items()}
    modules = {role: bare(trained.module()) for role, trained in models.items()}
    with torch.inference_mode():
        single, batch = (
            latency(
                {role: _call(module, shapes[role], many) for role, module in modules.items()}, threads=THREADS, **how
            )
            for many, how in ((1, {}), (size, often))
        )
    return {
        role: {
            "model": models[role].candidate.name,
            "parameters": parameters(module),
            "macs": macs(module, shapes[role]),
            "weights_bytes": file_bytes(models[role].file()),
            "gzip_bytes": gzip_bytes(models[role].file()),
            "latency_ms": single[role]["median_ms"],
            "latency": {**single[role], "batch": 1, "runtime": "PyTorch eager, float32"},
            "throughput": {
                "samples_per_second": 1000 * size / batch[role]["median_ms"],
                "batch": size,
                "threads": THREADS,
            },
        }
        for role, module in modules.items()
    } | {role: measure_given(one, shape, threads=THREADS, batch=size) for role, one in given.items()}


def _call(module: nn.Module, shape: tuple[int, ...], size: int) -> Callable[[], Any]:
    inputs = torch.rand(size, *shape, generator=torch.Generator().manual_seed(0))
    return lambda: module(inputs)
