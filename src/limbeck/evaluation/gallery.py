"""Pictures of mistakes: where the teacher is right and the student is not."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.split import LoaderSplit, Split
from limbeck.files import write_bytes, write_json


def write_gallery(
    folder: str | Path, split: Split, classes: Sequence[str], logits: Mapping[str, Tensor], *, limit: int = 24
) -> list[dict[str, Any]]:
    """Write ``evaluation/gallery.json`` and its PNG files under ``folder``.

    Args:
        folder: the run folder.
        split: the samples, images ``[C, H, W]`` of 1 or 3 channels; nothing is drawn of others.
        classes: names.
        logits: ``[N, C]`` by role, with ``teacher`` and ``student`` at least.
        limit: most pictures; those where the student is most sure of its mistake come first.

    Returns:
        The items written.
    """
    folder = Path(folder)
    chosen: list[int] = []
    if len(split.shape) == 3 and split.shape[0] in {1, 3} and not isinstance(split, LoaderSplit):
        chosen = mistakes(logits["teacher"], logits["student"], split.targets)[:limit]
    probabilities = {role: torch.softmax(one, dim=1) for role, one in logits.items()}
    items = []
    for number, at in enumerate(chosen):
        path = f"evaluation/gallery/{number:03d}.png"
        write_bytes(folder / path, _png(split.fetch(torch.tensor([at]))[0][0]))
        said = {role: _said(one[at], classes) for role, one in probabilities.items()}
        items.append({"file": path, "index": at, "target": classes[int(split.targets[at])], "models": said})
    write_json(folder / "evaluation" / "gallery.json", {"split": split.name, "items": items})
    return items


def mistakes(teacher: Tensor, student: Tensor, targets: Tensor) -> list[int]:
    """Addresses where the teacher is right and the student wrong, the student's surest first.

    Example:
        >>> t, s = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 5.0]])
        >>> mistakes(t, s, torch.tensor([0, 0]))
        [1, 0]
    """
    sure, guess = torch.softmax(student, dim=1).max(dim=1)
    wrong = (targets >= 0) & (teacher.argmax(dim=1) == targets) & (guess != targets)
    found = wrong.nonzero().flatten()
    return found[sure[found].argsort(descending=True, stable=True)].tolist()


def _said(probabilities: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    return {"class": classes[int(probabilities.argmax())], "probability": float(probabilities.max())}


def _png(image: Tensor) -> bytes:
    from PIL import Image

    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:  # inputs that came prepared: show them over their own range
        image = (image - low) / max(high - low, 1e-9)
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scale = max(1, -(-96 // max(picture.size)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
