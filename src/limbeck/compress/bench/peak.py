"""The peak of memory of one file, told by a process of its own: ``python -m limbeck.compress.bench.peak``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from limbeck.compress.bench.opened import RUNTIMES, open_file, random_inputs


def field(name: str) -> int:
    """Bytes that the kernel says of this process."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def main(path: str, batch: int, threads: int, shape: tuple[int, ...]) -> None:
    """Print the bytes that opening the file and running one batch took at most."""
    torch.set_num_threads(threads)
    if Path(path).suffix == ".onnx":
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401  (what is imported belongs to no file)
    torch.nn.Linear(1, 1)(torch.zeros(1, 1))
    np.zeros((batch, *shape), np.float32)
    before = field("VmRSS")
    opened = open_file(path, threads=threads, shape=shape)
    opened.run(random_inputs(opened, batch))
    print(max(field("VmHWM") - before, 0))


if __name__ == "__main__":
    if Path(sys.argv[1]).suffix not in RUNTIMES:
        raise SystemExit(2)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), tuple(json.loads(sys.argv[4])))
