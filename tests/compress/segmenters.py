"""Segmenters as ONNX files of known weights, made operator by operator, and what they say by plain numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows

NAMES = ("land", "water", "roof")
COLORS = ((0, 128, 0), (0, 0, 255), (200, 60, 40))
WINDOW = (16, 24)


def kernel(channels: int = 3, classes: int = 3, seed: int = 0) -> Any:
    """Weights of a 3 × 3 convolution, ``[classes, channels, 3, 3]``."""
    return np.random.default_rng(seed).normal(size=(classes, channels, 3, 3)).astype(np.float32)


def resealed(model: onnx.ModelProto) -> bytes:
    """The bytes of a model with a checksum that is right, as someone who means harm would write it too."""
    entry = next(one for one in model.metadata_props if one.key == "limbeck.sha256")
    entry.value = "0" * 64
    entry.value = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    return model.SerializeToString(deterministic=True)


def segmenter(
    path: Path,
    weights: Any,
    *,
    names: Sequence[str] = NAMES,
    windows: Windows | None = None,
    padding: int = 1,
    end: str | None = None,
    free: bool = True,
    told: dict[str, str | None] | None = None,
) -> Path:
    """Write a 3 × 3 convolution as limbeck would write a segmenter.

    Args:
        path: of the file.
        weights: see :func:`kernel`.
        names: of the classes.
        windows: by default with an overlap of a quarter and :data:`COLORS`.
        padding: 1 keeps height and width; 0 takes a border off, whatever the file says.
        end: an operator over the classes after it.
        free: whether height and width are.
        told: metadata that are other than they should be; None: that are missing.
    """
    classes, channels = weights.shape[:2]
    sizes = ["height", "width"] if free else list(WINDOW)
    nodes = [helper.make_node("Conv", ["image", "weights"], ["scores"], pads=[padding] * 4)]
    last = "scores"
    if end:
        nodes.append(helper.make_node(end, [last], ["said"], axis=1))
        last = "said"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    given = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, *sizes])]
    gives = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes, *sizes])]
    graph = helper.make_graph(nodes, "dense", given, gives, [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata: dict[str, str | None] = {
        "limbeck": "0.1.0", "task": "segmentation", "model": "conv", "classes": json.dumps(list(names)),
        "shape": json.dumps([channels, *WINDOW]), **Use(fit="windows").metadata(),
        **(windows or Windows(0.25, 1 if free else None, COLORS)).metadata(), "limbeck.sha256": "0" * 64,
    } | (told or {})  # fmt: skip
    for key, value in metadata.items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    path.write_bytes(resealed(model))
    return path


def convolved(weights: Any, inputs: Any) -> Any:
    """What such a file says, in float64: logits ``[B, classes, H, W]`` of inputs ``[B, C, H, W]``."""
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("bchwyx,kcyx->bkhw", seen, weights.astype(np.float64))


def whole(weights: Any, picture: Any, overlap: float = 0.25) -> Any:
    """Probabilities ``[classes, H, W]`` of a picture of bytes ``[C, H, W]``, window by window, in float64.

    Written out again: a window every ``round((1 - overlap) · side)`` pixels, the last one at the edge; a pixel counts
    by the product over both sides of its distance to the nearer border of the window.
    """
    high, wide = picture.shape[1:]
    size = (max(high, WINDOW[0]), max(wide, WINDOW[1]))
    filled = np.zeros((len(picture), *size))
    filled[:, :high, :wide] = picture / 255
    total, weight = np.zeros((len(weights), *size)), np.zeros(size)
    distance = [np.minimum(np.arange(one) + 1, one - np.arange(one)) / ((one + 1) // 2) for one in WINDOW]
    for top in _starts(size[0], WINDOW[0], round(WINDOW[0] * (1 - overlap))):
        for left in _starts(size[1], WINDOW[1], round(WINDOW[1] * (1 - overlap))):
            part = np.s_[top : top + WINDOW[0], left : left + WINDOW[1]]
            powers = np.exp(convolved(weights, filled[None][..., part[0], part[1]])[0])
            counts = distance[0][:, None] * distance[1][None]
            total[:, part[0], part[1]] += counts * powers / powers.sum(axis=0)
            weight[part] += counts
    return (total / weight)[:, :high, :wide]


def _starts(side: int, window: int, step: int) -> list[int]:
    return sorted({min(at, side - window) for at in range(0, side - window + step, step)})
