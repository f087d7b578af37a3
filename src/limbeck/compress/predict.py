"""Predicting from an exported file alone: numpy, Pillow and ONNX Runtime, nothing of the training."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.compress.use import Use
from limbeck.data.pictures import MODES, Frame, read_picture
from limbeck.errors import ExportError, FileError

# A file's own sha256, as its metadata hold it (protobuf: key, then tag and length of the value). It is taken with
# these 64 digits as zeros, so that the file alone tells whether it is still what was scored.
SEAL = "limbeck.sha256"
UNSEALED = "0" * 64
_AGAIN = "fetch it again, or export it again"
_SEALED = re.compile(re.escape(SEAL).encode() + rb"\x12\x40([0-9a-f]{64})")


@dataclass(frozen=True)
class Signature:
    """What an exported file says of itself: class names, the shape of one input, and how it is used."""

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    use: Use


def predict_images(file: str | Path, images: Sequence[str | Path], *, threads: int = 2) -> list[dict[str, Any]]:
    """Classify pictures with an exported ``.onnx`` file, by what its metadata says.

    Each picture is read as :func:`read_image` says and brought to the file's input size as the training pictures were.

    Args:
        file: written by limbeck's export.
        images: paths of pictures.
        threads: of ONNX Runtime.

    Returns:
        For each picture ``file``, ``class``, ``probability`` and ``probabilities`` by class name; where the file holds
        a threshold also ``positive`` (the class that is looked for), ``threshold``, and ``decision``: whether its
        probability is at or above it. The most probable class may be another one.

    Raises:
        FileError: if the file is missing, is no ONNX file, or was changed after it was exported.
        ExportError: if it was not written by limbeck, takes no pictures, or gives logits that are not finite.
        DataError: if a picture can not be read, naming it.

    Example:
        >>> predict_images("missing.onnx", [])
        Traceback (most recent call last):
        limbeck.errors.FileError: missing.onnx is missing
          cure: check the path of the exported file
    """
    session, signature = open_onnx(file, threads=threads)
    shape = signature.shape
    if len(shape) != 3 or shape[0] not in MODES:
        raise ExportError(f"{file} takes inputs of shape {shape}, not pictures of 1, 3 or 4 channels")
    if signature.use.range == "raw":
        raise ExportError(
            f"{file} takes floats in a range of their own: what a picture's bytes are in it is not known",
            cure="run it in ONNX Runtime on inputs that are prepared like the training data",
        )
    found = []
    for image in images:
        inputs = read_image(image, shape, fit=signature.use.fit)[None]
        logits = session.run(["logits"], {"image": inputs})[0][0].astype(np.float64)
        if not np.isfinite(logits).all():
            raise ExportError(
                f"{file} gives logits for {image} that are not finite",
                cure="the weights hold NaN or Inf, or overflow: export another model",
            )
        shares = np.exp(logits - logits.max())
        found.append({"file": str(image), **_said(shares / shares.sum(), signature)})
    return found


def _said(shares: Any, signature: Signature) -> dict[str, Any]:
    classes, use = signature.classes, signature.use
    best = int(shares.argmax())
    found = {
        "class": classes[best],
        "probability": float(shares[best]),
        "probabilities": dict(zip(classes, shares.tolist(), strict=True)),
    }
    if use.positive is None or use.threshold is None:
        return found
    called = bool(shares[classes.index(use.positive)] >= use.threshold)
    return {**found, "positive": use.positive, "threshold": use.threshold, "decision": called}


def read_image(path: str | Path, shape: tuple[int, ...], *, fit: str = "whole") -> Any:
    """A picture as float32 ``(C, H, W)`` in [0, 1], brought to ``shape`` as :class:`limbeck.data.pictures.Frame` does.

    It is turned to gray, color, or color with alpha, as ``C`` is 1, 3 or 4; otherwise transparency is left out. 16-bit
    gray is scaled, not clipped. Of several frames the first is read, and a note on orientation (EXIF) is left aside, as
    data sets do.

    Raises:
        DataError: if it can not be read.
    """
    channels, height, width = shape
    pixels = Frame((height, width), fit, channels)(read_picture(path, channels))
    return pixels.astype(np.float32) / 255


def seal(data: bytes) -> bytes:
    """Write the sha256 of a serialized model, whose metadata hold ``UNSEALED`` under ``SEAL``, into these metadata."""
    mark = SEAL.encode() + b"\x12\x40"
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(mark + UNSEALED.encode(), mark + digest.encode())


def _unchanged(data: bytes) -> bool | None:
    """Whether a file is what was sealed; None if it has no seal."""
    seals = list(_SEALED.finditer(data))
    if not seals:
        return None
    start, end = seals[-1].span(1)
    plain = data[:start] + UNSEALED.encode() + data[end:]
    return hashlib.sha256(plain).hexdigest().encode() == data[start:end]


def open_onnx(file: str | Path, *, threads: int = 2) -> tuple[Any, Signature]:
    """An ONNX Runtime session on the CPU with pinned threads, and what the file says of itself.

    Raises:
        FileError: if the file is missing, damaged, or was changed after it was exported.
        ExportError: if ONNX Runtime is not installed, or the file was not written by limbeck.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("onnxruntime is not installed", cure="pip install 'limbeck[export]'") from None
    try:
        data = Path(file).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FileError(f"{file} is missing", cure="check the path of the exported file") from None
    except OSError as error:
        raise FileError(f"{file} can not be read: {error.strerror}") from None
    unchanged = _unchanged(data)
    if unchanged is False:
        raise FileError(f"{file} was changed after it was exported: its checksum differs", cure=_AGAIN)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    # Weights in another file would be looked for under a folder that can not be: below this very file.
    nowhere = str(Path(file).absolute() / "none")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(f"{file} is not a whole ONNX file ({line[:200]})", cure=_AGAIN) from None
    return session, _signature(file, session, metadata, sealed=bool(unchanged))


def _signature(file: str | Path, session: Any, metadata: dict[str, str], *, sealed: bool) -> Signature:
    """Read the metadata and hold them against the graph: both may have been written by anyone."""
    missing = {"limbeck", "classes", "shape"} - set(metadata)
    if missing or not sealed:
        raise ExportError(
            f"{file} was not exported by limbeck: its metadata lacks {', '.join(sorted(missing)) or SEAL}",
            cure="export the model with limbeck, which writes classes and input size into the file",
        )
    try:
        classes, shape = json.loads(metadata["classes"]), json.loads(metadata["shape"])
    except (ValueError, RecursionError):
        classes = shape = None
    use = Use.read(metadata, classes) if isinstance(classes, list) else None
    takes = {one.name: (one.type, one.shape[1:]) for one in session.get_inputs()}
    gives = {one.name: (one.type, one.shape[1:]) for one in session.get_outputs()}
    if (
        not isinstance(classes, list)
        or not all(isinstance(one, str) for one in classes)
        or use is None
        or takes != {"image": ("tensor(float)", shape)}
        or gives != {"logits": ("tensor(float)", [len(classes)])}
    ):
        raise ExportError(f"{file} says one thing of its classes and input and its graph does another", cure=_AGAIN)
    return Signature(tuple(classes), tuple(int(size) for size in shape), use)
