"""ONNX: export with resize and normalization inside the graph, and the file read back in ONNX Runtime."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.compress.libraries import library, silent
from limbeck.compress.shipped.opening import SEAL, UNSEALED, open_onnx, seal
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.data.batches import batches
from limbeck.data.preparation import Preparation
from limbeck.data.split import Split
from limbeck.errors import ExportError
from limbeck.evaluation.sizes import bare
from limbeck.files import write_bytes
from limbeck.outputs import Outputs

# Differences of float32 kernels, relative to the largest logit: measured at 1e-6 to 1e-5 on the models here.
TOLERANCE = 1e-3


class Shipped(nn.Module):
    """A model as it ships: inputs as in a batch, resized and normalized inside, logits out."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, preparation: Preparation, dims: int) -> None:
        super().__init__()
        self.module, self.preparation = module, preparation
        normalization = preparation.normalization
        shape = (1, -1, *[1] * (dims - 1)) if len(normalization.mean) > 1 else (1,)
        self.register_buffer("mean", torch.tensor(normalization.mean).reshape(shape))
        self.register_buffer("std", torch.tensor(normalization.std).reshape(shape))

    def forward(self, image: Tensor) -> Tensor:
        return Outputs.of(self.module((self.preparation.resized(image) - self.mean) / self.std)).logits


def export_onnx(
    module: nn.Module,
    path: str | Path,
    *,
    preparation: Preparation,
    shape: tuple[int, ...],
    classes: Sequence[str],
    name: str,
    use: Use | None = None,
    windows: Windows | None = None,
) -> Path:
    """Write a model as one ONNX file by torch's dynamo exporter.

    Its input ``image`` is float32 ``[batch, …]`` as in a batch (bytes divided by 255), its output ``logits`` is
    ``[batch, classes]``; the batch may have any size. A model's own input size is inside: the file takes the data's.
    Classes, input shape, range and normalization are in its metadata, and where it decides.

    A segmenter gives ``[batch, classes, height, width]``, and takes pictures of any height and width, of such as are
    multiples of a number, or of the window's alone, as the model does; the metadata say which.

    Args:
        module: the model; a copy of it is exported, in eval mode and float32.
        path: of the file.
        preparation: goes into the graph.
        shape: of one input, as the data have it; of a segmenter that of one window.
        classes: names.
        name: of the model.
        use: what the inputs were and where the model decides, for its metadata.
        windows: how a segmenter is run over a picture; its sizes are found here. None: the model is a classifier.

    Raises:
        ExportError: if the model can not be copied or traced, naming the cause, or gives other than one logit a class.
    """
    library("onnx"), library("onnxscript")
    with silent():
        try:
            shipped = Shipped(bare(module), preparation, len(shape)).eval()
            program, multiple = _traced(shipped, shape, dense=windows is not None)
        except Exception as error:
            raise ExportError(
                f"model '{name}' can not be exported to ONNX: {_first_line(error)}",
                cure="control flow that depends on values and in-place tricks can not be traced; rewrite that layer",
            ) from None
    if program is None:
        raise ExportError(f"model '{name}' can not be exported to ONNX: the exporter gave nothing")
    proto = program.model_proto
    windows = None if windows is None else replace(windows, multiple=multiple)
    _check_output(proto, name, len(classes), dense=windows is not None)
    del proto.metadata_props[:]
    for key, value in _metadata(preparation, shape, classes, name, use or Use(), windows).items():
        proto.metadata_props.add(key=key, value=value)
    for node in proto.graph.node:  # where each operator came from in the source: nothing that a user needs to ship
        del node.metadata_props[:]
        node.doc_string = ""
    return write_bytes(path, seal(proto.SerializeToString(deterministic=True)))


def _traced(shipped: Shipped, shape: tuple[int, ...], *, dense: bool) -> tuple[Any, int | None]:
    """The exporter's program, and of which number heights and widths are multiples; None: they are fixed."""
    batch, multiple = {0: torch.export.Dim("batch")}, free_sizes(shipped, shape) if dense else None
    if multiple is not None:
        high, wide = (multiple * torch.export.Dim(name) for name in ("height", "width"))
        with contextlib.suppress(Exception):  # a model may take other sizes and can still not be traced for them
            return _exported(shipped, shape, {**batch, 2: high, 3: wide}), multiple
    return _exported(shipped, shape, batch), None


def _exported(shipped: Shipped, shape: tuple[int, ...], axes: dict[int, Any]) -> Any:
    return torch.onnx.export(
        shipped,
        (torch.zeros(2, *shape),),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": axes},
        external_data=False,
        verbose=False,
    )


