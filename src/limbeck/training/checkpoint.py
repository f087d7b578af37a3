"""Checkpoints: the whole state of a training in one file, checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import FileError, ResumeError
from limbeck.files import read_tensors, write_tensors

FORMAT = "limbeck-checkpoint-1"


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> Path:
    """Write tensors and JSON progress as one safetensors file with a digest over both.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_checkpoint(Path(folder) / "c.safetensors", {"w": torch.ones(2)}, {"epoch": 3})
        ...     load_checkpoint(path)
        ({'w': tensor([1., 1.])}, {'epoch': 3})
    """
    text = json.dumps(progress, sort_keys=True)
    digest = _digest(tensors, text)
    return write_tensors(path, tensors, {"format": FORMAT, "progress": text, "sha256": digest})


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back.

    Raises:
        FileError: if a bit of it is not as written.
        ResumeError: if it is of another format.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ResumeError(f"{path} is not a checkpoint of this version of limbeck ({FORMAT})")
    text = metadata.get("progress", "")
    if _digest(tensors, text) != metadata.get("sha256"):
        raise FileError(f"{path} is damaged: its content does not have the sha256 it was written with")
    return tensors, json.loads(text)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state tensors by parameter number and name; plain settings are rebuilt, not kept."""
    return {
        f"{number}.{key}": value
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put state tensors back, in the memory format of their parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module's own, which keep their device and memory format."""
    module.load_state_dict(dict(tensors))


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix/``, without it.

    Example:
        >>> sorted(part({"model/w": torch.ones(1), "best/w": torch.ones(1)}, "best"))
        ['w']
    """
    start = f"{prefix}/"
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu").contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
