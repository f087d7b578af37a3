"""Predicting from an exported file alone: numpy, Pillow and ONNX Runtime, nothing of the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.compress.shipped.masks import Progress, write_masks
from limbeck.compress.shipped.opening import Signature, open_onnx
from limbeck.data.pictures import MODES, Frame, read_picture
from limbeck.errors import ExportError, RecipeError


def predict_images(
    file: str | Path,
    images: Sequence[str | Path],
    *,
    threads: int = 2,
    out: str | Path | None = None,
    overlay: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Say what an exported ``.onnx`` file sees in pictures, by what its metadata says.

    A classifier's picture is read as :func:`read_image` says and brought to the file's input size as the training
    pictures were. A segmenter looks at a picture of any size in windows, and a mask and an overlay are written.

    Args:
        file: written by limbeck's export.
        images: paths of pictures.
        threads: of ONNX Runtime.
        out: where a segmenter's mask goes: a file ``.png`` for one picture, or a folder; by default
            ``NAME-mask.png`` in the current folder.
        overlay: the picture under its mask, ``.png`` or ``.jpg``, for one picture; by default ``-overlay.png`` after
            the mask's name.
        force: write over masks and overlays that are there. A picture that was given is never written over.
        progress: shows how far it is with a picture: from how many windows and what is done to what is told how many
            are done.

    Returns:
        Of a classifier for each picture ``file``, ``class``, ``probability`` and ``probabilities`` by class name; where
        the file holds a threshold also ``positive`` (the class that is looked for), ``threshold``, and ``decision``:
        whether its probability is at or above it. The most probable class may be another one.

        Of a segmenter ``file``, ``size`` (height, width), ``shares`` of its pixels by class name, ``probability`` (of
        the most probable class, mean over the pixels), ``mask`` and ``overlay`` (paths), and ``changes``: what was
        done to the picture to read it.

    Raises:
        FileError: if the file is missing, is no ONNX file, or was changed after it was exported; if a mask is there
            already.
        ExportError: if it was not written by limbeck, takes no pictures, or gives logits that are not finite.
        DataError: if a picture can not be read, naming it.
        RecipeError: if ``out`` or ``overlay`` can not be.

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
    if signature.windows is not None:
        places: dict[str, Any] = {"out": out, "overlay": overlay, "force": force}
        return write_masks(file, session, signature, images, **places, progress=progress)
    for name, value in (("out", out), ("overlay", overlay)):
        if value is not None:
            raise RecipeError(
                f"{name} is {value}, and {file} is a classifier, which makes no mask",
                cure=f"leave {name} out, or give a file of a segmentation",
            )
    return [{"file": str(image), **_said(_shares(file, session, signature, image), signature)} for image in images]


def _shares(file: str | Path, session: Any, signature: Signature, image: str | Path) -> Any:
    """A classifier's probabilities, float64 ``[C]``."""
    inputs = read_image(image, signature.shape, fit=signature.use.fit)[None]
    logits = session.run(["logits"], {"image": inputs})[0][0].astype(np.float64)
    if not np.isfinite(logits).all():
        raise ExportError(
            f"{file} gives logits for {image} that are not finite",
            cure="the weights hold NaN or Inf, or overflow: export another model",
        )
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


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


__all__ = ["predict_images", "read_image"]