def free_sizes(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Of which number the heights and widths that a segmenter takes are multiples, as it says when it is asked.

    Args:
        module: gives ``[B, classes, H, W]`` for ``[B, C, H, W]``.
        shape: of one window, which it takes.

    Returns:
        The least of 1, 2, 4 … 64 that a somewhat larger picture shows; None if it takes the window's size alone.

    Example:
        >>> free_sizes(nn.Conv2d(3, 2, 1), (3, 32, 32)), free_sizes(nn.PixelUnshuffle(2), (3, 32, 32))
        (1, None)
    """
    high, wide = shape[1:]
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        if high % multiple or wide % multiple:
            break
        size = (high + multiple, wide + 2 * multiple)
        with contextlib.suppress(Exception), torch.no_grad():
            if module(torch.zeros(1, shape[0], *size)).shape[2:] == size:
                return multiple
    return None


def _check_output(proto: Any, name: str, classes: int, *, dense: bool) -> None:
    gives = [one.dim_param or one.dim_value for one in proto.graph.output[0].type.tensor_type.shape.dim][1:]
    if gives[:1] != [classes] or len(gives) != (3 if dense else 1):
        expected = (
            f"[{classes}, height, width]: one for each class and pixel" if dense else f"[{classes}]: one for each class"
        )
        raise ExportError(
            f"model '{name}' gives {gives} logits for each sample, expected {expected}",
            cure="give the model an output, or the data a name, for each class",
        )


def run_onnx(path: str | Path, split: Split, *, threads: int = 2) -> Tensor:
    """Logits of an exported file for every sample of a split, in batches of 1, then an odd number, then 256."""
    session, _ = open_onnx(path, threads=threads)
    found = []
    sizes = iter([1, 7])
    rest: list[Tensor] = []
    for batch in batches(split, batch_size=256, shuffle=False):
        rest = [batch.inputs]
        while rest:
            inputs = rest.pop()
            size = next(sizes, len(inputs))
            if size < len(inputs):
                rest.append(inputs[size:])
            found.append(torch.from_numpy(session.run(["logits"], {"image": inputs[:size].numpy()})[0]))
    return torch.cat(found)


def compare(path: str | Path, logits: Tensor, reference: Tensor, *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Hold an exported file's logits against the model's.

    Args:
        path: of the file, for the message.
        logits: of the file, ``[N, C]``.
        reference: of the model, ``[N, C]``.
        tolerance: largest absolute difference allowed, as a share of the largest logit (at least 1).

    Returns:
        ``max_abs_difference`` and ``agreement`` (share of samples with the same top class).

    Raises:
        ExportError: if they differ by more.

    Example:
        >>> compare("m.onnx", torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        {'max_abs_difference': 0.0, 'agreement': 1.0}
    """
    if logits.shape != reference.shape:
        raise ExportError(f"{path} gives logits {tuple(logits.shape)}, the model {tuple(reference.shape)}")
    difference = float((logits.double() - reference.double()).abs().max())
    allowed = tolerance * max(1.0, float(reference.abs().max()))
    if not difference <= allowed:
        raise ExportError(
            f"{path} differs from the model by {difference:.3g} in a logit; {allowed:.3g} is allowed",
            cure="do not ship it: find the operator that differs by exporting parts of the model",
        )
    agreement = float((logits.argmax(1) == reference.argmax(1)).double().mean())
    return {"max_abs_difference": difference, "agreement": agreement}


def _metadata(
    preparation: Preparation,
    shape: tuple[int, ...],
    classes: Sequence[str],
    name: str,
    use: Use,
    windows: Windows | None,
) -> dict[str, str]:
    from limbeck import __version__

    return {
        "limbeck": __version__,
        "task": "classification" if windows is None else "segmentation",
        "model": name,
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "shape": json.dumps(list(shape)),
        **use.metadata(),
        **{key: json.dumps(value) for key, value in preparation.to_dict().items()},
        **({} if windows is None else windows.metadata()),
        SEAL: UNSEALED,
    }


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line] or lines or [type(error).__name__]
    return told[0][:200]


def session_call(path: str | Path, shape: tuple[int, ...], *, batch: int, threads: int) -> Any:
    """A call without arguments that runs the file on one random batch: what latency is measured on."""
    session, _ = open_onnx(path, threads=threads)
    inputs = {"image": np.random.default_rng(0).random((batch, *shape), dtype=np.float32)}
    return lambda: session.run(["logits"], inputs)
