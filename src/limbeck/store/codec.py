"""Outputs to records and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import NumericsError
from limbeck.outputs import Outputs
from limbeck.store.layout import Layout

Records = NDArray[Any]


def encode(layout: Layout, outputs: Outputs, pixels: Tensor) -> Records:
    """Records of a batch.

    Args:
        layout: of a record.
        outputs: logits ``[B, C]`` or of an ensemble's members ``[M, B, C]``, and pooled features ``[B, D]``.
        pixels: int64 ``[B]``, checksums of the views.

    Raises:
        NumericsError: if a number is not finite in half precision, whose largest is 65,504.

    Example:
        >>> layout = Layout(classes=2)
        >>> records = encode(layout, Outputs(torch.tensor([[1.0, 2.0]])), torch.tensor([7]))
        >>> decode(layout, records).logits
        tensor([[1., 2.]])
    """
    found = np.zeros(len(pixels), dtype=layout.dtype)
    found["pixels"] = pixels.numpy()
    if layout.top:
        _encode_top(layout, outputs, found)
    else:
        logits = outputs.logits[None] if outputs.members is None else outputs.members
        found["logits"] = _half(logits.transpose(0, 1), "logits")
    for number, name in enumerate(layout.features):
        found[f"feature{number}"] = _half(outputs.features[name], f"features of layer '{name}'")
    return found


def decode(layout: Layout, records: Records) -> Outputs:
    """Outputs of records, float32 on the CPU."""
    features: Mapping[str, Tensor] = {
        name: _full(records[f"feature{number}"]) for number, name in enumerate(layout.features)
    }
    logits = _full(records["logits"])
    if layout.top:
        rest = _full(records["rest"])
        ids = torch.from_numpy(records["ids"].astype(np.int64))
        weighed = {
            one: rest[:, place] + logits[:, 0] / one  # kept against the largest, where half precision is fine enough
            for place, one in enumerate(layout.temperatures)
        }
        return Outputs.kept(ids, logits, weighed, layout.classes, features)
    if layout.members == 1:
        return Outputs(logits[:, 0], features)
    both = Outputs.ensemble(logits.transpose(0, 1), torch.tensor(layout.weights))
    return Outputs(both.logits, features, both.members, both.weights)


def _encode_top(layout: Layout, outputs: Outputs, found: Records) -> None:
    logits = outputs.logits_at(layout.temperatures[0]).float().cpu()
    largest, ids = logits.topk(layout.top, dim=1)
    found["ids"] = ids.numpy()
    found["logits"] = _half(largest, "logits")
    kept = torch.from_numpy(found["logits"].astype(np.float32))[:, :1]
    others = logits.scatter(1, ids, float("-inf"))
    for place, one in enumerate(layout.temperatures):
        found["rest"][:, place] = _half((torch.logsumexp(others / one, dim=1, keepdim=True) - kept / one)[:, 0], "rest")


def _half(values: Tensor, what: str) -> NDArray[np.float16]:
    half = values.detach().float().cpu().to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise NumericsError(
            f"the teacher's {what} can not be kept in half precision: they are NaN, infinite or above 65,504",
            cure="look at the teacher's last layer: logits of that size are no longer a distribution",
        )
    found: NDArray[np.float16] = half.numpy()
    return found


def _full(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()
