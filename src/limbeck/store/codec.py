"""Outputs to records and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import ModelError, NumericsError
from limbeck.outputs import Outputs
from limbeck.store.layout import Layout

Records = NDArray[Any]
LARGEST = 65504.0  # in half precision


def encode(layout: Layout, outputs: Outputs, pixels: Tensor) -> Records:
    """Records of a batch.

    Args:
        layout: of a record.
        outputs: logits ``[B, C]`` or of an ensemble's members ``[M, B, C]``, and pooled features ``[B, D]``.
        pixels: int64 ``[B]``, checksums of the views.

    Raises:
        ModelError: if the outputs are not of this layout.
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
        _of_shape(logits, (layout.members, len(pixels), layout.classes), "logits")
        found["logits"] = _half(logits.transpose(0, 1), "logits")
    for number, (name, size) in enumerate(layout.features.items()):
        what = f"features of layer '{name}'"
        if name not in outputs.features:
            raise ModelError(f"the store keeps {what}, and the teacher gave none")
        _of_shape(outputs.features[name], (len(pixels), size), what)
        found[f"feature{number}"] = _half(outputs.features[name], what)
    return found


def decode(layout: Layout, records: Records) -> Outputs:
    """Outputs of records, float32 on the CPU.

    Args:
        layout: of a record.
        records: ``[B]``, of :attr:`Layout.dtype`.

    Returns:
        All logits ``[B, C]``, an ensemble's members, or the largest logits as :class:`limbeck.outputs.Top`; and the
        features ``[B, D]``.
    """
    features = {name: _full(records[f"feature{number}"]) for number, name in enumerate(layout.features)}
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
    """The largest logits in falling order, equal ones by rising id, and what the others weigh against the first."""
    if outputs.top is not None:
        raise ModelError(
            "the teacher's largest logits were kept before, and what the others are is not known",
            cure="build the store with the live teacher",
        )
    logits = outputs.logits_at(layout.temperatures[0]).detach().float().cpu()
    _of_shape(logits, (len(found), layout.classes), "logits")
    ids = logits.topk(layout.top, dim=1).indices.sort(dim=1).values
    largest, order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True)
    ids = ids.gather(1, order)
    found["ids"] = ids.numpy()
    found["logits"] = _half(largest, "logits")
    first = _full(found["logits"])[:, :1]  # as it is kept: what is read is relative to it
    others = (logits - first).scatter_(1, ids, float("-inf"))
    for place, one in enumerate(layout.temperatures):
        rest = torch.logsumexp(others / one, dim=1, keepdim=True)
        # one so small weighs nothing: e^-65504 is 0 in any precision
        found["rest"][:, place] = _half(rest.clamp(min=-LARGEST)[:, 0], f"logits at temperature {one:g}")


def _of_shape(values: Tensor, shape: Sequence[int], what: str) -> None:
    if tuple(values.shape) != tuple(shape):
        raise ModelError(
            f"the teacher's {what} have shape {tuple(values.shape)}, expected {tuple(shape)}",
            cure="a store keeps logits [B, C], of each member of an ensemble, and features as one vector a sample",
        )


def _half(values: Tensor, what: str) -> NDArray[np.float16]:
    """Values rounded to half precision, the nearest, ties to even."""
    values = values.detach().to("cpu")
    half = values.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        worst = float(values[~torch.isfinite(half)][0])
        raise NumericsError(
            f"the teacher's {what} can not be kept in half precision, whose largest is 65,504: found {worst:g}",
            cure="look at the teacher's last layer: logits of that size are no longer a distribution",
        )
    found: NDArray[np.float16] = half.numpy()
    return found


def _full(values: NDArray[Any]) -> Tensor:
    """Values of a field as float32, whatever the order of bytes in which this machine computes."""
    return torch.from_numpy(values.astype(np.float16)).float()
