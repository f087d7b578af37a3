"""Predicting from an exported file alone: numpy, Pillow and ONNX Runtime, nothing of the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DataError, ExportError, FileError


def predict_images(file: str | Path, images: Sequence[str | Path], *, threads: int = 2) -> list[dict[str, Any]]:
    """Classify pictures with an exported ``.onnx`` file, by what its metadata says.

    Each picture is read whole, in gray or color as the file wants, and resized (bilinear) to its input size.

    Args:
        file: written by limbeck's export.
        images: paths of pictures.
        threads: of ONNX Runtime.

    Returns:
        For each picture ``file``, ``class``, ``probability`` and ``probabilities`` by class name.

    Raises:
        FileError: if the file is missing or is no ONNX file.
        ExportError: if it was not written by limbeck.
        DataError: if a picture can not be read, naming it.

    Example:
        >>> predict_images("missing.onnx", [])
        Traceback (most recent call last):
        limbeck.errors.FileError: missing.onnx is missing
          cure: check the path of the exported file
    """
    session, metadata = open_onnx(file, threads=threads)
    classes, shape = json.loads(metadata["classes"]), tuple(json.loads(metadata["shape"]))
    if len(shape) != 3:
        raise ExportError(f"{file} takes inputs of shape {shape}, not pictures")
    found = []
    for image in images:
        inputs = read_image(image, shape)[None]
        logits = session.run(["logits"], {"image": inputs})[0][0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = int(shares.argmax())
        found.append(
            {
                "file": str(image),
                "class": classes[best],
                "probability": float(shares[best]),
                "probabilities": dict(zip(classes, shares.tolist(), strict=True)),
            }
        )
    return found


def read_image(path: str | Path, shape: tuple[int, ...]) -> Any:
    """A picture as float32 ``(C, H, W)`` in [0, 1], resized to ``shape``.

    Raises:
        DataError: if it can not be read.
    """
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    try:
        with Image.open(path) as image:
            picture = image.convert(modes[channels])
    except KeyError:
        raise DataError(f"the file takes {channels} channels, pictures have 1, 3 or 4") from None
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise DataError(f"{path} is not a readable picture ({error})") from None
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32) / 255
    return pixels[None] if channels == 1 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def open_onnx(file: str | Path, *, threads: int = 2) -> tuple[Any, dict[str, str]]:
    """An ONNX Runtime session on the CPU with pinned threads, and the file's metadata.

    Raises:
        FileError: if the file is missing or damaged.
        ExportError: if ONNX Runtime is not installed, or the file was not written by limbeck.
    """
    path = Path(file)
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("onnxruntime is not installed", cure="pip install 'limbeck[export]'") from None
    if not path.is_file():
        raise FileError(f"{file} is missing", cure="check the path of the exported file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        # From bytes, not from the path: a file that points to data outside itself is then refused.
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(f"{file} is not a whole ONNX file ({line[:200]})", cure="export it again") from None
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    missing = {"limbeck", "classes", "shape"} - set(metadata)
    if missing:
        raise ExportError(
            f"{file} was not exported by limbeck: its metadata lacks {', '.join(sorted(missing))}",
            cure="export the model with limbeck, which writes classes and input size into the file",
        )
    return session, metadata
