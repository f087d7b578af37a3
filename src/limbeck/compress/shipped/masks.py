"""What a segmenter's file sees in pictures, as masks and overlays. Numpy, Pillow and ONNX Runtime alone."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.compress.shipped.bands import Call, Floats, bands, windows_of
from limbeck.compress.shipped.opening import Signature
from limbeck.data.pictures import decoded
from limbeck.data.windows import Size
from limbeck.errors import DataError, ExportError, FileError, RecipeError
from limbeck.evaluation.dense.palette import class_colors
from limbeck.files import write_bytes

_MASK = "-mask.png"
_OVERLAY = "-overlay.png"
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
Progress = Callable[[int, str], Callable[[int], None]]  # of how much, and what -> is told how much is done


def write_masks(
    file: str | Path,
    session: Any,
    signature: Signature,
    images: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    overlay: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Write a mask and an overlay of each picture, as :func:`limbeck.compress.shipped.predict.predict_images` says.

    A mask is a palette PNG of the picture's size: its numbers are those of the classes, its colors theirs.

    Args:
        file: of the segmenter, for messages.
        session: of it.
        signature: of it.
        images: paths of pictures.
        out, overlay, force: see there.
        progress: shows how far it is, such as :func:`limbeck.data.sources.scan.telling`.

    Raises:
        DataError: if a picture can not be read.
        ExportError: if the file does not give what it says.
        FileError: if a mask is there already, or can not be written.
        RecipeError: if ``out`` or ``overlay`` can not be.
    """
    from PIL import Image

    windows = signature.windows
    if windows is None:
        raise ExportError(f"{file} is a classifier, which makes no mask")
    colors, found = class_colors(len(signature.classes), windows.colors), []
    window = (signature.shape[1], signature.shape[2])
    for image, (mask_file, overlay_file) in zip(images, places(images, out, overlay, force=force), strict=True):
        picture, changes = _read(image, signature.shape[0])
        count = windows_of((picture.height, picture.width), window, windows.overlap)
        tell = None if progress is None else progress(count, f"looking at windows of {Path(image).name}")
        call = runs(file, session, len(signature.classes))
        labels, probability = segmented(call, _pixels(picture), window, windows.overlap, tell)
        mask = Image.fromarray(labels)
        mask.putpalette([part for color in colors for part in color])
        write_bytes(mask_file, _encoded(mask, mask_file))
        both = Image.blend(picture.convert("RGB"), mask.convert("RGB"), 0.5)
        write_bytes(overlay_file, _encoded(both, overlay_file))
        counts = np.bincount(labels.ravel(), minlength=len(signature.classes)) / labels.size
        found.append(
            {
                "file": str(image),
                "size": [picture.height, picture.width],
                "shares": dict(zip(signature.classes, counts.tolist(), strict=True)),
                "probability": probability,
                "mask": str(mask_file),
                "overlay": str(overlay_file),
                "changes": list(changes),
            }
        )
    return found


def segmented(
    call: Call,
    picture: NDArray[np.uint8],
    window: Size,
    overlap: float,
    tell: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.uint8], float]:
    """The most probable class of each pixel, uint8 ``[H, W]``, and its probability, mean over the pixels.

    Args:
        call, picture, window, overlap, tell: see :func:`limbeck.compress.shipped.bands.bands`.

    Example:
        >>> red = lambda x: np.stack([0 * x[:, 0] + 0.5, x[:, 0]], axis=1)  # the second class where red is above 1/2
        >>> segmented(red, np.uint8([[[0, 255]]]), (1, 2), 0.25)[0].tolist()
        [[0, 1]]
    """
    labels, total = np.empty(picture.shape[1:], np.uint8), 0.0
    for top, shares in bands(call, picture, window, overlap, tell):
        labels[top : top + shares.shape[1]] = shares.argmax(axis=0)
        total += float(shares.max(axis=0).sum(dtype=np.float64))
    return labels, total / labels.size


