"""What a loss of masks holds in memory: of the whole batch, and part by part as limbeck computes large maps.

Each case is a process of its own, whose peak of resident memory is read from the kernel (VmHWM): what the losses and
their backward pass take above student's and teacher's logits, labels and the program. Freed memory is kept by the
process, as in a training. The models' own activations are not in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from timing import provenance

from limbeck.objective import Objective, large
from limbeck.outputs import Outputs
from limbeck.training.memory import keep_freed

OBJECTIVES: dict[str, dict[str, Any]] = {
    "pixel_kl": {"pixel_kl": {"weight": 1.0, "temperature": 2.0}},
    "labels and teacher": {
        "supervised": 0.5, "dice": 0.3, "focal": 0.2, "pixel_kl": {"weight": 1.0, "temperature": 2.0},
    },
}  # fmt: skip
CASES = tuple((classes, size) for classes in (6, 150) for size in (256, 512))
PLAIN = {"pixel_kl": 8, "labels and teacher": 15}  # about so many times the logits, to know beforehand whether it fits
STATUS, MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")


def field(path: Path, name: str) -> int:
    """Bytes that the kernel says of itself, or of this process."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def one(objective: Objective, classes: int, size: int, batch: int) -> int:
    """Bytes at the peak of a step of the losses, above its inputs."""

    def step(student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor) -> None:
        total, _ = objective(Outputs(student), Outputs(teacher), target=target, mask=target >= 0)
        total.backward()

    def inputs(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        random = torch.Generator().manual_seed(0)
        logits = [torch.randn(batch, classes, side, side, generator=random) for _ in range(2)]
        return logits[0].requires_grad_(), logits[1], torch.randint(-1, classes, (batch, side, side), generator=random)

    keep_freed()
    step(*inputs(8))  # what is loaded at the first call is none of the losses'
    given = inputs(size)
    before = field(STATUS, "VmHWM")
    step(*given)
    return field(STATUS, "VmHWM") - before


def asked(name: str, classes: int, size: int, batch: int, *, plain: bool) -> int:
    """:func:`one` in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--classes", str(classes), "--size", str(size)]
    command += ["--batch", str(batch), *(["--plain"] if plain else [])]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def row(name: str, classes: int, size: int, batch: int) -> dict[str, Any]:
    """A case, in bytes, and in logits of the batch; what would not fit into memory is left out."""
    logits = 4 * batch * classes * size * size
    needed, there = (PLAIN[name] + 3) * logits, field(MEMORY, "MemAvailable")
    found: dict[str, Any] = {"objective": name, "classes": classes, "size": size, "batch": batch, "logits": logits}
    found["parts"] = asked(name, classes, size, batch, plain=False)
    found["plain"] = asked(name, classes, size, batch, plain=True) if needed < 0.7 * there else None
    found["ratio"] = found["parts"] / found["plain"] if found["plain"] else None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what losses of masks hold, whole and in parts.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--batch", type=int, default=8, help="images of a batch (8)")
    parser.add_argument("--quick", action="store_true", help="see that it runs: one case of 2 images of 256 x 256")
    parser.add_argument("--one", choices=OBJECTIVES, help=argparse.SUPPRESS)
    for name in ("--classes", "--size"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not STATUS.exists():
        sys.exit("the peak of a process's memory is read from /proc/self/status, which this system does not have")
    torch.set_num_threads(1)
    if options.one:
        if options.plain:
            large.LARGE = 2**62
        print(one(Objective.from_recipe(OBJECTIVES[options.one]), options.classes, options.size, options.batch))
        return
    cases = [("pixel_kl", 21, 256, 2)] if options.quick else [
        (name, *case, options.batch) for name in OBJECTIVES for case in CASES
    ]  # fmt: skip
    result = {**provenance("dense_memory"), "cases": [row(*case) for case in cases]}
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    where = result["environment"]
    lines = [
        f"{where['processor']}, torch {where['torch']}, {result['date']}: peak above student's and teacher's logits",
        "",
        f"{'objective':<20}{'batch':>20}{'logits MB':>11}{'whole MB':>10}{'parts MB':>10}{'ratio':>8}",
    ]
    for each in result["cases"]:
        batch = f"{each['batch']}x{each['classes']}x{each['size']}x{each['size']}"
        whole = "–" if each["plain"] is None else f"{each['plain'] / 1e6:.0f}"
        ratio = "–" if each["ratio"] is None else f"{each['ratio']:.2f}"
        lines.append(
            f"{each['objective']:<20}{batch:>20}{each['logits'] / 1e6:>11.0f}{whole:>10}{each['parts'] / 1e6:>10.0f}"
            f"{ratio:>8}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
