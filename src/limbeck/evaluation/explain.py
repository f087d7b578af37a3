"""Explanation maps: which part of a picture a model's answer rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.split import Split
from limbeck.evaluation.drawing import drawable, encoded, overlaid, shown
from limbeck.evaluation.gallery import about, mistakes, named
from limbeck.files import write_bytes, write_json
from limbeck.outputs import Outputs
from limbeck.taps import Tap, shapes
from limbeck.teachers import evaluating

Normalize = Callable[[Tensor], Tensor]
PICTURES = 8
FINE = 4  # positions on a side, below which a map hardly says where


@dataclass(frozen=True)
class Maps:
    """Explanation maps of some pictures.

    Args:
        values: ``[B, h, w]``, not negative; h and w are those of the layer, or of the picture for gradients.
        method: ``grad-cam`` or ``gradient``.
        layer: the layer of Grad-CAM.
    """

    values: Tensor
    method: str
    layer: str | None = None


def explain(module: nn.Module, normalization: Normalize | None, inputs: Tensor, chosen: Tensor) -> Maps:
    """Where a model looks for the class ``chosen``: Grad-CAM, or the input's gradient for models without a map.

    Grad-CAM weights each channel of the last convolutional map by the mean gradient of the class's logit, adds them up
    and keeps what is positive (Selvaraju et al., 2017, arXiv:1610.02391). A model without such a map (an MLP, a
    transformer) gets the size of the logit's gradient at each pixel, the largest over channels (Simonyan et al., 2013,
    arXiv:1312.6034). The module is left as it was: its modes, parameters and gradients.

    Args:
        module: gives logits ``[B, C]``; on any device.
        normalization: of the inputs.
        inputs: ``[B, C, H, W]``.
        chosen: int64 ``[B]``, the class that is explained for each picture.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> maps = explain(net, None, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))
        >>> maps.method, maps.values.shape
        ('gradient', torch.Size([3, 2, 2]))
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    given, chosen = inputs.detach().to(device, copy=True), chosen.to(device)
    prepare = normalization or nn.Identity()
    with evaluating(module), torch.autocast(device.type, enabled=False):
        with torch.no_grad():
            layer = last_map(module, prepare(given[:1]))
        with torch.enable_grad(), Tap(module, [] if layer is None else [layer]) as tap:
            given.requires_grad_()
            logits = Outputs.of(module(prepare(given.clone()))).logits  # a leaf can not be changed in place
            score = logits.gather(1, chosen[:, None]).sum()  # in eval mode no sample looks at another
            at = given if layer is None else tap.features[layer]
            (slope,) = torch.autograd.grad(score, at)
    if layer is None:
        return Maps(slope.abs().amax(dim=1).float().cpu(), "gradient")
    weighted = slope.mean(dim=(2, 3), keepdim=True) * at.detach()
    return Maps(weighted.sum(dim=1).clamp(min=0).float().cpu(), "grad-cam", layer)


def last_map(module: nn.Module, inputs: Tensor) -> str | None:
    """The last layer whose output is a map of the picture: ``[B, C, h, w]`` of at least 4 × 4 positions.

    Where no map has as many, it is the last one of more than one position. A layer that gives positions in another
    layout afterwards (tokens, channels last) ends the search: a map before it would not show what the answer rests on.

    Args:
        module: in eval mode.
        inputs: ``[B, C, H, W]``, normalized.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
        >>> last_map(net, torch.zeros(1, 1, 8, 8))
        '1'
    """
    height, width = inputs.shape[2:]
    fine = coarse = None
    for name, shape in shapes(module, inputs):
        if len(shape) == 4 and shape[2] * shape[3] > 1 and _like(shape[2:], (height, width)):
            coarse = name
            fine = name if min(shape[2:]) >= FINE else fine
        elif sum(side > 1 for side in shape[1:]) > 1:
            fine = coarse = None
    return fine or coarse


