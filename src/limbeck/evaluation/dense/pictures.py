"""Pictures of a segmentation: input, truth, what each model sees, and where they disagree."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.scenes import IGNORED, Region, SceneSplit
from limbeck.data.windows import Size
from limbeck.evaluation.dense.choice import chosen, mean_iou
from limbeck.evaluation.dense.palette import STRIPES, Color, class_colors, written
from limbeck.evaluation.dense.reading import Reading
from limbeck.files import write_bytes, write_json

ROLES = ("teacher", "control", "student")  # whose answers are drawn
SIDES = (480, 360, 240, 160, 96)  # most pixels of the longer side: the first at which a row is small enough
ROW = 200_000  # bytes of one row of pictures
_LOSSLESS = 64  # a side up to which an input is kept without loss
_DISPUTE: dict[str, Color] = {
    "both_right": (44, 49, 55),
    "student_wrong": (255, 143, 77),
    "both_wrong": (200, 80, 150),
    "teacher_wrong": (87, 169, 234),
}
_ALONE: dict[str, Color] = {"right": (44, 49, 55), "wrong": (255, 143, 77)}


def write_pictures(
    folder: str | Path,
    splits: Mapping[str, SceneSplit],
    classes: Sequence[str],
    said: Mapping[str, Mapping[str, Reading]],
    *,
    seed: int = 0,
    colors: Sequence[Color] | None = None,
) -> None:
    """Write ``evaluation/segments.json`` and its pictures under ``evaluation/segments``.

    Shown are ten regions of ``validation`` that the seed alone decides, and of ``test`` those where the student's mean
    IoU is highest and lowest, and where it differs most from the teacher. Labels are drawn as palette PNGs at the size
    of the input beside them, each pixel that of the nearest original one; pixels without a label are hatched.

    Args:
        folder: the run folder.
        splits: by name, at most ``validation`` and ``test`` are looked at.
        classes: names.
        said: by role and split what each reloaded file said; ``student`` must be there.
        seed: of the drawing by lot.
        colors: of the classes; see :func:`limbeck.evaluation.dense.palette.class_colors`.
    """
    folder, table = Path(folder), class_colors(len(classes), colors)
    roles = [role for role in ROLES if role in said]
    dispute = _DISPUTE if "teacher" in roles else _ALONE
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    items = []
    for kind, name, at in chosen(splits, said, seed):
        if (name, at) not in rows:
            region = splits[name].regions[at]
            labels = {role: said[role][name].labels[at] for role in roles}
            row = _row(folder, f"{name}-{at:04d}", region, labels, table, dispute)
            rows[name, at] = {"split": name, "name": region.name, "index": at, **row}
        items.append({"kind": kind, **rows[name, at]})
    legend = {
        "classes": [{"name": one, "color": written(color)} for one, color in zip(classes, table, strict=True)],
        "disagreement": [{"kind": kind, "color": written(color)} for kind, color in dispute.items()],
        "ignored": [written(color) for color in STRIPES],
    }
    totals = {name: len(split.regions) for name, split in splits.items()}
    about = {"seed": seed, "roles": roles, "totals": totals}
    write_json(folder / "evaluation" / "segments.json", {**about, "legend": legend, "items": items})


def compared(truth: Tensor, student: Tensor, teacher: Tensor | None) -> Tensor:
    """Who is right at each pixel.

    Args:
        truth: uint8 ``[H, W]``, :data:`IGNORED` for no label.
        student, teacher: uint8 ``[H, W]``, their classes.

    Returns:
        uint8 ``[H, W]``. With a teacher 0: both are right, 1: the student alone is wrong, 2: both are wrong, 3: the
        teacher alone is wrong; without one 0: the student is right, 1: it is wrong. :data:`IGNORED` where there is no
        truth.

    Example:
        >>> truth, student = torch.tensor([[0, 1, 1, 255]]).byte(), torch.tensor([[0, 0, 1, 0]]).byte()
        >>> compared(truth, student, torch.tensor([[0, 1, 0, 0]]).byte()).tolist()
        [[0, 1, 3, 255]]
    """
    wrong = student != truth
    found = wrong.byte()
    if teacher is not None:
        other = teacher != truth
        found = torch.where(other, torch.where(wrong, 2, 3), found).byte()
    return found.masked_fill(truth == IGNORED, IGNORED)


def reduced(labels: Tensor, size: Size) -> Tensor:
    """Labels at another size, each that of the nearest original pixel (centers on centers).

    Example:
        >>> reduced(torch.arange(8).byte().view(2, 4), (1, 2))
        tensor([[5, 7]], dtype=torch.uint8)
    """
    down, across = (
        ((torch.arange(want) + 0.5) * (have / want)).long().clamp(max=have - 1)
        for have, want in zip(labels.shape, size, strict=True)
    )
    return labels[down][:, across]


def _row(
    folder: Path,
    stem: str,
    region: Region,
    said: Mapping[str, Tensor],
    table: Sequence[Color],
    dispute: dict[str, Color],
) -> dict[str, Any]:
    """Write all pictures of one region, and tell of them."""
    picture, mask = region.read()
    where = compared(mask, said["student"], said.get("teacher"))
    layers = {"truth": mask, **said}
    for side in SIDES:
        size = _fitted(region.size, side)
        drawn = {name: _png(reduced(one, size), table) for name, one in layers.items()}
        drawn["disagreement"] = _png(reduced(where, size), list(dispute.values()))
        seen, suffix = _input(picture, size)
        if len(seen) + sum(map(len, drawn.values())) <= ROW:
            break
    files = {name: f"evaluation/segments/{stem}-{name}.png" for name in drawn}
    for name, data in drawn.items():
        write_bytes(folder / files[name], data)
    file = f"evaluation/segments/{stem}-input{suffix}"
    write_bytes(folder / file, seen)
    labeled = int((where != IGNORED).sum())
    shares = {kind: int((where == at).sum()) / labeled if labeled else None for at, kind in enumerate(dispute)}
    return {
        "size": list(region.size),
        "drawn": list(size),
        "pixels": labeled,
        "ignored": region.size[0] * region.size[1] - labeled,
        "input": {"file": file},
        "truth": {"file": files["truth"]},
        "models": {
            role: {"file": files[role], "mean_iou": mean_iou(one, mask, len(table))} for role, one in said.items()
        },
        "disagreement": {"file": files["disagreement"], "shares": shares},
    }


def _fitted(size: Size, side: int) -> Size:
    """A size of the same aspect whose longer side is no longer than ``side``; a smaller one stays."""
    scale = min(side / max(size), 1.0)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _png(labels: Tensor, table: Sequence[Color]) -> bytes:
    """Labels as a PNG with a palette: a class's number is its place in it; what has no label is hatched."""
    from PIL import Image

    pixels, colors = labels.numpy().copy(), [*table, *STRIPES][:256]
    down, across = np.indices(pixels.shape)
    stripe = (down + across) // max(max(pixels.shape) // 60, 1) % 2
    hatched = np.minimum(len(table) + stripe, 255)  # 255 classes leave room for one of the two
    pixels[pixels == IGNORED] = hatched[pixels == IGNORED]
    image = Image.fromarray(pixels)
    image.putpalette([value for color in colors for value in color])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _input(picture: Tensor, size: Size) -> tuple[bytes, str]:
    """A picture as the bytes of a file, and its suffix; of more channels than three or one the first ones."""
    from PIL import Image

    kept: NDArray[np.uint8] = picture[: 3 if len(picture) >= 3 else 1].permute(1, 2, 0).contiguous().numpy()
    image = Image.fromarray(kept[:, :, 0] if kept.shape[2] == 1 else kept)
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    if max(picture.shape[1:]) > _LOSSLESS:
        image.save(buffer, "JPEG", quality=85)
        return buffer.getvalue(), ".jpg"
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), ".png"


__all__ = ["ROLES", "ROW", "SIDES", "compared", "reduced", "write_pictures"]
