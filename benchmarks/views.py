"""Views of a batch against torchvision's transforms, one picture at a time, on one core.

    small     128 pictures of 3 × 32 × 32, as in CIFAR
    large     64 pictures of 3 × 160 × 160

Both sides begin with floats in [0, 1] and end with a batch. torchvision's transforms draw their own numbers, so the
pictures differ; the kinds and the ranges are the same. The two take turns, and the ratio is that of the medians of the
processor's time, which other work on the machine disturbs less than the clock's.
limbeck's MixUp and CutMix fetch their partners from the split and make views of them too, torchvision's take another
sample of the batch: twice the pictures.

    python benchmarks/views.py [--json] [--rounds 15] [--size small]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from limbeck.data.batches import batches
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.pipeline.folder import environment

BILINEAR = InterpolationMode.BILINEAR
CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "shift and flip": (
        {"shift": 4, "flip": True},
        [v2.RandomCrop(0, padding=4), v2.RandomHorizontalFlip()],
    ),
    "affine": (
        {"rotate": 15, "scale": 0.1, "shear": 10},
        [v2.RandomAffine(15, scale=(0.9, 1.1), shear=10, interpolation=BILINEAR)],
    ),
    "resized crop": ({"resized_crop": (0.2, 1.0)}, [v2.RandomResizedCrop(1, scale=(0.2, 1.0))]),
    "color": (
        {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
        [v2.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    ),
    "randaugment": ({"randaugment": {"ops": 2, "magnitude": 9}}, [v2.RandAugment(2, 9, interpolation=BILINEAR)]),
    "erase": ({"erase": 0.5}, [v2.RandomErasing(0.5, scale=(0.02, 0.2), ratio=(1 / 3, 3))]),
    "crop, flip, randaugment, erase": (
        {"resized_crop": (0.2, 1.0), "flip": True, "randaugment": {}, "erase": 0.25},
        [
            v2.RandomResizedCrop(1, scale=(0.2, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(2, 9, interpolation=BILINEAR),
            v2.RandomErasing(0.25, scale=(0.02, 0.2), ratio=(1 / 3, 3)),
        ],
    ),
    "mixup": ({"mixup": 0.2}, [v2.MixUp(alpha=0.2, num_classes=10)]),
    "cutmix": ({"cutmix": 1.0}, [v2.CutMix(alpha=1.0, num_classes=10)]),
}
SIZES = {"small": (128, 32), "large": (64, 160)}


def limbeck(kinds: dict[str, Any], split: Split) -> Callable[[int], Any]:
    views = Views(**kinds)
    return lambda number: next(batches(split, batch_size=len(split), epoch=number, views=views))


def torchvision(transforms: list[Any], split: Split) -> Callable[[int], Any]:
    size = split.shape[1]
    for one in transforms:
        if isinstance(one, v2.RandomCrop):
            one.size = (size, size)
        if isinstance(one, v2.RandomResizedCrop):
            one.size, one.antialias = (size, size), False
    if isinstance(transforms[0], v2.MixUp | v2.CutMix):
        return lambda number: transforms[0](*split.fetch(torch.randperm(len(split))))
    chain = v2.Compose(transforms)

    def batch(number: int) -> Tensor:
        inputs, _ = split.fetch(torch.randperm(len(split)))
        return torch.stack([chain(one) for one in inputs])

    return batch


def seconds(make: Callable[[int], Any], number: int) -> float:
    began = time.process_time()
    make(number)
    return time.process_time() - began


def compared(kinds: dict[str, Any], transforms: list[Any], split: Split, rounds: int) -> dict[str, float]:
    sides = {"limbeck": limbeck(kinds, split), "torchvision": torchvision(transforms, split)}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, make in sides.items():
            found[name].append(seconds(make, number))
    medians = {name: 1000 * statistics.median(each[1:]) for name, each in found.items()}  # the first warms up
    return {
        **{f"{name}_ms": value for name, value in medians.items()},
        "ratio": medians["torchvision"] / medians["limbeck"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time views of a batch against torchvision's transforms.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=15, help="timed batches of each side (15)")
    parser.add_argument("--size", choices=[*SIZES], help="of the pictures (both)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size in [options.size] if options.size else SIZES:
        count, side = SIZES[size]
        inputs = torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0))
        split = Split(inputs.byte(), torch.arange(count) % 10, [str(one) for one in range(10)], "train")
        found[size] = {name: compared(*case, split, options.rounds) for name, case in CASES.items()}
    result = {
        "benchmark": "views",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {**environment(), "threads": 1},
        "sizes": {name: [count, 3, side, side] for name, (count, side) in SIZES.items()},
        "views": found,
    }
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people; a ratio above 1 is limbeck's gain."""
    where = result["environment"]
    lines = [f"{where['processor']}, 1 thread, torch {where['torch']}, {result['date']}"]
    for size, cases in result["views"].items():
        shape = " × ".join(map(str, result["sizes"][size]))
        lines += ["", f"{shape:<32}{'limbeck ms':>12}{'torchvision ms':>16}{'ratio':>8}"]
        for name, one in cases.items():
            lines.append(f"{name:<32}{one['limbeck_ms']:>12.1f}{one['torchvision_ms']:>16.1f}{one['ratio']:>8.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