def write_explanations(
    folder: str | Path,
    split: Split,
    classes: Sequence[str],
    logits: Mapping[str, Tensor],
    models: Mapping[str, tuple[nn.Module, Normalize | None]],
) -> dict[str, Any]:
    """Write ``evaluation/explain.json`` and its pictures: every model on the same pictures, for the class it names.

    Args:
        folder: the run folder.
        split: the samples; nothing is drawn of those that are no pictures.
        classes: names.
        logits: ``[N, C]`` by role, with ``teacher`` and ``student`` at least.
        models: module and normalization by role; a role without them gets no maps.

    Returns:
        What was written: ``methods`` (by role ``method``, ``layer`` and, where there is no map, ``why``) and ``items``
        (``file``, ``index``, ``target``, ``name``, and by model ``class``, ``probability`` and the map's ``file``,
        None where it has none, ``""`` where it is zero everywhere).
    """
    folder = Path(folder)
    chosen = picked(logits, split.targets) if drawable(split) else []
    found: dict[str, Any] = {"split": split.name, "methods": {}, "items": []}
    if chosen:
        at = torch.tensor(chosen)
        images = split.fetch(at)[0]
        guesses = {role: one[at].argmax(dim=1) for role, one in logits.items()}
        maps = {role: _maps(role, models, images, guesses[role]) for role in logits}
        found["methods"] = {role: one if isinstance(one, dict) else _method(one) for role, one in maps.items()}
        for number, index in enumerate(chosen):
            picture = shown(images[number])
            stem = f"evaluation/explain/{number:03d}"
            item = {"file": _write(folder, stem, picture, split.shape), **about(split, index), "models": {}}
            for role, one in maps.items():
                said = named(torch.softmax(logits[role][index], dim=0), classes)
                file = None
                if isinstance(one, Maps):
                    heat, file = one.values[number], ""
                    if float(heat.max()) > 0:
                        file = _write(folder, f"{stem}-{role}", overlaid(picture, heat), split.shape)
                item["models"][role] = {**said, "file": file}
            found["items"].append(item)
    write_json(folder / "evaluation" / "explain.json", found)
    return found


def picked(logits: Mapping[str, Tensor], targets: Tensor, limit: int = PICTURES) -> list[int]:
    """Pictures worth explaining: up to three where only the student errs, one where the teacher errs too, two that
    the student has right and the control wrong, and for the rest some that all have right, of different classes.

    Example:
        >>> z = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
        >>> picked({"teacher": z, "student": z}, torch.tensor([0, 0, 1]), limit=2)
        [0, 2]
    """
    kinds = mistakes(logits, targets)
    right = {role: one.argmax(dim=1) == targets for role, one in logits.items()}
    found = [*kinds.get("teacher_right", kinds["surest_errors"])[:3], *kinds.get("both_wrong", [])[:1]]
    if "control" in right:
        found += (right["student"] & ~right["control"] & (targets >= 0)).nonzero().flatten().tolist()[:2]
    all_right = (torch.stack(list(right.values())).all(dim=0) & (targets >= 0)).nonzero().flatten().tolist()
    # The first of each class, then the second of each, and so on.
    seen: dict[int, int] = {}
    ranked = []
    for at in all_right:
        label = int(targets[at])
        ranked.append((seen.get(label, 0), label, at))
        seen[label] = seen.get(label, 0) + 1
    return [*found, *(at for *_, at in sorted(ranked))][:limit]


def _maps(
    role: str, models: Mapping[str, tuple[nn.Module, Normalize | None]], images: Tensor, guesses: Tensor
) -> Maps | dict[str, Any]:
    if role not in models:
        return {"method": None, "layer": None, "why": "it is not a single torch module"}
    try:
        return explain(*models[role], images, guesses)
    except RuntimeError as error:  # a module whose own code keeps gradients out: a picture must not end a run
        return {"method": None, "layer": None, "why": str(error).splitlines()[0][:200]}


def _method(maps: Maps) -> dict[str, Any]:
    return {"method": maps.method, "layer": maps.layer, "size": list(maps.values.shape[1:])}


def _write(folder: Path, stem: str, picture: Tensor, sample: tuple[int, ...]) -> str:
    data, suffix = encoded(picture, sample)
    write_bytes(folder / f"{stem}{suffix}", data)
    return f"{stem}{suffix}"


def _like(sides: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a map has the picture's proportions, up to one row or column, and is not larger."""
    (h, w), (height, width) = sides, whole
    return h <= height and w <= width and abs(h * width - w * height) <= height + width
