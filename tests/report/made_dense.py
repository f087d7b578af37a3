"""A run folder of a segmentation: what models say is planted, and counted and drawn as a run does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.scenes import IGNORED, Region, Scene, SceneSplit
from limbeck.evaluation.dense.pictures import write_pictures
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import Tally
from limbeck.evaluation.metrics import scalars
from limbeck.tasks.segmentation import score

CLASSES = ["land", "water", "road"]
DIVIDED = "divided by image: whole pictures are held out"
WRONG = {"teacher": 0.05, "control": 0.3, "student": 0.15}  # share of pixels that get another class
PARTS = {"train": 3, "validation": 12, "test": 6}


def blocks(side: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """A picture of 4×4-pixel blocks, uint8 ``[3, H, W]``, and its mask; the last row has no label."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(classes, (side // 4, side // 4), generator=generator).byte()
    mask = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)
    picture = torch.stack([mask * 60 + 20, 200 - mask * 50, mask * 10 + 90]).byte()
    mask[-1] = IGNORED
    return picture, mask


def reading(split: SceneSplit, wrong: float, seed: int) -> Reading:
    """What a model says that is wrong at a share of pixels, the next class being called instead."""
    said, classes = Reading([], Tally.empty(len(split.regions), len(split.classes))), len(split.classes)
    for number, region in enumerate(split.regions):
        _, mask = region.read()
        generator = torch.Generator().manual_seed(1000 * seed + number)
        other = torch.rand(mask.shape, generator=generator) < wrong * (1 + number % 3) / 2
        truth = torch.where(mask == IGNORED, 0, mask).long()
        guess = torch.where(other, (truth + 1) % classes, truth)
        sure = 0.6 + 0.3 * torch.rand(mask.shape, generator=generator)
        shares = ((1 - sure) / max(classes - 1, 1)).expand(classes, *mask.shape).clone()
        said.labels.append(said.tally.add(number, shares.scatter_(0, guess[None], sure[None]), mask))
    return said


def make_dense_run(
    folder: Path,
    *,
    roles: Sequence[str] = ("teacher", "control", "student"),
    classes: Sequence[str] = CLASSES,
    splits: dict[str, SceneSplit] | None = None,
    names: str = "tile/part_{:03d}",
    note: str = f"{DIVIDED}; train 3 pictures, 12 patches",
    colors: Sequence[tuple[int, int, int]] | None = None,
    seeds: int = 2,
    side: int = 32,
    exports: bool = True,
) -> Path:
    """A finished run with ``seeds`` trainings of control and student, of which seed 1 ships."""
    splits = splits or made_splits(classes, names, side)
    said = {
        role: [
            {name: reading(split, WRONG[role] * (1 + 0.1 * seed), 10 * at + seed) for name, split in splits.items()}
            for seed in range(1 if role == "teacher" else seeds)
        ]
        for at, role in enumerate(roles)
    }
    teacher = said["teacher"][0] if "teacher" in roles else None
    models = {}
    for role, runs in said.items():
        told = []
        for seed, one in enumerate(runs):
            scored = score(one, splits, classes, None if role == "teacher" else teacher)
            write(folder / f"evaluation/{role}-seed{seed}.json", {
                "role": role, "seed": seed, "selected": {"epoch": 2, **scored}, "last": {"epoch": 3, **scored},
            })  # fmt: skip
            plain = {name: scalars(each) for name, each in scored.items()}
            lines = [
                {"epoch": n, "train": {"loss": 1 / n}, "validation": {
                    "mean_iou": plain["validation"]["mean_iou"] - 0.1 / n, "pixel_accuracy": 0.9, "loss": 1 / n}}
                for n in (1, 2, 3)
            ]  # fmt: skip
            path = folder / f"models/{role}/seed{seed}/metrics.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            told.append({
                "seed": seed, "selected_epoch": 2, "last_epoch": 3, "metrics": {"selected": plain, "last": plain},
                "file": f"models/{role}/seed{seed}/selected.safetensors", "sha256": f"{seed}" * 64,
            })  # fmt: skip
        means = {
            name: {
                key: sum(one["metrics"]["selected"][name][key] for one in told) / len(told)
                for key in told[0]["metrics"]["selected"][name]
            }
            for name in splits
        }
        models[role] = {
            "model": "limbeck/unet", "parameters": 486_246, "macs": 3_400_000_000, "weights_bytes": 1_950_000,
            "gzip_bytes": 1_800_000, "latency_ms": 61.25, "metrics": means, "runs": told,
        }  # fmt: skip
    shipped = {role: runs[min(1, len(runs) - 1)] for role, runs in said.items()}
    kept = {name: splits[name] for name in ("validation", "test")}
    write_pictures(folder, kept, classes, shipped, seed=0, colors=colors)
    _write_summary(folder, splits, models, classes, note, exports=exports, shipped=min(1, seeds - 1))
    return folder


def made_splits(classes: Sequence[str], names: str = "tile/part_{:03d}", side: int = 32) -> dict[str, SceneSplit]:
    """Splits of planted scenes, 3, 12 and 6 pictures."""
    start, splits = 0, {}
    for name, count in PARTS.items():
        scenes = [
            Scene.of(names.format(number), *blocks(side, len(classes), number), len(classes))
            for number in range(start, start + count)
        ]
        start += count
        splits[name] = SceneSplit([Region.whole(scene) for scene in scenes], classes, name, patch=(16, 16))
    return splits


def _write_summary(
    folder: Path,
    splits: dict[str, SceneSplit],
    models: dict[str, Any],
    classes: Sequence[str],
    note: str,
    *,
    exports: bool,
    shipped: int,
) -> None:
    test = models["student"]["metrics"]["test"]
    export = {
        "path": "student.onnx", "format": "onnx", "sha256": "e" * 64, "bytes": 1_990_000, "max_abs_difference": 2.4e-7,
        "latency_ms": 40.5, "metrics": {"test": test},
    }  # fmt: skip
    paired = {"metric": "mean_iou", "split": "test", "mean": 0.05, "low": 0.02, "high": 0.08, "seeds": 2}
    write(folder / "summary.json", {
        "limbeck": "0.1.0", "recipe": {}, "models": models, "exports": [export][: int(exports)], "metric": "mean_iou",
        "data": {"name": "segmentation_folder", "classes": list(classes), "fingerprint": "f" * 64,
                 "splits": {name: len(split) for name, split in splits.items()}},
        "difference": paired if "control" in models else None, "environment": {"python": "3.11"}, "seconds": 12.0,
        "verdict": "The student beats its control.", "shipped_seed": shipped,
        "findings": [{"code": "data_split_made", "severity": "info", "message": note}],
    })  # fmt: skip
    write(folder / "run.json", {
        "name": "tiles", "created": "2026-11-20T12:00:00+00:00", "recipe": {"name": "tiles", "task": "segmentation"},
        "environment": {}, "command": "limbeck run tiles.yaml", "status": "done", "finished": None, "limbeck": "0.1.0",
    })  # fmt: skip


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
