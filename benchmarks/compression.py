"""What cutting channels and int8 are worth in time: exported files in turns, on one thread, in ONNX Runtime.

The weights are random: what is cut or rounded decides the time, and not what it says. Each pair of files is measured in
turns, so that a ratio is of one run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import provenance
from torch import nn

from limbeck.compress.bench.measure import side_by_side
from limbeck.compress.export.onnx import export_onnx
from limbeck.compress.prune.choice import choose, rounding, search
from limbeck.compress.prune.groups import Graph
from limbeck.compress.quantize.int8 import static_int8
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.data.normalization import Normalization
from limbeck.data.preparation import Preparation
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models import build

MODELS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "cnn5, width 28": ("limbeck/cnn5", (3, 32, 32), {"width": 28}),
    "cnn5, width 52": ("limbeck/cnn5", (3, 32, 32), {"width": 52}),
    "resnet20": ("limbeck/resnet20", (3, 32, 32), {}),
    "resnet8x4": ("limbeck/resnet8x4", (3, 32, 32), {}),
    "vgg8": ("limbeck/vgg8", (3, 32, 32), {}),
    "unet, width 8": ("limbeck/unet", (3, 256, 256), {"width": 8}),
}
TARGET, SHARE, LARGE = 0.75, 0.5, 700_000  # latency of half the multiply-accumulates; parameters of a large net


def exported(module: nn.Module, path: Path, shape: tuple[int, ...], dense: bool) -> Path:
    windows, use = (Windows(0.25), Use(fit="windows")) if dense else (None, None)
    return export_onnx(
        module, path, preparation=Preparation(Normalization.none(shape[0])), shape=shape,
        classes=[str(number) for number in range(10)], name="net", use=use, windows=windows,
    )  # fmt: skip


def ratio(first: Path, second: Path, repeats: int) -> dict[str, float]:
    """Median times of two files in turns, at batch 1, and what the second takes of the first."""
    both = side_by_side([first, second], batches=(1,), repeats=repeats, memory=False)
    before, after = (one["latency"]["1"]["median_ms"] for one in both)
    return {"before_ms": before, "after_ms": after, "ratio": after / before}


def pruned(name: str, folder: Path, repeats: int, multiples: tuple[int, ...]) -> list[dict[str, Any]]:
    """Half the multiply-accumulates by each multiple of channels that are left."""
    architecture, shape, options = MODELS[name]
    module, dense = build(architecture, input_shape=shape, classes=10, options=options).eval(), "unet" in name
    graph, whole = Graph(module, torch.rand(2, shape[0], *((64, 64) if dense else shape[1:]))), macs(module, shape)
    groups, source = graph.groups(), exported(module, folder / "whole.onnx", shape, dense)
    found = []
    for multiple in multiples:

        def at(share: float, multiple: int = multiple) -> tuple[nn.Module, float]:
            made = graph.cut(choose(groups, share, round_to=multiple))
            return made, macs(made, shape) / whole

        cut = search(at, SHARE)
        timed = ratio(source, exported(cut, folder / "cut.onnx", shape, dense), repeats)
        own = {"model": name, "round_to": multiple, "default": multiple == rounding(groups)}
        found.append({**own, "macs": macs(cut, shape) / whole, **timed, "met": timed["ratio"] <= TARGET})
    return found


def quantized(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """The file in int8 against itself in float32."""
    architecture, shape, options = MODELS[name]
    module = build(architecture, input_shape=shape, classes=10, options=options).eval()
    source = exported(module, folder / "whole.onnx", shape, "unet" in name)
    inputs = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    small = static_int8(source, folder / "int8.onnx", [inputs])
    timed, count = ratio(source, small, repeats), parameters(module)
    asked = 2.5 if count >= LARGE else 1.5
    speedup = 1 / timed["ratio"]
    sizes = {"bytes": [source.stat().st_size, small.stat().st_size], "parameters": count}
    return {"model": name, **sizes, **timed, "speedup": speedup, "asked": asked, "met": speedup >= asked}


def vnni() -> bool | None:
    """Whether the processor has instructions for products of bytes; None where it does not say."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Time files with fewer channels, and with int8 numbers.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=60, help="timed calls of each file (60)")
    parser.add_argument("--quick", action="store_true", help="see that it runs: one small model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names, multiples = (["cnn5, width 28"], (8,)) if options.quick else (list(MODELS), (1, 4, 8))
    with tempfile.TemporaryDirectory() as folder:
        cut = [row for name in names for row in pruned(name, Path(folder), options.repeats, multiples)]
        int8 = [quantized(name, Path(folder), options.repeats) for name in names]
    result = {**provenance("compression"), "vnni": vnni(), "target": TARGET, "pruned": cut, "int8": int8}
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{result['environment']['processor']}, VNNI: {result['vnni']}, {result['date']}", ""]
    lines.append(f"{'model':<18}{'round to':>9}{'MACs':>7}{'before ms':>11}{'after ms':>10}{'ratio':>7}")
    for one in result["pruned"]:
        times = f"{one['before_ms']:>11.2f}{one['after_ms']:>10.2f}{one['ratio']:>7.2f}"
        lines.append(f"{one['model']:<18}{one['round_to']:>9}{one['macs']:>7.2f}{times}")
    lines += ["", f"{'int8':<18}{'float ms':>10}{'int8 ms':>10}{'speedup':>9}{'asked':>7}"]
    for one in result["int8"]:
        lines.append(
            f"{one['model']:<18}{one['before_ms']:>10.2f}{one['after_ms']:>10.2f}{one['speedup']:>9.2f}{one['asked']:>7}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
