"""Devices, precision and memory format: torch's own, chosen by what the hardware really has."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.training.distributed import world
from limbeck.training.memory import keep_freed

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Where and how a model is computed.

    Args:
        device: torch device.
        name: ``fp32``, ``bf16`` or ``fp16``: the type that autocast computes in.
        channels_last: whether image tensors and convolution weights lie channels-last.
    """

    device: torch.device
    name: str
    channels_last: bool

    def autocast(self) -> AbstractContextManager[None]:
        """Context of the models' forward passes; the objective is computed outside it, in float32."""
        return torch.autocast(self.device.type, dtype=_TYPES.get(self.name), enabled=self.name != "fp32")

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and memory format, in place; on the CPU, have what its steps free kept."""
        if self.device.type == "cpu":
            keep_freed()
        if self.channels_last:
            return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module.to(self.device)

    def inputs(self, inputs: Tensor) -> Tensor:
        """Move inputs likewise; only images ``[B, C, H, W]`` have a memory format."""
        if self.channels_last and inputs.ndim == 4:
            return inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        return inputs.to(self.device, non_blocking=True)

    def seed(self, value: int) -> None:
        """Seed torch's generators of this device; ``torch.manual_seed`` seeds every kind of device, which takes longer.

        Example:
            >>> here = choose("cpu")
            >>> here.seed(7)
            >>> one = torch.rand(1)
            >>> here.seed(7)
            >>> bool(torch.rand(1) == one)
            True
        """
        torch.default_generator.manual_seed(value)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(value)
        elif self.device.type == "mps":
            torch.mps.manual_seed(value)

    def environment(self) -> dict[str, str]:
        """What the bits of a training depend on besides its settings; a checkpoint keeps it.

        Example:
            >>> sorted(choose("cpu", fast=False).environment())
            ['device', 'memory format', 'precision', 'processes', 'processor', 'threads', 'torch']
        """
        cuda = self.device.type == "cuda"
        return {
            "torch": str(torch.__version__),
            "processor": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()),
            "processes": str(world().size),
            "device": torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            "precision": self.name,
            "memory format": "channels last" if self.channels_last else "contiguous",
        }

    @property
    def needs_scaler(self) -> bool:
        """fp16 gradients underflow without loss scaling."""
        return self.name == "fp16"


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed by the hardware, not emulated.

    Example:
        >>> isinstance(has_bf16(torch.device("cpu")), bool)
        True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(probe is not None and probe() for probe in probes)
    return False


def find_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Of several processes on CUDA, each has the GPU of its own number on its machine.

    Raises:
        RecipeError: if this machine does not have it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        mps = available["mps"] and not world().several  # which torch.distributed does not know
        name = "cuda" if available["cuda"] else "mps" if mps else "cpu"
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        raise RecipeError(f"device '{name}' is not on this machine", cure="set device: auto")
    if world().several and name not in ("cpu", "cuda"):
        raise RecipeError(f"device '{name}' is not for several processes", cure="set device: auto")
    return torch.device(f"cuda:{world().local}" if world().several and kind == "cuda" else name)


def choose(device: str = "auto", precision: str = "auto", *, fast: bool = True) -> Precision:
    """Choose device, precision and memory format.

    Args:
        device: ``auto`` or a device's name.
        precision: ``auto``: bf16 where the hardware has it, fp16 with loss scaling on other CUDA devices, else fp32.
        fast: False turns channels-last and automatic precision off.

    Example:
        >>> choose("cpu", fast=False)
        Precision(device=device(type='cpu'), name='fp32', channels_last=False)
    """
    where = find_device(device)
    if precision == "auto":
        if not fast:
            precision = "fp32"
        elif has_bf16(where):
            precision = "bf16"
        else:
            precision = "fp16" if where.type == "cuda" else "fp32"
    if precision == "fp16" and where.type == "cpu":
        raise RecipeError("precision fp16 is not for the CPU", cure="set precision: auto")
    return Precision(where, precision, channels_last=fast)
