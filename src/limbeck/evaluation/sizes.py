"""What a model weighs: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

import copy
import gzip
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.teachers import evaluating


def parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once; buffers are not counted.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one sample: half of torch's count of floating-point operations.

    Args:
        module: the model.
        shape: of one input.

    Example:
        >>> macs(nn.Conv2d(3, 8, 3, padding=1), (3, 4, 4))  # 16 places x 8 x 27
        3456
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(module):
        parameter = next(module.parameters(), torch.zeros(()))
        module(torch.zeros(1, *shape, device=parameter.device, dtype=torch.float32))
    return counter.get_total_flops() // 2


def file_bytes(path: str | Path) -> int:
    """Bytes of a file."""
    return Path(path).stat().st_size


def gzip_bytes(path: str | Path) -> int:
    """Bytes of a file after gzip at level 6: what a download weighs."""
    return len(gzip.compress(Path(path).read_bytes(), compresslevel=6, mtime=0))


def bare(module: nn.Module) -> nn.Module:
    """A copy of a module on the CPU in float32, contiguous and in eval mode: as it is measured and exported."""
    copied = copy.deepcopy(module).to("cpu", torch.float32, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied.eval().requires_grad_(False)
