"""Any file that ships as something that is run: by its ending, in its own runtime, on pinned threads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.compress.bench.macs import onnx_macs
from limbeck.compress.shipped.opening import open_any
from limbeck.compress.shipped.reloaded import reload
from limbeck.errors import ExportError, FileError
from limbeck.evaluation.sizes import macs, parameters

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_MOST = 10_000  # of one axis: what a file may claim
RUNTIMES = {".onnx": "ONNX Runtime", ".safetensors": "PyTorch eager", ".json": "PyTorch eager"}


@dataclass(frozen=True)
class Opened:
    """A file that can be run.

    Args:
        path: of the file; of a description the weights beside it.
        runtime: that runs it.
        shape: of one input.
        run: float32 inputs ``[B, …]`` to logits.
        macs: of one input; None where it is not known.
        parameters: numbers of its weights; None where it is not known.
    """

    path: Path
    runtime: str
    shape: tuple[int, ...]
    run: Run
    macs: int | None = None
    parameters: int | None = None


def open_file(path: str | Path, *, threads: int = 1, shape: tuple[int, ...] | None = None) -> Opened:
    """Open a file to be run.

    Args:
        path: an ``.onnx`` file of limbeck's or of anyone's with one input and one output, or ``student.safetensors``
            with ``student.json`` beside it.
        threads: of ONNX Runtime; torch's are set by who measures.
        shape: of one input, where an ONNX file leaves it open.

    Raises:
        FileError: if it is missing or damaged.
        ExportError: if it is of no kind that can be run here, or its input's shape is not known.
    """
    path = Path(path)
    if path.suffix not in RUNTIMES:
        raise ExportError(
            f"{path} is of no kind that can be run here", cure=f"give files that end in {', '.join(sorted(RUNTIMES))}"
        )
    return _onnx(path, threads, shape) if path.suffix == ".onnx" else _torch(path)


def _onnx(path: Path, threads: int, shape: tuple[int, ...] | None) -> Opened:
    session = open_any(path, threads=threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        kinds = ", ".join(f"{one.name}: {one.type}" for one in inputs)
        raise ExportError(f"{path} takes {kinds}; one float32 input is expected")
    found = shape or _shape(list(inputs[0].shape[1:]))
    found = found or _shape(_json(session.get_modelmeta().custom_metadata_map.get("shape")))
    if found is None:
        raise ExportError(f"{path} takes inputs of any shape: {inputs[0].shape}", cure="give --shape, as in 3,224,224")
    names = [outputs[0].name]

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run(names, {inputs[0].name: batch})[0]
        return result

    return Opened(path, RUNTIMES[".onnx"], found, run, onnx_macs(path, found))


def _torch(path: Path) -> Opened:
    found = reload(path)
    weights = path.with_suffix(".json").with_name(Path(str(found.told["file"])).name)
    module, preparation = found.module, found.preparation

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = module(preparation(torch.from_numpy(batch))).numpy()
        return result

    own = preparation.shape(found.shape)
    return Opened(weights, RUNTIMES[".json"], found.shape, run, macs(module, own), parameters(module))


def _shape(told: Any) -> tuple[int, ...] | None:
    """The shape of one input, if all its sizes are known."""
    good = isinstance(told, list) and all(type(one) is int and 0 < one <= _MOST for one in told)
    return tuple(told) if good else None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def random_inputs(opened: Opened, batch: int) -> NDArray[np.float32]:
    """Inputs to be timed on: the same for every file of one shape."""
    return np.random.default_rng(0).random((batch, *opened.shape), dtype=np.float32)


def check_alike(files: list[Opened]) -> None:
    """See that files take the same inputs, so that their times can be compared.

    Raises:
        FileError: naming two that do not.
    """
    for one in files[1:]:
        if one.shape != files[0].shape:
            raise FileError(
                f"{files[0].path} takes inputs {list(files[0].shape)} and {one.path} {list(one.shape)}",
                cure="compare files of one task, or give --shape",
            )


__all__ = ["Opened", "check_alike", "open_file", "random_inputs"]