def runs(file: str | Path, session: Any, classes: int) -> Call:
    """A file as a function of windows, float32 ``[B, C, H, W]`` in [0, 1] to logits ``[B, classes, H, W]``.

    Raises:
        ExportError: when called, if it can not be run, gives logits of another size, or such that are not finite.
    """

    def call(inputs: Floats) -> Floats:
        try:
            logits: Floats = session.run(["logits"], {"image": inputs})[0]
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ExportError(f"{file} can not be run on inputs {inputs.shape} ({line[:200]})") from None
        expected = (len(inputs), classes, *inputs.shape[2:])
        if logits.shape != expected:
            raise ExportError(f"{file} gives logits {logits.shape} for inputs {inputs.shape}, expected {expected}")
        if not np.isfinite(logits).all():
            raise ExportError(
                f"{file} gives logits that are not finite",
                cure="the weights hold NaN or Inf, or overflow: export another model",
            )
        return logits

    return call


def places(
    images: Sequence[str | Path], out: str | Path | None, overlay: str | Path | None, *, force: bool
) -> list[tuple[Path, Path]]:
    """Where the mask and the overlay of each picture go.

    Args:
        images: the pictures.
        out, overlay, force: see :func:`limbeck.compress.shipped.predict.predict_images`.

    Raises:
        FileError: if one is there already, and ``force`` is not set.
        RecipeError: if one is a picture that was given, if two would be one file, or if it is of another kind.

    Example:
        >>> [[str(path) for path in pair] for pair in places(["in/a.jpg", "in/b.jpg"], "masks", None, force=False)]
        [['masks/a-mask.png', 'masks/a-mask-overlay.png'], ['masks/b-mask.png', 'masks/b-mask-overlay.png']]
    """
    if len(images) != 1 and overlay is not None:
        raise RecipeError(f"overlay is {overlay}, one file for {len(images)} pictures", cure="leave overlay out")
    folder = out is None or len(images) != 1 or str(out).endswith(("/", os.sep)) or Path(out).is_dir()
    if folder and out is not None and Path(out).is_file():
        raise RecipeError(f"out is {out}, one file for {len(images)} pictures", cure="let out be a folder")
    masks = [Path(out or "") / f"{Path(image).stem}{_MASK}" for image in images] if folder else [Path(out or "")]
    found = [(mask, Path(overlay) if overlay else mask.with_name(f"{mask.stem}{_OVERLAY}")) for mask in masks]
    taken: set[Path] = set()
    for mask, over in found:
        if mask.suffix.lower() != ".png" or over.suffix.lower() not in _KINDS:
            wrong, kinds = (mask, ".png") if mask.suffix.lower() != ".png" else (over, ".png or .jpg")
            raise RecipeError(f"{wrong} is to hold a mask or an overlay, expected a name with {kinds}")
        for path in (mask, over):
            _check(path, images, taken, force=force)
            taken.add(path.resolve())
    return found


def _check(path: Path, images: Sequence[str | Path], taken: set[Path], *, force: bool) -> None:
    if path.resolve() in taken:
        raise RecipeError(
            f"two masks or overlays would be written to {path}", cure="give pictures of other names, or other files"
        )
    if not path.exists():
        return
    if any(Path(image).exists() and path.samefile(image) for image in images):
        raise RecipeError(f"{path} is the picture itself, which is never written over", cure="give another name")
    if path.is_dir() or not force:
        raise FileError(f"{path} is there already", cure="give another name, or --force (force=True) to write over it")


def _read(path: str | Path, channels: int) -> tuple[Any, tuple[str, ...]]:
    """A picture as Pillow holds it, of its own size, and what was done to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on tags and palettes; a picture that can not be decoded is an error
        picture, changes = decoded(path, channels)
    if not picture.width * picture.height:
        raise DataError(f"{path} has no pixels")
    return picture, changes


def _pixels(picture: Any) -> NDArray[np.uint8]:
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _encoded(picture: Any, path: Path) -> bytes:
    buffer, kind = io.BytesIO(), _KINDS[path.suffix.lower()]
    picture.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()


__all__ = ["Progress", "places", "runs", "segmented", "write_masks"]
